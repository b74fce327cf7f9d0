from (select id, key, tenant, run, step,
             case when state = 'running' and on_lost = 'hold' and lease_until < now() then 'unknown'
                  else state end as state,
             fence, attempt, owner, on_lost, input_hash, claimed_at, lease_until, ended_at, result, evidence
        from step) as s
