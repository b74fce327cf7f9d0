from (select id, key, tenant, run, step,
             case when state = 'running' and on_lost = 'hold' and lease_until < now() then 'unknown'
                  else state end as state,
             fence, attempt, claim_id, owner, on_lost, input_hash, claimed_at, lease_until, ended_at, result,
             result_not_kept, error, evidence, about, listed
        from step) as s
