-- The events of a filter, counted by what decides where they go.
select e.source, e.event_type, coalesce(ended.destinations, '{}') as "ended_at!", count(*) as "events!"
-- begin replayable
from event e
left join lateral (
     select array_agg(distinct d.destination) as destinations
       from delivery_ended d
      where $5::text is not null and d.event_id = e.id and d.state = $5
        and ($5 <> 'dead' or not exists (
            select from delivery_ended o
             where o.event_id = d.event_id and o.destination = d.destination
               and o.state = 'delivered' and o.ended_at > d.ended_at))) as ended on true
where e.id > $1 and e.id < $2
  and ($3::text is null or e.source = $3)
  and ($4::text is null or e.event_type like $4)
  and ($6::uuid[] is null or e.id = any($6))
  and ($5::text is null or ended.destinations is not null)
-- end replayable
group by e.source, e.event_type, coalesce(ended.destinations, '{}')
