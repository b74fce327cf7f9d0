-- The same where the body has a key as well: what only those events need costs the others nothing.
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
), new_event as (
    select k.event_id as id, $1::uuid as key, $5::text as source, $6::text as event_key, $7::text as event_type,
           $8::text as headers, $9::bytea as body, coalesce($18, $3)::bytea as body_digest,
           null::uuid as original_id, case when b.event_id is null then 'same-body' end as mark
      from k left join b on true
     where not $17 or b.event_id is not null
), e as (
    -- begin event
    insert into event (id, key, source, event_key, event_type, headers, body, body_digest, original_id, mark)
    select id, key, source, event_key, event_type, headers, body, body_digest, original_id, mark
      from new_event
    returning id, key, source, mark, original_id, octet_length(body) as body_bytes
    -- end event
), new_delivery as (
    select $10::uuid as id, key, id as event_id, source, $11::text as destination, null::uuid as replay_id,
           $12::int as body_bytes,
           case when $13 then $15::uuid end as node,
           case when $13 then $14::float8 end as lease_seconds
      from e
     where $10::uuid is not null
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
