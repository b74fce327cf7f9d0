-- Functions for the transactions of applications whose tables are in this database: schema hookonce.
--
-- They lock what they change until the caller's transaction ends. So nothing of hookonce's own may wait for those rows: events are only laid
-- down in `emitted`, and who claims over HTTP asks for the step's advisory lock without waiting (src/store/ledger/claim.sql).

-- A role named hookonce has the schema of that name in its path from now on: what this and later migrations make stays with the other tables.
select set_config('search_path', (select relnamespace::regnamespace::text from pg_class where oid = 'event_key'::regclass), true);

create table emitted (
    seq         bigint      generated always as identity primary key,
    key         uuid        not null,
    source      text        not null check (source <> ''),
    event_key   text        not null check (event_key <> ''),
    event_type  text,
    body        bytea       not null,
    body_digest bytea       not null check (octet_length(body_digest) = 32),
    emitted_at  timestamptz not null default now(),
    held_at     timestamptz
) with (
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);
comment on table emitted is 'Events that a transaction emitted, until a node records them: then the row is gone. No key is unique here, so that no transaction waits for another. held_at: no node knew the source then.';
create index emitted_open on emitted (seq) where held_at is null;
create index emitted_held on emitted (source) where held_at is not null;

create table sql_terms (
    is_only           boolean   primary key default true check (is_only),
    keep_seconds      float8    not null,
    scope_tenants     text[]    not null,
    scope_runs        text[]    not null,
    scope_keeps       float8[]  not null,
    lease_max_seconds float8    not null,
    window_max_seconds float8   not null,
    result_bytes_max  integer   not null,
    emit_bytes_max    integer   not null,
    emit_max          integer   not null
);
comment on table sql_terms is 'What the functions have to know of the settings, written by the node that started or reloaded last. scope_…: ledger.scopes in their order; runs as patterns of LIKE.';
insert into sql_terms values (true, 2592000, '{}', '{}', '{}', 3600, 31536000, 1048576, 4194304, 32);

do $$
begin
    alter table emitted alter column body set compression lz4;
exception when feature_not_supported then
    raise notice 'this PostgreSQL has no lz4: bodies are compressed with its default';
end $$;

-- An id as src/ids.rs makes them: UUIDv7 (RFC 9562, section 5.7), of the database's time.
create function hookonce_new_id() returns uuid language sql volatile as $$
    select encode(set_bit(set_bit(
               overlay(uuid_send(gen_random_uuid())
                       placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6),
               52, 1), 53, 1), 'hex')::uuid
$$;

-- `domain_key` of src/event.rs: 16 bytes of SHA-256 over the three, with a NUL between.
create function hookonce_key(domain text, source bytea, value text) returns uuid language sql immutable as $$
    select encode(substring(sha256(convert_to(domain, 'UTF8') || '\x00' || source || '\x00' || convert_to(value, 'UTF8')) from 1 for 16), 'hex')::uuid
$$;

-- A place of two names, as the keys' `source` has it.
create function hookonce_pair(first text, second text) returns bytea language sql immutable as $$
    select convert_to(first, 'UTF8') || '\x00' || convert_to(second, 'UTF8')
$$;

-- One part of the text `digest_of` of src/event.rs hashes: its length goes before it.
create function hookonce_sized(part text) returns bytea language sql immutable as $$
    select int8send(octet_length(part)) || convert_to(part, 'UTF8')
$$;

-- The advisory lock of a step. src/store/ledger/claim.sql has the same.
create function hookonce_step_lock(key uuid, step text) returns bigint language sql immutable as $$
    select uuid_hash_extended(key, hashtextextended(step, 0))
$$;

-- `name` of src/http/ledger/place.rs; some may be left out.
create function hookonce_name(what text, name text, bytes_max integer default 255, or_none boolean default false)
returns void language plpgsql immutable as $$
begin
    if name is null and or_none then
        return;
    elsif name is null or name = '' or octet_length(name) > bytes_max or name ~ '[\u0001-\u001f\u007f-\u009f]' then
        raise exception using errcode = '22023', message = format('%s: 1 to %s bytes without control characters', what, bytes_max);
    end if;
end $$;

-- `event_key` of src/http/ledger/emit.rs: a part of a key.
create function hookonce_part(name text) returns text language sql immutable as $$
    select replace(replace(name, '%', '%25'), '/', '%2F')
$$;

create function hookonce_keep(tenant text, run text) returns interval language sql stable as $$
    select coalesce((select k.keep
                       from unnest(t.scope_tenants, t.scope_runs, t.scope_keeps) with ordinality as k (tenant, run, keep, place)
                      where (k.tenant is null or k.tenant = hookonce_keep.tenant) and (k.run is null or hookonce_keep.run like k.run)
                      order by k.place limit 1),
                    t.keep_seconds) * interval '1 second'
      from sql_terms t
$$;

-- An event to emit, as `event` of src/http/ledger/emit.rs takes it. index: its place among several.
create function hookonce_check_entry(entry json, index bigint, bytes_max integer) returns void language plpgsql immutable as $$
declare
    what text := 'emit' || coalesce('[' || index || ']', '');
    member record;
begin
    if json_typeof(entry) <> 'object' then
        raise exception using errcode = '22023', message = what || ': an object {"type", "key", "data", "source"}';
    end if;
    for member in select m.name, json_typeof(m.value) as kind from json_each(entry) as m (name, value) loop
        if member.name not in ('type', 'key', 'data', 'source') then
            raise exception using errcode = '22023', message = format('%s: there is no member %s', what, member.name);
        elsif member.name <> 'data' and member.kind not in ('string', 'null') then
            raise exception using errcode = '22023', message = format('%s.%s: text', what, member.name);
        end if;
    end loop;
    if entry -> 'data' is null then
        raise exception using errcode = '22023', message = what || ': data is missing';
    elsif octet_length((entry -> 'data')::text) > bytes_max then
        raise exception using errcode = '54000', message = format('%s.data has %s bytes, at most %s (ledger.call_max)', what,
            octet_length((entry -> 'data')::text), bytes_max);
    end if;
    perform hookonce_name(what || '.type', entry ->> 'type', or_none => true),
            hookonce_name(what || '.key', entry ->> 'key', 1024, or_none => true),
            hookonce_name(what || '.source', entry ->> 'source', or_none => true);
end $$;

create function hookonce_emit(tenant text, source text, event_type text, event_key text, body text) returns void
language plpgsql volatile as $$
#variable_conflict use_column
declare
    bytes bytea := convert_to(body, 'UTF8');
    whole text := case when tenant = '' then event_key else hookonce_part(tenant) || '/' || event_key end;
begin
    insert into emitted (key, source, event_key, event_type, body, body_digest)
    values (hookonce_key('key', case when hookonce_emit.tenant = '' then convert_to(hookonce_emit.source, 'UTF8')
                                     else hookonce_pair(hookonce_emit.source, hookonce_emit.tenant) end, whole),
            hookonce_emit.source, whole, hookonce_emit.event_type, bytes, sha256(bytes));
end $$;

revoke all on function hookonce_new_id(), hookonce_key(text, bytea, text), hookonce_pair(text, text), hookonce_sized(text),
    hookonce_step_lock(uuid, text), hookonce_name(text, text, integer, boolean), hookonce_part(text), hookonce_keep(text, text),
    hookonce_check_entry(json, bigint, integer), hookonce_emit(text, text, text, text, text) from public;

do $migration$
declare
    made regprocedure;
begin
    if to_regnamespace('hookonce') is null then
        begin
            create schema hookonce;
        exception when insufficient_privilege then
            raise exception 'the schema "hookonce" is missing and role % may not make it: create schema hookonce authorization %',
                current_user, quote_ident(current_user);
        end;
        comment on schema hookonce is 'hookonce''s functions for transactions of applications: docs/transactions.md';
    end if;
    if to_regprocedure('hookonce.emit(text, text, text, json)') is not null then
        raise notice 'the functions in schema hookonce are those of another hookonce in this database and stay so';
        return;
    end if;

    execute $function$
create function hookonce.claim(run text, step text, lease interval default '30 seconds', inout owner text default null,
                               on_lost text default 'hold', input_hash text default null, claim_id text default null,
                               tenant text default '',
                               out status text, out fence bigint, out attempt integer, out effect_key uuid, out result json,
                               out result_not_kept json, out lease_until timestamptz, out ended_at timestamptz)
language plpgsql volatile security definer as $body$
#variable_conflict use_column
declare
    place uuid := hookonce_key('run', convert_to(tenant, 'UTF8'), run);
    mine text := coalesce(claim_id, hookonce_new_id()::text);
    is_locked boolean := false;
    found_at timestamptz;
    held record;
begin
    perform hookonce_name('run', run), hookonce_name('step', step), hookonce_name('claim_id', mine);
    perform hookonce_name('owner', owner, or_none => true), hookonce_name('input_hash', input_hash, or_none => true);
    if tenant is null or tenant like 'gateway:%' then
        raise exception using errcode = '22023', message = 'tenant: that of a token, or empty';
    end if;
    if on_lost is null or on_lost not in ('hold', 'retry') then
        raise exception using errcode = '22023', message = 'on_lost: hold or retry';
    end if;
    if lease is null or extract(epoch from lease) <= 0 or extract(epoch from lease) > (select lease_max_seconds from sql_terms) then
        raise exception using errcode = '22023', message = 'lease: above zero and at most ledger.lease_max';
    end if;
    loop
        select s.* into held from step s where s.key = place and s.step = claim.step;
        if found and held.input_hash <> claim.input_hash then
            raise exception using errcode = 'OC003', message = format('step %L of run %L was claimed before with another input', step, run);
        end if;
        if found and held.state in ('done', 'failed') then
            status := held.state;
            fence := held.fence;
            attempt := held.attempt;
            effect_key := held.id;
            result := held.result::json;
            result_not_kept := held.result_not_kept::json;
            ended_at := held.ended_at;
            owner := held.owner;
            return;
        end if;
        -- Only what has ended is read without the lock: who finds another at it waits for that transaction's end, and looks again.
        if not is_locked then
            perform pg_advisory_xact_lock(hookonce_step_lock(place, step));
            is_locked := true;
            continue;
        end if;
        found_at := clock_timestamp();
        if held.key is null then
            insert into step as s (key, step, id, tenant, run, state, fence, attempt, claim_id, owner, on_lost, input_hash, claimed_at, lease_until)
            values (place, claim.step, hookonce_new_id(), claim.tenant, claim.run, 'running', 1, 1, mine, claim.owner, claim.on_lost,
                    claim.input_hash, found_at, found_at + claim.lease)
            on conflict (key, step) do nothing
            returning s.* into held;
            exit when found;
        elsif held.state = 'running' and held.lease_until >= found_at and held.claim_id = mine then
            if held.owner is distinct from claim.owner then
                raise exception using errcode = 'OC006',
                    message = format('claim_id %L of step %L of run %L is that of another owner', mine, step, run);
            end if;
            exit;
        elsif held.state = 'running' and held.lease_until >= found_at then
            raise exception using errcode = 'OC001',
                message = format('step %L of run %L is being executed by %s', step, run, coalesce(held.owner, 'another')),
                detail = json_build_object('fence', held.fence, 'owner', held.owner, 'lease_until', held.lease_until)::text,
                hint = 'Try again once it has ended, or its lease is over.';
        elsif held.state = 'unknown' or (held.state = 'running' and held.on_lost = 'hold') then
            raise exception using errcode = 'OC002',
                message = format('the outcome of step %L of run %L is not known: its holder was lost', step, run),
                detail = json_build_object('fence', held.fence, 'owner', held.owner, 'claimed_at', held.claimed_at, 'effect_key', held.id,
                                           'error', held.error::json)::text,
                hint = 'Find out, then resolve it: hookonce ledger resolve.';
        else
            update step s
               set state = 'running', fence = s.fence + 1, attempt = s.attempt + 1, claim_id = mine, owner = claim.owner,
                   on_lost = claim.on_lost, input_hash = coalesce(s.input_hash, claim.input_hash), claimed_at = found_at,
                   lease_until = found_at + claim.lease, listed = 'running', about = null, error = null, end_digest = null, expires_at = null
             where s.key = place and s.step = claim.step and s.fence = held.fence
               and (s.state = 'released' or (s.state = 'running' and s.on_lost = 'retry' and s.lease_until < found_at))
            returning s.* into held;
            exit when found;
        end if;
    end loop;
    status := 'granted';
    fence := held.fence;
    attempt := held.attempt;
    effect_key := held.id;
    lease_until := held.lease_until;
end $body$
    $function$;

    execute $function$
create function hookonce.complete(run text, step text, fence bigint, result json default 'null', emit json default '[]',
                                  error json default null, tenant text default '')
returns void language plpgsql volatile security definer as $body$
#variable_conflict use_column
declare
    place uuid := hookonce_key('run', convert_to(tenant, 'UTF8'), run);
    terms record;
    ended text := case when error is null then 'done' else 'failed' end;
    value text := btrim(coalesce(error::text, result::text, 'null'), E' \t\n\r');
    digest bytea;
    event record;
    held record;
begin
    perform hookonce_name('run', run), hookonce_name('step', step);
    if error is not null and result::text <> 'null' then
        raise exception using errcode = '22023', message = 'a step has a result or an error, not both';
    end if;
    if json_typeof(coalesce(emit, 'null')) <> 'array' then
        raise exception using errcode = '22023', message = 'emit: a JSON array of {"type", "key", "data", "source"}';
    end if;
    select t.* into terms from sql_terms t;
    if octet_length(value) > terms.result_bytes_max then
        raise exception using errcode = '54000', message = format('the %s has %s bytes, at most %s (ledger.result_max)',
            case ended when 'done' then 'result' else 'error' end, octet_length(value), terms.result_bytes_max);
    end if;
    if json_array_length(emit) > terms.emit_max then
        raise exception using errcode = '54000',
            message = format('emit: %s events, at most %s (ledger.emit_max)', json_array_length(emit), terms.emit_max);
    end if;
    digest := sha256(hookonce_sized(ended) || hookonce_sized(value));
    perform pg_advisory_xact_lock(hookonce_step_lock(place, step));
    for event in select e.entry, e.number - 1 as index from json_array_elements(emit) with ordinality as e (entry, number) order by e.number loop
        perform hookonce_check_entry(event.entry, event.index, terms.emit_bytes_max);
        perform hookonce_emit(tenant, coalesce(event.entry ->> 'source', 'ledger'), event.entry ->> 'type',
                              coalesce(event.entry ->> 'key', hookonce_part(run) || '/' || hookonce_part(step) || '/' || event.index),
                              (event.entry -> 'data')::text);
        digest := sha256(hookonce_sized(encode(digest, 'hex')) || hookonce_sized(coalesce('+' || (event.entry ->> 'source'), '-'))
                         || hookonce_sized(coalesce('+' || (event.entry ->> 'type'), '-'))
                         || hookonce_sized(coalesce('+' || (event.entry ->> 'key'), '-')) || hookonce_sized((event.entry -> 'data')::text));
    end loop;
    update step s
       set state = ended, result = value, end_digest = digest, ended_at = clock_timestamp(),
           expires_at = clock_timestamp() + hookonce_keep(complete.tenant, complete.run), lease_until = null,
           listed = case when ended = 'failed' then 'failed' end
     where s.key = place and s.step = complete.step and s.fence = complete.fence and s.state = 'running';
    if found then
        return;
    end if;
    select s.state, s.fence, s.ended_at into held from step s where s.key = place and s.step = complete.step;
    if not found then
        raise exception using errcode = 'OC005', message = format('run %L has no step %L', run, step);
    elsif held.state in ('done', 'failed') then
        -- Also a repeat of this very call: what this transaction did would be done a second time.
        raise exception using errcode = 'OC007', message = format('step %L of run %L has ended before: it is %s', step, run, held.state),
            detail = json_build_object('fence', held.fence, 'state', held.state, 'ended_at', held.ended_at)::text,
            hint = 'Roll back, claim it again and take its result.';
    end if;
    raise exception using errcode = 'OC004',
        message = format('fence %s of step %L of run %L is not in force: it is %s, under fence %s', fence, step, run, held.state, held.fence),
        detail = json_build_object('fence', held.fence, 'state', held.state)::text,
        hint = 'Roll back: the step is no longer yours.';
end $body$
    $function$;

    execute $function$
create function hookonce.handled(event_id text, consumer text, keep interval default '30 days', tenant text default '')
returns boolean language plpgsql volatile security definer as $body$
#variable_conflict use_column
declare
    place uuid := hookonce_key('handled', hookonce_pair(tenant, consumer), event_id);
begin
    perform hookonce_name('event_id', event_id, 4096), hookonce_name('consumer', consumer);
    if keep is null or extract(epoch from keep) <= 0 or extract(epoch from keep) > (select window_max_seconds from sql_terms) then
        raise exception using errcode = '22023', message = 'keep: above zero and at most ledger.window_max';
    end if;
    insert into dedup_key (key, fence, claim_id, marked_at, expires_at)
    values (place, 1, 'handled', clock_timestamp(), clock_timestamp() + handled.keep)
    on conflict (key) do nothing;
    if found then
        return true;
    end if;
    -- An upsert would lock a row that is there, and who asks for an event that was handled would wait for others who ask.
    update dedup_key d set fence = d.fence + 1, marked_at = clock_timestamp(), expires_at = clock_timestamp() + handled.keep
     where d.key = place and d.expires_at <= clock_timestamp();
    return found;
end $body$
    $function$;

    execute $function$
create function hookonce.emit(source text, type text, key text, body json)
returns text language plpgsql volatile security definer as $body$
#variable_conflict use_column
declare
    event_key text := coalesce(key, hookonce_new_id()::text);
begin
    if body is null then
        raise exception using errcode = '22023', message = 'body: JSON';
    end if;
    perform hookonce_check_entry(json_build_object('source', source, 'type', type, 'key', event_key, 'data', body), null,
                                 (select emit_bytes_max from sql_terms));
    perform hookonce_emit('', coalesce(source, 'ledger'), type, event_key, btrim(body::text, E' \t\n\r'));
    return event_key;
end $body$
    $function$;

    for made in select p.oid::regprocedure from pg_proc p
                 where p.pronamespace = 'hookonce'::regnamespace and p.proname in ('claim', 'complete', 'handled', 'emit') loop
        execute format('alter function %s set search_path = %I, pg_temp', made, current_schema());
        execute format('alter function %s set standard_conforming_strings = on', made);
        execute format('revoke all on function %s from public', made);
    end loop;
end $migration$;
