-- The steps of a run after the step $4. Results add up to at most $6 bytes, but one is always given.
select id, tenant, run, step, state as "state!: StepState", fence, attempt, claim_id, owner, on_lost as "on_lost!: OnLost",
       input_hash, claimed_at, lease_until, ended_at, result, result_not_kept, error, evidence, about
  from (select s.*, row_number() over (order by id) as n,
               sum(coalesce(octet_length(result), 0)) over (order by id) as bytes
          from (select *
                  -- begin shown_step
                  from (select id, key, tenant, run, step,
                               case when state = 'running' and on_lost = 'hold' and lease_until < now() then 'unknown'
                                    else state end as state,
                               fence, attempt, claim_id, owner, on_lost, input_hash, claimed_at, lease_until, ended_at, result,
                               result_not_kept, error, evidence, about, listed
                          from step) as s
                  -- end shown_step
                 where key = $1 and tenant collate "C" = $2 and run collate "C" = $3 and ($4::uuid is null or id > $4)
                 order by id
                 limit $5) as s) as s
 where n = 1 or bytes <= $6
 order by id
