-- An event's conflicts are looked up by the event.
create index conflict_event on conflict (event_id);
