-- Open deliveries and ended ones, newest first. Each arm has its own limit, so that neither a long backlog nor a long
-- history is read whole for one page.
select id as "id!", event_id as "event!", source as "source!", destination as "destination!", state as "state!: DeliveryState",
       attempts as "attempts!", replay_id as "replay?", created_at as "created_at!", due_at as "due_at?", ended_at as "ended_at?"
  from ((select o.id, o.event_id, o.source, o.destination, o.replay_id, o.attempts, o.created_at, o.due_at,
                null::timestamptz as ended_at,
                case when o.state = 'pending' and p.destination is not null then 'paused' else o.state end as state
           from outbox o left join destination_pause p on p.destination = o.destination
          where ($1::text is null
                 or $1 = case when o.state = 'pending' and p.destination is not null then 'paused' else o.state end)
            and ($2::text is null or o.destination = $2)
            and ($3::text is null or o.source = $3)
            and ($4::uuid is null or o.event_id = $4)
            and ($5::uuid is null or o.id < $5)
          order by o.id desc limit $6)
        union all
        (select e.id, e.event_id, e.source, e.destination, e.replay_id, e.attempts, e.created_at, null, e.ended_at, e.state
           from delivery_ended e
          where ($1::text is null or e.state = $1)
            and ($2::text is null or e.destination = $2)
            and ($3::text is null or e.source = $3)
            and ($4::uuid is null or e.event_id = $4)
            and ($5::uuid is null or e.id < $5)
          order by e.id desc limit $6)) d
 order by id desc
 limit $6
