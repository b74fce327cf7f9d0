with u as (
    select * from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                         $9::float8[], $10::text[], $11::text[])
           as u (key, step, id, tenant, run, claim_id, owner, on_lost, lease_seconds, input_hash, about)
), found as materialized (
    select s.key, s.step, s.id, s.state, s.fence, s.attempt, s.claim_id, s.owner, s.input_hash, s.claimed_at, s.lease_until,
           s.ended_at, s.result, s.result_not_kept, s.error
      from u join step s on s.key = u.key and s.step = u.step
), open as materialized (
    -- A transaction that called hookonce.claim or hookonce.complete has the lock of its step until it ends. Nobody waits for it here.
    select u.*, pg_try_advisory_xact_lock_shared(uuid_hash_extended(u.key, hashtextextended(u.step, 0))) as is_free
      from u left join found f on f.key = u.key and f.step = u.step
     where f.key is null
        or ((f.state = 'released' or f.lease_until < now()) and coalesce(f.input_hash = u.input_hash, true))
), taken as (
    insert into step as s (key, step, id, tenant, run, state, fence, attempt, claim_id, owner, on_lost, input_hash, claimed_at,
                           lease_until, about)
    select u.key, u.step, u.id, u.tenant, u.run, 'running', 1, 1, u.claim_id, u.owner, u.on_lost, u.input_hash, now(),
           now() + u.lease_seconds * interval '1 second', u.about
      from open as u where u.is_free order by u.key, u.step
    on conflict (key, step) do update set
        state       = case when s.state = 'running' and s.on_lost = 'hold' then 'unknown' else 'running' end,
        listed      = case when s.state = 'running' and s.on_lost = 'hold' then 'lost' else 'running' end,
        lease_until = case when s.state = 'running' and s.on_lost = 'hold' then null else excluded.lease_until end,
        fence       = case when s.state = 'running' and s.on_lost = 'hold' then s.fence else s.fence + 1 end,
        attempt     = case when s.state = 'running' and s.on_lost = 'hold' then s.attempt else s.attempt + 1 end,
        claim_id    = case when s.state = 'running' and s.on_lost = 'hold' then s.claim_id else excluded.claim_id end,
        owner       = case when s.state = 'running' and s.on_lost = 'hold' then s.owner else excluded.owner end,
        on_lost     = case when s.state = 'running' and s.on_lost = 'hold' then s.on_lost else excluded.on_lost end,
        claimed_at  = case when s.state = 'running' and s.on_lost = 'hold' then s.claimed_at else excluded.claimed_at end,
        about       = case when s.state = 'running' and s.on_lost = 'hold' then s.about else excluded.about end,
        input_hash  = coalesce(s.input_hash, excluded.input_hash),
        error       = null,
        end_digest  = null,
        expires_at  = null
     where (s.state = 'released' or s.lease_until < excluded.claimed_at)
       and coalesce(s.input_hash = excluded.input_hash, true)
    returning s.key, s.step, s.id, s.state, s.fence, s.attempt, s.claim_id, s.owner, s.input_hash, s.claimed_at, s.lease_until,
              s.ended_at, s.result, s.result_not_kept, s.error
)
select key as "key!", step as "step!", id as "id!", state as "state!: StepState", fence as "fence!", attempt as "attempt!",
       claim_id as "claim_id!", owner, input_hash, claimed_at as "claimed_at!", lease_until,
       extract(epoch from lease_until - now())::float8 as lease_left, ended_at, result, result_not_kept, error, now() as "at!"
  from (select * from taken
        union all
        select o.key, o.step, coalesce(f.id, o.id), 'running', coalesce(f.fence, 0), coalesce(f.attempt, 1), '', f.owner, f.input_hash,
               coalesce(f.claimed_at, now()), now() + interval '1 second', null, null, null, null
          from open o left join found f on f.key = o.key and f.step = o.step where not o.is_free
        union all
        select * from found f where not exists (select from open o where o.key = f.key and o.step = f.step)) as r
