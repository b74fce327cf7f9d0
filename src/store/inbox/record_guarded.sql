with k as (
    insert into event_key (key, event_id, body_digest, expires_at) values ($1, $2, $3, now() + $4 * interval '1 second')
    on conflict (key) do nothing
    returning event_id
), b as (
    insert into event_key (key, event_id, body_digest, expires_at)
    select $16, event_id, $3, now() + $4 * interval '1 second' from k
    on conflict (key) do update
       set event_id = excluded.event_id, body_digest = excluded.body_digest, expires_at = excluded.expires_at
     where event_key.expires_at <= now()
    returning event_id
), e as (
    insert into event (id, key, source, event_key, event_type, headers, body, body_digest, mark)
    select k.event_id, $1, $5, $6, $7, $8, $9, coalesce($18, $3), case when b.event_id is null then 'same-body' end
      from k left join b on true
     where not $17 or b.event_id is not null
    returning id, mark
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
select id as "id!", mark as "mark?" from e
