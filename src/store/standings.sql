with open as (
    select destination, min(created_at) as oldest_open_at,
           min(created_at) filter (where attempts > 0) as failing_since,
           min(due_at) filter (where attempts > 0 and state = 'pending') as next_retry_at
      from outbox group by destination
)
select o.destination as "destination!", o.oldest_open_at, o.failing_since, o.next_retry_at, a.error, a.status
  from open o
  left join lateral (select id from outbox
                      where destination = o.destination and state = 'pending' and due_at = o.next_retry_at and attempts > 0
                      limit 1) as next on true
  left join lateral (select error, status from attempt where delivery_id = next.id order by id desc limit 1) as a on true
