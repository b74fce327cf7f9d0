-- A conflict becomes an event of its own, with a delivery for each destination; nothing where it is one already.
with c as (
    update conflict set relayed_as = $2 where id = $1 and relayed_as is null
    returning source, event_key, event_type, headers
), new_event as (
    select $2::uuid as id, $3::uuid as key, source, event_key, event_type, headers, $4::bytea as body,
           $5::bytea as body_digest, null::uuid as original_id, $6::text as mark
      from c
), e as (
    -- begin event
    insert into event (id, key, source, event_key, event_type, headers, body, body_digest, original_id, mark)
    select id, key, source, event_key, event_type, headers, body, body_digest, original_id, mark
      from new_event
    returning id, key, source, mark, original_id, octet_length(body) as body_bytes
    -- end event
), new_delivery as (
    select d.id, e.key, e.id as event_id, e.source, d.destination, null::uuid as replay_id, e.body_bytes,
           null::uuid as node, null::float8 as lease_seconds
      from e cross join unnest($7::uuid[], $8::text[]) as d (id, destination)
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
select id as "id!" from e
