-- The steps of a run after the step $2. Results add up to at most $4 bytes, but one is always given.
select id, tenant, run, step, state as "state!: StepState", fence, attempt, owner, on_lost as "on_lost!: OnLost",
       input_hash, claimed_at, lease_until, ended_at,
       result, evidence
  from (select s.*,
               row_number() over (order by id) as n,
               sum(coalesce(octet_length(result), 0)) over (order by id) as bytes
          -- begin shown_step
          from (select id, key, tenant, run, step,
                       case when state = 'running' and on_lost = 'hold' and lease_until < now() then 'unknown'
                            else state end as state,
                       fence, attempt, owner, on_lost, input_hash, claimed_at, lease_until, ended_at, result, evidence
                  from step) as s
          -- end shown_step
         where key = $1 and ($2::uuid is null or id > $2)) as s
 where n = 1 or bytes <= $4
 order by id
 limit $3
