select id, tenant, run, step, state as "state!: StepState", fence, attempt, claim_id, owner, on_lost as "on_lost!: OnLost",
       input_hash, claimed_at, lease_until, ended_at, result, result_not_kept, error, evidence, about
-- begin shown_step
from (select id, key, tenant, run, step,
             case when state = 'running' and on_lost = 'hold' and lease_until < now() then 'unknown'
                  else state end as state,
             fence, attempt, claim_id, owner, on_lost, input_hash, claimed_at, lease_until, ended_at, result,
             result_not_kept, error, evidence, about, listed
        from step) as s
-- end shown_step
where key = $1 and step = $2
