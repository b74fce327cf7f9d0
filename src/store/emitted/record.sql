-- Events that transactions emitted become recorded events with their deliveries, exactly once: a row goes in the statement that records it.
with known as (
    select * from unnest($1::text[], $2::float8[]) as known (source, window_seconds)
), route as (
    select * from unnest($3::text[], $4::text[], $5::text[]) as route (source, pattern, destination)
), picked as materialized (
    select * from emitted where held_at is null order by seq limit $6 for update skip locked
), held as (
    update emitted set held_at = now()
     where seq in (select p.seq from picked p where p.source not in (select source from known))
    returning source
), sized as (
    select p.*, k.window_seconds, row_number() over (order by p.seq) as place, sum(octet_length(p.body)) over (order by p.seq) as bytes
      from picked p join known k on k.source = p.source
), v as (
    select s.*, ($7::uuid[])[s.place] as id from sized s where s.bytes <= $8 or s.place = 1
), first as (
    select distinct on (key) key, id, body_digest, window_seconds from v order by key, seq
), k as (
    insert into event_key (key, event_id, body_digest, expires_at)
    select key, id, body_digest, now() + window_seconds * interval '1 second' from first order by key
    on conflict (key) do update
       set event_id = excluded.event_id, body_digest = excluded.body_digest, expires_at = excluded.expires_at
     where event_key.expires_at <= now()
    returning event_id
), new_event as (
    select v.id, v.key, v.source, v.event_key, v.event_type, $9::text as headers, v.body, v.body_digest,
           null::uuid as original_id, null::text as mark
      from v join k on k.event_id = v.id
), e as (
    -- begin event
    insert into event (id, key, source, event_key, event_type, headers, body, body_digest, original_id, mark)
    select id, key, source, event_key, event_type, headers, body, body_digest, original_id, mark
      from new_event
    returning id, key, source, mark, original_id, octet_length(body) as body_bytes
    -- end event
), new_delivery as (
    select hookonce_new_id() as id, e.key, e.id as event_id, e.source, r.destination, null::uuid as replay_id, e.body_bytes,
           null::uuid as node, null::float8 as lease_seconds
      from e cross join lateral (
           -- As `Routes::destinations`: each once, and a route without types takes every event.
           select distinct route.destination
             from v join route on route.source = v.source and (route.pattern is null or coalesce(v.event_type, '') like route.pattern)
            where v.id = e.id) as r
), o as (
    -- begin born
    insert into outbox (id, key, event_id, source, destination, replay_id, body_bytes, state, epoch, lease_until, node)
    select id, key, event_id, source, destination, replay_id, body_bytes,
           case when node is null then 'pending' else 'leased' end,
           case when node is null then 0 else 1 end,
           now() + lease_seconds * interval '1 second',
           node
      from new_delivery
    -- end born
), c as (
    insert into conflict (key, body_digest, id, event_id, kind, source, event_key, event_type, headers, body)
    select v.key, v.body_digest, v.id, first.event_id, 'other_body', v.source, v.event_key, v.event_type, $9, v.body
      from v join event_key first on first.key = v.key and first.body_digest <> v.body_digest and first.expires_at > now()
     order by v.key, v.body_digest on conflict (key, body_digest) do nothing
), gone as (
    -- Whose key another statement inserted meanwhile, or another event of this one, is decided the next time, when that key can be read.
    delete from emitted
     where seq in (select v.seq from v where v.id in (select event_id from k)
                                          or exists (select from event_key first where first.key = v.key and first.expires_at > now()))
    returning seq
)
select (select count(*) from gone) as "gone!", (select count(*) from new_delivery) as "deliveries!",
       array(select distinct source from held) as "held!"
