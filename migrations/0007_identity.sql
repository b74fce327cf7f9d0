-- Marks on events, what conflicts became, and until when keys of an older form count.

alter table event add column mark text;
-- Not looked for in the rows that are there: none of them has one, and a large table would be read to its end under a lock.
alter table event add constraint event_mark_check check (mark in ('same-body', 'other-body')) not valid;
comment on column event.mark is 'Why a handler may want to look twice: the same signed body came before under another unsigned id, or another body came before under this key.';

alter table conflict add column relayed_as uuid;
comment on column conflict.relayed_as is 'The event that it was made into by hand.';

create table keys_before (
    until timestamptz not null
);
comment on table keys_before is 'When the last key expires that was recorded before event keys could have several parts. No row: there is none, and nothing looks for them.';
insert into keys_before select max(expires_at) from event_key having max(expires_at) > now();
