-- The last sixty minutes lie in two hours of the clock, and so do the same sixty minutes of an earlier day: of each of those two
-- hours its part is taken.
with now as (
    select date_trunc('hour', now(), 'UTC') as hour, extract(epoch from now() - date_trunc('hour', now(), 'UTC')) / 3600 as part
), hours as (
    select c.name, c.word, c.hour, c.minutes, c.total, n.part,
           (extract(epoch from n.hour - c.hour) / 3600)::bigint as hours_ago
      from hour_count c, now n
     where c.subject = $1
       and c.hour = any(array(select n.hour - ago * interval '1 hour' from now n, generate_series(0, 169) as ago
                               where ago < 24 or ago % 24 in (0, 1)))
)
select name as "name!", word as "word!",
       coalesce(sum((select sum(came) from unnest(minutes) with ordinality as one (came, minute)
                      where hour + minute * interval '1 minute' > now() - interval '1 hour'))
                filter (where hours_ago <= 1), 0)::bigint as "last_hour!",
       coalesce(sum(total) filter (where hours_ago < 24), 0)::bigint as "last_day!",
       (coalesce(sum(total * case hours_ago % 24 when 0 then part else 1 - part end)
                 filter (where hours_ago >= 24 and hours_ago % 24 in (0, 1)), 0)
        / greatest(1, count(distinct hours_ago / 24) filter (where hours_ago >= 24 and hours_ago % 24 in (0, 1))))::float8
           as "usual_hour!"
  from hours
 group by name, word
