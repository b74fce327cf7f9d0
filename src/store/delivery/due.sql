select o.id, o.key, o.epoch, o.body_bytes
  from unnest($1::text[], $2::bigint[]) as d (destination, wanted)
 cross join lateral (
       select id, key, epoch, body_bytes from outbox
        where destination = d.destination and state = 'pending' and due_at <= now()
        order by due_at
        limit d.wanted) as o
 where not exists (select from destination_pause p where p.destination = d.destination)
