-- Several events with their deliveries, and the requests that they were split from, in one statement: see record.rs. What only some events have
-- comes in arrays of its own, or as nulls beyond an array's end: an empty one costs nothing.
with k as (
    insert into event_key (key, event_id, body_digest, expires_at)
    select key, id, digest, now() + seconds * interval '1 second'
      from unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::float8[]) as u (key, id, digest, seconds)
    on conflict (key) do nothing
    returning event_id
), w as (
    select u.body_key, u.id, u.digest, u.seconds, u.held
      from unnest($5::uuid[], $6::uuid[], $7::bytea[], $8::float8[], $29::bool[]) as u (body_key, id, digest, seconds, held)
     where u.id in (select event_id from k)
), b as (
    insert into event_key (key, event_id, body_digest, expires_at)
    -- Of those that came together with one body the first has it, the others come after it.
    select distinct on (body_key) body_key, id, digest, now() + seconds * interval '1 second' from w order by body_key, id
    on conflict (key) do update
       set event_id = excluded.event_id, body_digest = excluded.body_digest, expires_at = excluded.expires_at
     where event_key.expires_at <= now()
    returning event_id
), s as (
    -- The same body came before, under another key.
    select id, held from w where id not in (select event_id from b)
), new_event as (
    select u.id, u.key, u.source, u.event_key, u.event_type, u.headers, u.body, coalesce(u.exact, u.digest) as body_digest,
           u.original_id, case when u.id in (select id from s) then 'same-body' else u.mark end as mark
      from unnest($2::uuid[], $1::uuid[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bytea[], $3::bytea[],
                  $14::uuid[], $30::text[], $31::bytea[])
           as u (id, key, source, event_key, event_type, headers, body, digest, original_id, mark, exact)
     where u.id in (select event_id from k)
       and u.id not in (select id from s where held)
), e as (
    -- begin event
    insert into event (id, key, source, event_key, event_type, headers, body, body_digest, original_id, mark)
    select id, key, source, event_key, event_type, headers, body, body_digest, original_id, mark
      from new_event
    returning id, key, source, mark, original_id, octet_length(body) as body_bytes
    -- end event
), r as (
    insert into original (id, key, body, body_digest, items)
    select p.id, p.key, p.body, p.digest, p.items
      from unnest($15::uuid[], $16::uuid[], $17::bytea[], $18::bytea[], $19::int[]) as p (id, key, body, digest, items)
     where p.id in (select original_id from e)
), new_delivery as (
    select d.id, d.key, d.event_id, d.source, d.destination, null::uuid as replay_id, d.body_bytes,
           case when d.leased then $28::uuid end as node,
           case when d.leased then $27::float8 end as lease_seconds
      from unnest($20::uuid[], $21::uuid[], $22::uuid[], $23::text[], $24::text[], $25::int[], $26::bool[])
           as d (id, event_id, key, source, destination, body_bytes, leased)
     where d.event_id in (select id from e)
), o as (
    -- begin born
    insert into outbox (id, key, event_id, source, destination, replay_id, body_bytes, state, epoch, lease_until, node)
    select id, key, event_id, source, destination, replay_id, body_bytes,
           case when node is null then 'pending' else 'leased' end,
           case when node is null then 0 else 1 end,
           now() + lease_seconds * interval '1 second',
           node
      from new_delivery
    -- end born
)
select id as "id!", mark as "mark?" from e
