insert into event (id, key, source, event_key, event_type, headers, body, body_digest, original_id, mark)
select id, key, source, event_key, event_type, headers, body, body_digest, original_id, mark
  from new_event
returning id, key, source, mark, original_id, octet_length(body) as body_bytes
