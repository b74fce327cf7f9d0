insert into outbox (id, key, event_id, source, destination, replay_id, body_bytes, state, epoch, lease_until, node)
select id, key, event_id, source, destination, replay_id, body_bytes,
       case when node is null then 'pending' else 'leased' end,
       case when node is null then 0 else 1 end,
       now() + lease_seconds * interval '1 second',
       node
  from new_delivery
