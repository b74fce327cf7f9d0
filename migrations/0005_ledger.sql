-- The step ledger, the keys that consumers have seen, and the tokens of the API.

create table step (
    key         uuid        not null,
    step        text        not null check (step <> ''),
    id          uuid        not null,
    tenant      text        not null,
    run         text        not null check (run <> ''),
    state       text        not null check (state in ('running', 'unknown', 'released', 'done', 'failed')),
    fence       bigint      not null check (fence > 0),
    attempt     integer     not null check (attempt >= 0),
    claim_id    text        not null,
    owner       text,
    on_lost     text        not null check (on_lost in ('hold', 'retry')),
    input_hash  text,
    claimed_at  timestamptz not null,
    lease_until timestamptz,
    ended_at    timestamptz,
    result      text,
    end_digest  bytea       check (octet_length(end_digest) = 32),
    evidence    text,
    expires_at  timestamptz,
    primary key (key, step),
    check ((state = 'running') = (lease_until is not null)),
    check ((state in ('done', 'failed')) = (ended_at is not null)),
    check ((state in ('done', 'failed')) = (result is not null)),
    check ((state in ('running', 'unknown')) = (expires_at is null))
) with (fillfactor = 80);
comment on table step is 'One row per (tenant, run, step). key: 16 bytes of SHA-256 over tenant and run, so that a run lies together. id: the effect key, the same over all attempts. fence only grows. result, evidence: JSON as it was sent. end_digest: of the call that set the state, to know its repeat. What runs or is unknown never expires.';
-- For lists and for pruning: ids grow with time and never change, so that no update of a step touches an index.
create index step_id on step (id);

create table dedup_key (
    key         uuid        primary key,
    fence       bigint      not null check (fence > 0),
    claim_id    text        not null,
    marked_at   timestamptz not null,
    lease_until timestamptz,
    expires_at  timestamptz not null
);
comment on table dedup_key is 'What consumers have seen: one row per (tenant, scope, key), which key is the hash of. lease_until: set while it is being handled under a lease, null once it is done or where it was marked without one.';
create index dedup_key_expires_at on dedup_key using brin (expires_at);

create table token (
    id         uuid        primary key,
    digest     bytea       not null unique check (octet_length(digest) = 32),
    scopes     text[]      not null check (cardinality(scopes) > 0 and scopes <@ array['read', 'operate', 'admin', 'ledger']),
    tenant     text        check (tenant <> ''),
    created_at timestamptz not null default now(),
    revoked_at timestamptz,
    check (tenant is null or scopes = array['ledger'])
);
comment on table token is 'Bearer tokens by their SHA-256 digest; the tokens themselves are nowhere. A tenant''s token is for the ledger alone: nothing else is kept by tenant.';

do $$
begin
    alter table step alter column result set compression lz4;
exception when feature_not_supported then
    raise notice 'this PostgreSQL has no lz4: results are compressed with its default';
end $$;
