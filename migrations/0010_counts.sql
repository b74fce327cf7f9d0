-- What came and what became of it over time: which source is silent or spiking, which destination fails, and since when.

create table hour_count (
    subject text        not null check (subject in ('source', 'destination')),
    name    text        not null check (name <> ''),
    word    text        not null check (word <> ''),
    hour    timestamptz not null,
    minutes integer[]   not null check (cardinality(minutes) = 60),
    total   bigint      not null,
    primary key (subject, hour, name, word)
) with (fillfactor = 50);
comment on table hour_count is 'Counts by minute, an hour in a row: requests of a source by outcome, attempts at a destination by result. total: the sum of minutes. All nodes add to it. One that loses the answer to its commit may add a few seconds'' counts twice.';
