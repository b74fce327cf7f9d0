-- Several events with their deliveries, and the requests that they were split from, in one statement: see inbox.rs.
with k as (
    insert into event_key (key, event_id, body_digest, expires_at)
    select key, id, digest, now() + seconds * interval '1 second'
      from unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::float8[]) as u (key, id, digest, seconds)
    on conflict (key) do nothing
    returning event_id
), b as (
    insert into event_key (key, event_id, body_digest, expires_at)
    select u.body_key, u.id, u.digest, now() + u.seconds * interval '1 second'
      from unnest($5::uuid[], $2::uuid[], $3::bytea[], $4::float8[]) as u (body_key, id, digest, seconds)
      join k on k.event_id = u.id
     where u.body_key is not null
     order by u.body_key
    on conflict (key) do nothing
    returning event_id
), e as (
    insert into event (id, key, source, event_key, event_type, headers, body, body_digest, original_id)
    select u.id, u.key, u.source, u.event_key, u.event_type, u.headers, u.body, u.digest, u.original_id
      from unnest($2::uuid[], $1::uuid[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::text[], $10::bytea[], $3::bytea[], $20::uuid[])
           as u (id, key, body_key, source, event_key, event_type, headers, body, digest, original_id)
      join k on k.event_id = u.id
     where u.body_key is null or exists (select from b where b.event_id = u.id)
    returning id, original_id
), r as (
    insert into original (id, key, body, body_digest, items)
    select p.id, p.key, p.body, p.digest, p.items
      from unnest($21::uuid[], $22::uuid[], $23::bytea[], $24::bytea[], $25::int[]) as p (id, key, body, digest, items)
     where exists (select from e where e.original_id = p.id)
), o as (
    insert into outbox (id, key, event_id, source, destination, body_bytes, state, epoch, lease_until, node)
    select d.id, d.key, d.event_id, d.source, d.destination, d.body_bytes,
           case when d.leased then 'leased' else 'pending' end,
           case when d.leased then 1 else 0 end,
           case when d.leased then now() + $18 * interval '1 second' end,
           case when d.leased then $19::uuid end
      from unnest($11::uuid[], $12::uuid[], $13::uuid[], $14::text[], $15::text[], $16::int[], $17::bool[])
           as d (id, event_id, key, source, destination, body_bytes, leased)
      join e on e.id = d.event_id
)
select id as "id!" from e
