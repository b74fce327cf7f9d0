with c as (
    update outbox o
       set state = 'leased', epoch = o.epoch + 1, lease_until = now() + $4 * interval '1 second', node = $5
     where o.id = any($1) and o.state <> 'leased'
       -- Not a join: that would be a nested loop where the statistics say that nothing is pending.
       and ((o.id, o.key, o.epoch) in (select * from unnest($1::uuid[], $2::uuid[], $3::bigint[]))) is true
    returning o.*
)
select c.id as "id!", c.key as "key!", c.epoch as "epoch!", c.attempts as "attempts!", c.replay_id as "replay_id?",
       c.destination as "destination!", c.event_id as "event_id!", c.source as "source!",
       extract(epoch from now() - c.created_at)::float8 as "age_seconds!",
       e.event_key as "event_key?", e.event_type as "event_type?", e.headers as "headers?", e.body as "body?", e.mark as "mark?"
  from c left join event e on e.id = c.event_id and e.key = c.key
