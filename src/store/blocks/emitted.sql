v as (
    select v.* from unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::bytea[],
                           $9::bytea[], $10::float8[])
           as v (run_key, step, id, key, source, event_key, event_type, body, digest, window_seconds)
      join ended on ended.key = v.run_key and ended.step = v.step
), k as (
    insert into event_key (key, event_id, body_digest, expires_at)
    select distinct on (key) key, id, digest, now() + window_seconds * interval '1 second' from v order by key, id
    on conflict (key) do update
       set event_id = excluded.event_id, body_digest = excluded.body_digest, expires_at = excluded.expires_at
     where event_key.expires_at <= now()
    returning event_id
), new_event as (
    select v.id, v.key, v.source, v.event_key, v.event_type, $11::text as headers, v.body, v.digest as body_digest,
           null::uuid as original_id, null::text as mark
      from v join k on k.event_id = v.id
)
