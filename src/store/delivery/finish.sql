with u as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::float8[], $6::int[], $7::uuid[],
                         $8::timestamptz[], $9::int[], $10::smallint[], $11::text[], $12::text[], $13::bytea[])
        as u (id, key, epoch, state, delay, number, attempt_id, started_at, latency_ms, status, error, detail, response)
), ended as (
    delete from outbox o using u
     where o.id = any($1) and o.id = u.id and o.key = u.key and o.epoch = u.epoch and o.state <> 'pending'
       and u.state in ('delivered', 'dead')
    returning o.*, u.state as final, u.number
), kept as (
    update outbox o
       set state = 'pending', lease_until = null, node = null, due_at = now() + u.delay * interval '1 second',
           attempts = case when u.state = 'retry' then u.number else o.attempts end
      from u
     where o.id = any($1) and o.id = u.id and o.key = u.key and o.epoch = u.epoch and o.state <> 'pending'
       and u.state in ('retry', 'release')
    returning o.id
), archived as (
    insert into delivery_ended (id, key, event_id, source, destination, replay_id, body_bytes, state, epoch, attempts, created_at)
    select id, key, event_id, source, destination, replay_id, body_bytes, final, epoch, number, created_at from ended
), done as (
    select id from ended union all select id from kept
), tried as (
    insert into attempt (id, key, delivery_id, number, epoch, started_at, latency_ms, outcome, status, error, detail, response)
    select u.attempt_id, u.key, u.id, u.number, u.epoch, u.started_at, u.latency_ms, u.state, u.status, u.error, u.detail, u.response
      from u join done on done.id = u.id
     where u.attempt_id is not null
)
select id as "id!" from done
