with u as (
    select * from unnest($1::uuid[], $2::text[], $3::float8[], $4::float8[]) as u (key, claim_id, lease_seconds, window_seconds)
), found as materialized (
    select d.* from u join dedup_key d on d.key = u.key
), taken as (
    insert into dedup_key as d (key, fence, claim_id, marked_at, lease_until, expires_at)
    select u.key, 1, u.claim_id, now(), now() + u.lease_seconds * interval '1 second', now() + u.window_seconds * interval '1 second'
      from u left join found f on f.key = u.key
     where f.key is null or f.expires_at < now() or f.lease_until < now()
     order by u.key
    on conflict (key) do update set
        fence = d.fence + 1, claim_id = excluded.claim_id, marked_at = excluded.marked_at,
        lease_until = excluded.lease_until, expires_at = excluded.expires_at
     where d.expires_at < excluded.marked_at or d.lease_until < excluded.marked_at
    returning d.*
)
select key as "key!", fence as "fence!", claim_id as "claim_id!", marked_at as "marked_at!", lease_until,
       extract(epoch from lease_until - now())::float8 as lease_left, expires_at < now() as "is_over!"
  from (select * from taken
        union all
        select * from found f where not exists (select from taken t where t.key = f.key)) as r
