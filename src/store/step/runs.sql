-- The runs of the tenant $1 whose names begin with $3, from the name $2 on, by name: each is found by the index, and its steps are counted. A page ends
-- after $4 runs, or after the run that brings the number of steps to $5.
with recursive found (n, at, run, total, running, unknown, released, done, failed, last_at) as (
    select 0::bigint, $2::text, null::text, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, null::timestamptz
    union all
    select f.n + 1, next.run || chr(1), next.run, f.total + c.steps, c.running, c.unknown, c.released, c.done, c.failed, c.last_at
      from found f
     cross join lateral (select s.run from step s
                          where s.tenant collate "C" = $1 and s.run collate "C" >= f.at
                          order by s.run collate "C" limit 1) as next
     cross join lateral (
           select count(*) as steps,
                  count(*) filter (where state = 'running') as running,
                  count(*) filter (where state = 'unknown') as unknown,
                  count(*) filter (where state = 'released') as released,
                  count(*) filter (where state = 'done') as done,
                  count(*) filter (where state = 'failed') as failed,
                  max(greatest(claimed_at, ended_at)) as last_at
             -- begin shown_step
             from (select id, key, tenant, run, step,
                          case when state = 'running' and on_lost = 'hold' and lease_until < now() then 'unknown'
                               else state end as state,
                          fence, attempt, claim_id, owner, on_lost, input_hash, claimed_at, lease_until, ended_at, result,
                          result_not_kept, error, evidence, about, listed
                     from step) as s
             -- end shown_step
            where tenant collate "C" = $1 and run collate "C" = next.run) as c
     where f.n < $4 and f.total < $5 and starts_with(next.run, $3)
)
select run as "run!", running as "running!", unknown as "unknown!", released as "released!", done as "done!", failed as "failed!",
       last_at as "last_at!",
       (select s.id from step s where s.tenant collate "C" = $1 and s.run collate "C" = found.run order by s.id limit 1) as "first_id!"
  from found
 where n > 0
 order by n
