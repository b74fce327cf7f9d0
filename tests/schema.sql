table attempt: id uuid not null
table attempt: key uuid not null
table attempt: delivery_id uuid not null
table attempt: number integer not null
table attempt: epoch bigint not null
table attempt: started_at timestamp with time zone not null
table attempt: latency_ms integer not null
table attempt: outcome text not null
table attempt: status smallint
table attempt: error text
table attempt: detail text
table attempt: response bytea
table conflict: key uuid not null
table conflict: body_digest bytea not null
table conflict: id uuid not null
table conflict: event_id uuid not null
table conflict: kind text not null
table conflict: source text not null
table conflict: event_key text not null
table conflict: event_type text
table conflict: received_at timestamp with time zone not null default now()
table conflict: headers text not null
table conflict: body bytea not null
table conflict: relayed_as uuid
table dedup_key: key uuid not null
table dedup_key: fence bigint not null
table dedup_key: claim_id text not null
table dedup_key: marked_at timestamp with time zone not null
table dedup_key: lease_until timestamp with time zone
table dedup_key: expires_at timestamp with time zone not null
table delivery_ended: id uuid not null
table delivery_ended: key uuid not null
table delivery_ended: event_id uuid not null
table delivery_ended: source text not null
table delivery_ended: destination text not null
table delivery_ended: replay_id uuid
table delivery_ended: body_bytes integer not null
table delivery_ended: state text not null
table delivery_ended: epoch bigint not null
table delivery_ended: attempts integer not null
table delivery_ended: created_at timestamp with time zone not null
table delivery_ended: ended_at timestamp with time zone not null default now()
table destination_pause: destination text not null
table destination_pause: paused_at timestamp with time zone not null default now()
table emitted: seq bigint not null
table emitted: key uuid not null
table emitted: source text not null
table emitted: event_key text not null
table emitted: event_type text
table emitted: body bytea not null
table emitted: body_digest bytea not null
table emitted: emitted_at timestamp with time zone not null default now()
table emitted: held_at timestamp with time zone
table event: id uuid not null
table event: key uuid not null
table event: source text not null
table event: event_key text not null
table event: event_type text
table event: received_at timestamp with time zone not null default now()
table event: headers text not null
table event: body bytea not null
table event: body_digest bytea not null
table event: original_id uuid
table event: mark text
table event_key: key uuid not null
table event_key: event_id uuid not null
table event_key: body_digest bytea not null
table event_key: expires_at timestamp with time zone not null
table hour_count: subject text not null
table hour_count: name text not null
table hour_count: word text not null
table hour_count: hour timestamp with time zone not null
table hour_count: minutes integer[] not null
table hour_count: total bigint not null
table keys_before: until timestamp with time zone not null
table learnt_secret: source text not null
table learnt_secret: secret text not null
table learnt_secret: learnt_at timestamp with time zone not null default now()
table original: id uuid not null
table original: key uuid not null
table original: body bytea not null
table original: body_digest bytea not null
table original: items integer not null
table outbox: id uuid not null
table outbox: key uuid not null
table outbox: event_id uuid not null
table outbox: source text not null
table outbox: destination text not null
table outbox: replay_id uuid
table outbox: body_bytes integer not null
table outbox: state text not null
table outbox: epoch bigint not null
table outbox: attempts integer not null default 0
table outbox: due_at timestamp with time zone not null default now()
table outbox: lease_until timestamp with time zone
table outbox: node uuid
table outbox: created_at timestamp with time zone not null default now()
table replay: id uuid not null
table replay: filter jsonb not null
table replay: created_at timestamp with time zone not null default now()
table replay: after uuid not null
table replay: before uuid not null
table replay: deliveries bigint not null default 0
table replay: ended_at timestamp with time zone
table sql_terms: is_only boolean not null default true
table sql_terms: keep_seconds double precision not null
table sql_terms: scope_tenants text[] not null
table sql_terms: scope_runs text[] not null
table sql_terms: scope_keeps double precision[] not null
table sql_terms: lease_max_seconds double precision not null
table sql_terms: window_max_seconds double precision not null
table sql_terms: result_bytes_max integer not null
table sql_terms: emit_bytes_max integer not null
table sql_terms: emit_max integer not null
table step: key uuid not null
table step: step text not null
table step: id uuid not null
table step: tenant text not null
table step: run text not null
table step: state text not null
table step: fence bigint not null
table step: attempt integer not null
table step: claim_id text not null
table step: owner text
table step: on_lost text not null
table step: input_hash text
table step: claimed_at timestamp with time zone not null
table step: lease_until timestamp with time zone
table step: ended_at timestamp with time zone
table step: result text
table step: end_digest bytea
table step: evidence text
table step: expires_at timestamp with time zone
table step: error text
table step: result_not_kept text
table step: about text
table step: listed text
table step_walk: name text not null
table step_walk: after uuid not null
table step_walk: begun_at timestamp with time zone not null default now()
table token: id uuid not null
table token: digest bytea not null
table token: scopes text[] not null
table token: tenant text
table token: created_at timestamp with time zone not null default now()
table token: revoked_at timestamp with time zone

constraint attempt_check on attempt: CHECK (((outcome = 'delivered'::text) = (error IS NULL)))
constraint attempt_latency_ms_check on attempt: CHECK ((latency_ms >= 0))
constraint attempt_number_check on attempt: CHECK ((number > 0))
constraint attempt_outcome_check on attempt: CHECK ((outcome = ANY (ARRAY['delivered'::text, 'retry'::text, 'dead'::text])))
constraint attempt_pkey on attempt: PRIMARY KEY (id, key)
constraint conflict_body_digest_check on conflict: CHECK ((octet_length(body_digest) = 32))
constraint conflict_kind_check on conflict: CHECK ((kind = ANY (ARRAY['other_body'::text, 'same_body_new_id'::text])))
constraint conflict_pkey on conflict: PRIMARY KEY (key, body_digest)
constraint dedup_key_fence_check on dedup_key: CHECK ((fence > 0))
constraint dedup_key_pkey on dedup_key: PRIMARY KEY (key)
constraint delivery_ended_pkey on delivery_ended: PRIMARY KEY (id, key)
constraint delivery_ended_state_check on delivery_ended: CHECK ((state = ANY (ARRAY['delivered'::text, 'dead'::text, 'cancelled'::text])))
constraint destination_pause_pkey on destination_pause: PRIMARY KEY (destination)
constraint emitted_body_digest_check on emitted: CHECK ((octet_length(body_digest) = 32))
constraint emitted_event_key_check on emitted: CHECK ((event_key <> ''::text))
constraint emitted_pkey on emitted: PRIMARY KEY (seq)
constraint emitted_source_check on emitted: CHECK ((source <> ''::text))
constraint event_body_digest_check on event: CHECK ((octet_length(body_digest) = 32))
constraint event_event_key_check on event: CHECK ((event_key <> ''::text))
constraint event_mark_check on event: CHECK ((mark = ANY (ARRAY['same-body'::text, 'other-body'::text]))) NOT VALID
constraint event_pkey on event: PRIMARY KEY (id, key)
constraint event_source_check on event: CHECK ((source <> ''::text))
constraint event_key_body_digest_check on event_key: CHECK ((octet_length(body_digest) = 32))
constraint event_key_pkey on event_key: PRIMARY KEY (key)
constraint hour_count_minutes_check on hour_count: CHECK ((cardinality(minutes) = 60))
constraint hour_count_name_check on hour_count: CHECK ((name <> ''::text))
constraint hour_count_pkey on hour_count: PRIMARY KEY (subject, hour, name, word)
constraint hour_count_subject_check on hour_count: CHECK ((subject = ANY (ARRAY['source'::text, 'destination'::text])))
constraint hour_count_word_check on hour_count: CHECK ((word <> ''::text))
constraint learnt_secret_pkey on learnt_secret: PRIMARY KEY (source)
constraint learnt_secret_secret_check on learnt_secret: CHECK ((secret <> ''::text))
constraint learnt_secret_source_check on learnt_secret: CHECK ((source <> ''::text))
constraint original_body_digest_check on original: CHECK ((octet_length(body_digest) = 32))
constraint original_items_check on original: CHECK ((items > 0))
constraint original_pkey on original: PRIMARY KEY (id, key)
constraint outbox_attempts_check on outbox: CHECK ((attempts >= 0))
constraint outbox_body_bytes_check on outbox: CHECK ((body_bytes >= 0))
constraint outbox_check on outbox: CHECK (((state = 'leased'::text) = (lease_until IS NOT NULL)))
constraint outbox_check1 on outbox: CHECK (((state = 'leased'::text) = (node IS NOT NULL)))
constraint outbox_destination_check on outbox: CHECK ((destination <> ''::text))
constraint outbox_epoch_check on outbox: CHECK ((epoch >= 0))
constraint outbox_pkey on outbox: PRIMARY KEY (id, key)
constraint outbox_state_check on outbox: CHECK ((state = ANY (ARRAY['pending'::text, 'leased'::text])))
constraint replay_pkey on replay: PRIMARY KEY (id)
constraint sql_terms_is_only_check on sql_terms: CHECK (is_only)
constraint sql_terms_pkey on sql_terms: PRIMARY KEY (is_only)
constraint step_attempt_check on step: CHECK ((attempt >= 0))
constraint step_check on step: CHECK (((state = 'running'::text) = (lease_until IS NOT NULL)))
constraint step_check1 on step: CHECK (((state = ANY (ARRAY['done'::text, 'failed'::text])) = (ended_at IS NOT NULL)))
constraint step_check2 on step: CHECK (((state = ANY (ARRAY['done'::text, 'failed'::text])) = (result IS NOT NULL)))
constraint step_check3 on step: CHECK (((state = ANY (ARRAY['running'::text, 'unknown'::text])) = (expires_at IS NULL)))
constraint step_end_digest_check on step: CHECK ((octet_length(end_digest) = 32))
constraint step_fence_check on step: CHECK ((fence > 0))
constraint step_listed_check on step: CHECK ((listed = ANY (ARRAY['running'::text, 'lost'::text, 'unknown'::text, 'released'::text, 'failed'::text]))) NOT VALID
constraint step_on_lost_check on step: CHECK ((on_lost = ANY (ARRAY['hold'::text, 'retry'::text])))
constraint step_pkey on step: PRIMARY KEY (key, step)
constraint step_run_check on step: CHECK ((run <> ''::text))
constraint step_state_check on step: CHECK ((state = ANY (ARRAY['running'::text, 'unknown'::text, 'released'::text, 'done'::text, 'failed'::text])))
constraint step_step_check on step: CHECK ((step <> ''::text))
constraint step_walk_name_check on step_walk: CHECK ((name = ANY (ARRAY['new'::text, 'late'::text, 'all'::text])))
constraint step_walk_pkey on step_walk: PRIMARY KEY (name)
constraint token_check on token: CHECK (((tenant IS NULL) OR (scopes = ARRAY['ledger'::text])))
constraint token_digest_check on token: CHECK ((octet_length(digest) = 32))
constraint token_digest_key on token: UNIQUE (digest)
constraint token_pkey on token: PRIMARY KEY (id)
constraint token_scopes_check on token: CHECK (((cardinality(scopes) > 0) AND (scopes <@ ARRAY['read'::text, 'operate'::text, 'admin'::text, 'ledger'::text])))
constraint token_tenant_check on token: CHECK ((tenant <> ''::text))

CREATE INDEX attempt_delivery ON ONLY public.attempt USING btree (delivery_id)
CREATE UNIQUE INDEX attempt_pkey ON ONLY public.attempt USING btree (id, key)
CREATE INDEX conflict_event ON public.conflict USING btree (event_id)
CREATE INDEX conflict_id ON public.conflict USING btree (id)
CREATE UNIQUE INDEX conflict_pkey ON public.conflict USING btree (key, body_digest)
CREATE INDEX dedup_key_expires_at ON public.dedup_key USING brin (expires_at)
CREATE UNIQUE INDEX dedup_key_pkey ON public.dedup_key USING btree (key)
CREATE INDEX delivery_ended_event ON ONLY public.delivery_ended USING btree (event_id)
CREATE UNIQUE INDEX delivery_ended_pkey ON ONLY public.delivery_ended USING btree (id, key)
CREATE UNIQUE INDEX destination_pause_pkey ON public.destination_pause USING btree (destination)
CREATE INDEX emitted_held ON public.emitted USING btree (source) WHERE (held_at IS NOT NULL)
CREATE INDEX emitted_open ON public.emitted USING btree (seq) WHERE (held_at IS NULL)
CREATE UNIQUE INDEX emitted_pkey ON public.emitted USING btree (seq)
CREATE UNIQUE INDEX event_pkey ON ONLY public.event USING btree (id, key)
CREATE INDEX event_key_expires_at ON public.event_key USING brin (expires_at)
CREATE UNIQUE INDEX event_key_pkey ON public.event_key USING btree (key)
CREATE UNIQUE INDEX hour_count_pkey ON public.hour_count USING btree (subject, hour, name, word)
CREATE UNIQUE INDEX learnt_secret_pkey ON public.learnt_secret USING btree (source)
CREATE UNIQUE INDEX original_pkey ON ONLY public.original USING btree (id, key)
CREATE INDEX outbox_due ON public.outbox USING btree (destination, due_at) WHERE (state = 'pending'::text)
CREATE INDEX outbox_event ON public.outbox USING btree (event_id)
CREATE INDEX outbox_lease ON public.outbox USING btree (lease_until) WHERE (state = 'leased'::text)
CREATE UNIQUE INDEX outbox_pkey ON public.outbox USING btree (id, key)
CREATE INDEX outbox_url ON public.outbox USING btree (due_at) WHERE ((state = 'pending'::text) AND (destination ~~ 'http%://%'::text))
CREATE UNIQUE INDEX replay_pkey ON public.replay USING btree (id)
CREATE UNIQUE INDEX sql_terms_pkey ON public.sql_terms USING btree (is_only)
CREATE INDEX step_id ON public.step USING btree (id)
CREATE INDEX step_listed ON public.step USING btree (listed, id) WHERE (listed IS NOT NULL)
CREATE INDEX step_of_run ON public.step USING btree (tenant COLLATE "C", run COLLATE "C", id)
CREATE UNIQUE INDEX step_pkey ON public.step USING btree (key, step)
CREATE UNIQUE INDEX step_walk_pkey ON public.step_walk USING btree (name)
CREATE UNIQUE INDEX token_digest_key ON public.token USING btree (digest)
CREATE UNIQUE INDEX token_pkey ON public.token USING btree (id)

view delivery:  SELECT o.id, o.key, o.event_id, o.source, o.destination, o.replay_id, CASE WHEN ((o.state = 'pending'::text) AND (p.destination IS NOT NULL)) THEN 'paused'::text ELSE o.state END AS state, o.epoch, o.attempts, o.created_at, o.due_at, o.lease_until, NULL::timestamp with time zone AS ended_at FROM (outbox o LEFT JOIN destination_pause p ON ((p.destination = o.destination))) UNION ALL SELECT delivery_ended.id, delivery_ended.key, delivery_ended.event_id, delivery_ended.source, delivery_ended.destination, delivery_ended.replay_id, delivery_ended.state, delivery_ended.epoch, delivery_ended.attempts, delivery_ended.created_at, NULL::timestamp with time zone AS due_at, NULL::timestamp with time zone AS lease_until, delivery_ended.ended_at FROM delivery_ended;

function claim(text,text,interval,text,text,text,text,text) returns record security definer, search_path=public, pg_temp, standard_conforming_strings=on
function complete(text,text,bigint,json,json,json,text) returns void security definer, search_path=public, pg_temp, standard_conforming_strings=on
function emit(text,text,text,json) returns text security definer, search_path=public, pg_temp, standard_conforming_strings=on
function handled(text,text,interval,text) returns boolean security definer, search_path=public, pg_temp, standard_conforming_strings=on
function hookonce_check_entry(json,bigint,integer) returns void
function hookonce_emit(text,text,text,text,text) returns void
function hookonce_keep(text,text) returns interval
function hookonce_key(text,bytea,text) returns uuid
function hookonce_name(text,text,integer,boolean) returns void
function hookonce_new_id() returns uuid
function hookonce_pair(text,text) returns bytea
function hookonce_part(text) returns text
function hookonce_sized(text) returns bytea
function hookonce_step_lock(uuid,text) returns bigint

