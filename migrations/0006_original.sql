-- Requests that were split into several events: the exact bytes are kept once, and each event of them says where.

create table original (
    id          uuid    not null,
    key         uuid    not null,
    body        bytea   not null,
    body_digest bytea   not null check (octet_length(body_digest) = 32),
    items       integer not null check (items > 0),
    primary key (id, key)
) partition by range (id);
comment on table original is 'The body of a request that was split, as it came. Written in the statement that records the first event of it; a request that brings nothing new leaves none. key: 16 bytes of SHA-256 over source and body.';
create table original_default partition of original default;

alter table event add column original_id uuid;

do $$
begin
    alter table original alter column body set compression lz4;
exception when feature_not_supported then
    raise notice 'this PostgreSQL has no lz4: bodies are compressed with its default';
end $$;
