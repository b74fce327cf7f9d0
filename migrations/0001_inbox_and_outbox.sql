-- The inbox (event_key, event, conflict), the outbox with what became of it, and replays.
--
-- `key` is the first 16 bytes of SHA-256 over source and event key: the distribution column of every hot table.
-- Ids are UUIDv7 made by hookonce; tables that age out are partitioned by id, which is by day, and lose whole days.
-- Each has a default partition, so that an id outside the prepared days is never refused.

create table event_key (
    key         uuid        primary key,
    event_id    uuid        not null,
    body_digest bytea       not null check (octet_length(body_digest) = 32),
    expires_at  timestamptz not null
);
comment on table event_key is 'What has been seen: one row per (source, event key), and one per (source, body) where the id is unsigned. Unique over all time kept, hence not partitioned.';
create index event_key_expires_at on event_key using brin (expires_at);

create table event (
    id          uuid        not null,
    key         uuid        not null,
    source      text        not null check (source <> ''),
    event_key   text        not null check (event_key <> ''),
    event_type  text,
    received_at timestamptz not null default now(),
    headers     text        not null,
    body        bytea       not null,
    body_digest bytea       not null check (octet_length(body_digest) = 32),
    primary key (id, key)
) partition by range (id);
comment on table event is 'A verified request seen for the first time; immutable. headers: a JSON array of [name, value] pairs, values as Latin-1.';
create table event_default partition of event default;

create table conflict (
    key         uuid        not null,
    body_digest bytea       not null check (octet_length(body_digest) = 32),
    id          uuid        not null,
    event_id    uuid        not null,
    kind        text        not null check (kind in ('other_body', 'same_body_new_id')),
    source      text        not null,
    event_key   text        not null,
    event_type  text,
    received_at timestamptz not null default now(),
    headers     text        not null,
    body        bytea       not null,
    primary key (key, body_digest)
);
comment on table conflict is 'A verified request that shares its key with an event of another body, or its body with an event of another unsigned id. Never relayed. event_id: the event that came first.';
create index conflict_id on conflict (id);

create table outbox (
    id          uuid        not null,
    key         uuid        not null,
    event_id    uuid        not null,
    source      text        not null,
    destination text        not null check (destination <> ''),
    replay_id   uuid,
    body_bytes  integer     not null check (body_bytes >= 0),
    state       text        not null check (state in ('pending', 'leased')),
    epoch       bigint      not null check (epoch >= 0),
    attempts    integer     not null default 0 check (attempts >= 0),
    due_at      timestamptz not null default now(),
    lease_until timestamptz,
    node        uuid,
    created_at  timestamptz not null default now(),
    primary key (id, key),
    check ((state = 'leased') = (lease_until is not null)),
    check ((state = 'leased') = (node is not null))
) with (
    fillfactor = 80,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.5,
    autovacuum_vacuum_cost_delay = 0
);
comment on table outbox is 'Open deliveries alone: a delivery that ended is moved to delivery_ended in the statement that ends it. epoch is the fence: every claim, release and rescue raises it.';
create index outbox_due on outbox (destination, due_at) where state = 'pending';
create index outbox_lease on outbox (lease_until) where state = 'leased';
create index outbox_event on outbox (event_id);
-- Destinations that a replay gave as a URL are no settings' own: they are found by what is due.
create index outbox_url on outbox (due_at) where state = 'pending' and destination like 'http%://%';

create table delivery_ended (
    id          uuid        not null,
    key         uuid        not null,
    event_id    uuid        not null,
    source      text        not null,
    destination text        not null,
    replay_id   uuid,
    body_bytes  integer     not null,
    state       text        not null check (state in ('delivered', 'dead', 'cancelled')),
    epoch       bigint      not null,
    attempts    integer     not null,
    created_at  timestamptz not null,
    ended_at    timestamptz not null default now(),
    primary key (id, key)
) partition by range (id);
create table delivery_ended_default partition of delivery_ended default;
create index delivery_ended_event on delivery_ended (event_id);

create table attempt (
    id          uuid        not null,
    key         uuid        not null,
    delivery_id uuid        not null,
    number      integer     not null check (number > 0),
    epoch       bigint      not null,
    started_at  timestamptz not null,
    latency_ms  integer     not null check (latency_ms >= 0),
    outcome     text        not null check (outcome in ('delivered', 'retry', 'dead')),
    status      smallint,
    error       text,
    detail      text,
    response    bytea,
    primary key (id, key),
    check ((outcome = 'delivered') = (error is null))
) partition by range (id);
comment on table attempt is 'One try of a delivery. error: a stable class, null where the handler took it; response: its first bytes.';
create table attempt_default partition of attempt default;
create index attempt_delivery on attempt (delivery_id);

create table destination_pause (
    destination text        primary key,
    paused_at   timestamptz not null default now()
);

create table replay (
    id          uuid        primary key,
    filter      jsonb       not null,
    created_at  timestamptz not null default now(),
    after       uuid        not null,
    before      uuid        not null,
    deliveries  bigint      not null default 0,
    ended_at    timestamptz
);
comment on table replay is 'One request to replay. after is its cursor, moved in the statement that makes the deliveries: an interrupted replay goes on where it stood.';

create view delivery as
    select o.id, o.key, o.event_id, o.source, o.destination, o.replay_id,
           case when o.state = 'pending' and p.destination is not null then 'paused' else o.state end as state,
           o.epoch, o.attempts, o.created_at, o.due_at, o.lease_until, null::timestamptz as ended_at
      from outbox o left join destination_pause p on p.destination = o.destination
    union all
    select id, key, event_id, source, destination, replay_id, state,
           epoch, attempts, created_at, null, null, ended_at
      from delivery_ended;

-- lz4 halves Postgres' time for a compressible body; a server built without it keeps its default.
do $$
begin
    alter table event alter column body set compression lz4;
    alter table conflict alter column body set compression lz4;
exception when feature_not_supported then
    raise notice 'this PostgreSQL has no lz4: bodies are compressed with its default';
end $$;
