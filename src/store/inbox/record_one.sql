with k as (
    insert into event_key (key, event_id, body_digest, expires_at) values ($1, $2, $3, now() + $4 * interval '1 second')
    on conflict (key) do nothing
    returning event_id
), e as (
    insert into event (id, key, source, event_key, event_type, headers, body, body_digest)
    select event_id, $1, $5, $6, $7, $8, $9, coalesce($16, $3) from k
    returning id
), o as (
    insert into outbox (id, key, event_id, source, destination, body_bytes, state, epoch, lease_until, node)
    select $10, $1, id, $5, $11, $12,
           case when $13 then 'leased' else 'pending' end,
           case when $13 then 1 else 0 end,
           case when $13 then now() + $14 * interval '1 second' end,
           case when $13 then $15::uuid end
      from e
     where $10::uuid is not null
)
select id as "id!" from e
