new_delivery as (
    select d.id, e.key, e.id as event_id, e.source, d.destination, null::uuid as replay_id, e.body_bytes,
           null::uuid as node, null::float8 as lease_seconds
      from unnest($12::uuid[], $13::uuid[], $14::text[]) as d (id, event_id, destination) join e on e.id = d.event_id
)
