-- The walk $1 goes on over steps that were made more than $2 seconds ago, at most $3 of them, and puts each into the list of its state. One that is
-- locked is being changed: a later walk finds it. Nothing is locked or written where the walk has nothing before it.
with bound as (
    select (lpad(to_hex((extract(epoch from now() - $2 * interval '1 second') * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid as below
), at as (
    select w.name, w.after, b.below
      from step_walk w cross join bound b
     where w.name = $1 and exists (select from step s where s.id > w.after and s.id < b.below)
       for update of w skip locked
), seen as materialized (
    select s.key, s.step, s.id,
           s.listed is distinct from case when s.state <> 'done' then s.state end
           and not (s.state = 'unknown' and s.listed is not distinct from 'lost') as is_elsewhere
      from at cross join lateral (
           select key, step, id, state, listed from step where id > at.after and id < at.below order by id limit $3) as s
), held as materialized (
    select s.key, s.step
      from seen join step s on s.key = seen.key and s.step = seen.step
     where seen.is_elsewhere
     order by s.key, s.step
       for update of s skip locked
), put as (
    update step s set listed = case when s.state <> 'done' then s.state end
      from held where s.key = held.key and s.step = held.step
    returning s.key
), moved as (
    update step_walk w set after = last.id
      from at, (select id from seen order by id desc limit 1) as last
     where w.name = at.name
)
select (select count(*) from seen) as "seen!", (select count(*) from put) as "put!"
