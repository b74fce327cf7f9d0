-- Steps whose holder was lost become unknown, each with the event that says so. A row that is locked is being changed: it is left for the next time.
with u (key, step, fence) as (
    select * from unnest($15::uuid[], $16::text[], $17::bigint[])
), lost as materialized (
    select s.key, s.step
      from u join step s on s.key = u.key and s.step = u.step and s.fence = u.fence
     where s.state = 'unknown' and s.listed = 'lost'
        or s.state = 'running' and s.on_lost = 'hold' and s.lease_until < now()
     order by s.key, s.step
       for update of s skip locked
), ended as (
    update step s set state = 'unknown', lease_until = null, listed = 'unknown'
      from lost where s.key = lost.key and s.step = lost.step
    returning s.key, s.step
),
-- begin emitted
v as (
    select v.* from unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::bytea[],
                           $9::bytea[], $10::float8[])
           as v (run_key, step, id, key, source, event_key, event_type, body, digest, window_seconds)
      join ended on ended.key = v.run_key and ended.step = v.step
), k as (
    insert into event_key (key, event_id, body_digest, expires_at)
    select distinct on (key) key, id, digest, now() + window_seconds * interval '1 second' from v order by key, id
    on conflict (key) do update
       set event_id = excluded.event_id, body_digest = excluded.body_digest, expires_at = excluded.expires_at
     where event_key.expires_at <= now()
    returning event_id
), new_event as (
    select v.id, v.key, v.source, v.event_key, v.event_type, $11::text as headers, v.body, v.digest as body_digest,
           null::uuid as original_id, null::text as mark
      from v join k on k.event_id = v.id
)
-- end emitted
, e as (
    -- begin event
    insert into event (id, key, source, event_key, event_type, headers, body, body_digest, original_id, mark)
    select id, key, source, event_key, event_type, headers, body, body_digest, original_id, mark
      from new_event
    returning id, key, source, mark, original_id, octet_length(body) as body_bytes
    -- end event
),
-- begin emitted_delivery
new_delivery as (
    select d.id, e.key, e.id as event_id, e.source, d.destination, null::uuid as replay_id, e.body_bytes,
           null::uuid as node, null::float8 as lease_seconds
      from unnest($12::uuid[], $13::uuid[], $14::text[]) as d (id, event_id, destination) join e on e.id = d.event_id
)
-- end emitted_delivery
, o as (
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
select key as "key!", step as "step!" from ended
