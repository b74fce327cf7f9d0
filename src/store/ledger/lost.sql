-- Steps whose holders are lost: those that are unknown already and of which nobody was told; with $2 those whose lease is over and that are to be held.
select key as "key!", step as "step!", id as "id!", tenant as "tenant!", run as "run!", fence as "fence!", attempt as "attempt!", owner,
       claimed_at as "claimed_at!", error, about
  from ((select * from step where listed = 'lost' and state = 'unknown' order by id limit $1)
        union all
        (select * from step
          where $2 and listed = 'running' and state = 'running' and on_lost = 'hold' and lease_until < now() order by id limit $1)) as s
 limit $1
