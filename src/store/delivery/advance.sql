-- A page of a replay: its deliveries, due now, and the cursor, only where that stands at $2 and the replay has not ended.
with moved as (
    update replay
       set after = $3, deliveries = deliveries + cardinality($5::uuid[]), ended_at = case when $4 then now() end
     where id = $1 and after = $2 and ended_at is null
    returning id
), new_delivery as (
    select d.id, d.key, d.event_id, d.source, d.destination, moved.id as replay_id, d.body_bytes,
           null::uuid as node, null::float8 as lease_seconds
      from moved,
           unnest($5::uuid[], $6::uuid[], $7::uuid[], $8::text[], $9::text[], $10::int[])
               as d (id, key, event_id, source, destination, body_bytes)
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
select count(*) as "count!" from moved
