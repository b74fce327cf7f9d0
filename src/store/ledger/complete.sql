with u (key, step, fence, state, result, digest, keep_seconds, result_not_kept) as (
    select * from unnest($15::uuid[], $16::text[], $17::bigint[], $18::text[], $19::text[], $20::bytea[], $21::float8[], $22::text[])
), ended as (
    insert into step as s (key, step, id, tenant, run, attempt, claim_id, on_lost, claimed_at, state, fence, result, result_not_kept,
                           end_digest, ended_at, expires_at, listed)
    select h.key, h.step, h.id, h.tenant, h.run, h.attempt, h.claim_id, h.on_lost, h.claimed_at, u.state, u.fence, u.result,
           u.result_not_kept, u.digest, now(), now() + u.keep_seconds * interval '1 second',
           case when u.state = 'failed' then 'failed' end
      from u join step h on h.key = u.key and h.step = u.step and h.fence = u.fence and h.state = 'running'
     order by h.key, h.step on conflict (key, step) do update
        set (state, result, result_not_kept, end_digest, ended_at, expires_at, listed, lease_until) =
            (excluded.state, excluded.result, excluded.result_not_kept, excluded.end_digest, excluded.ended_at, excluded.expires_at,
             excluded.listed, null)
     where s.fence = excluded.fence and s.state = 'running' returning s.key, s.step
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
), c as (
    insert into conflict (key, body_digest, id, event_id, kind, source, event_key, event_type, headers, body)
    select v.key, v.digest, v.id, first.event_id, 'other_body', v.source, v.event_key, v.event_type, $11, v.body
      from v join event_key first on first.key = v.key and first.body_digest <> v.digest and first.expires_at > now()
     order by v.key, v.digest on conflict (key, body_digest) do nothing
)
select s.key as "key!", s.step as "step!", s.state as "state!: StepState", s.fence as "fence!", s.claim_id as "claim_id!",
       s.end_digest as "end_digest?",
       exists (select from ended where ended.key = s.key and ended.step = s.step) as "is_ended!",
       array(select v.id from v where not exists (select from k where k.event_id = v.id)
                                  and not exists (select from event_key first where first.key = v.key and first.expires_at > now())) as "unseen!"
  from u join step s on s.key = u.key and s.step = u.step
