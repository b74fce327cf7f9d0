-- Steps of all runs in the state $3, newest first, without their results: those of the lists $7, and those that no walk has passed yet.
select id as "id!", tenant as "tenant!", run as "run!", step as "step!", state as "state!: StepState", fence as "fence!",
       attempt as "attempt!", claim_id as "claim_id!", owner, on_lost as "on_lost!: OnLost",
       input_hash, claimed_at as "claimed_at!", lease_until, ended_at, null::text as result, result_not_kept, error, evidence, about
  from (select l.*
          from unnest($7::text[]) as w (list)
         cross join lateral (
               select *
                 -- begin shown_step
                 from (select id, key, tenant, run, step,
                              case when state = 'running' and on_lost = 'hold' and lease_until < now() then 'unknown'
                                   else state end as state,
                              fence, attempt, claim_id, owner, on_lost, input_hash, claimed_at, lease_until, ended_at, result,
                              result_not_kept, error, evidence, about, listed
                         from step) as s
                 -- end shown_step
                where listed = w.list
                  and state = $3
                  and ($1::text is null or tenant = $1)
                  and ($2::text is null or run = $2)
                  and ($4::uuid is null or id >= $4)
                  and ($5::uuid is null or id < $5)
                order by id desc
                limit $6) as l
        union all
       (select *
          -- begin shown_step
          from (select id, key, tenant, run, step,
                       case when state = 'running' and on_lost = 'hold' and lease_until < now() then 'unknown'
                            else state end as state,
                       fence, attempt, claim_id, owner, on_lost, input_hash, claimed_at, lease_until, ended_at, result,
                       result_not_kept, error, evidence, about, listed
                  from step) as s
          -- end shown_step
         where id > (select after from step_walk where name = 'late')
           and listed is null
           and state = $3
           and ($1::text is null or tenant = $1)
           and ($2::text is null or run = $2)
           and ($4::uuid is null or id >= $4)
           and ($5::uuid is null or id < $5)
         order by id desc
         limit $6)) as s
 order by id desc
 limit $6
