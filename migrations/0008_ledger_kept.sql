-- What a step keeps beside its result, and where the rare states of steps are found by an index.

alter table step
    add column error           text,
    add column result_not_kept text,
    add column about           text,
    add column listed          text;
comment on column step.error is 'JSON: what the last holder said who stopped without knowing the outcome.';
comment on column step.result_not_kept is 'JSON, {"reason", "detail"}: the step was executed and its result could not be kept.';
comment on column step.about is 'JSON: what the caller of a gateway asked for.';
comment on column step.listed is 'In which list the step is: null for one that is done, and for one that runs since it was first claimed. A claim and its completion leave null as it is, so that no index is written (HOT). lost: unknown, and step.unknown is not yet written. running: put there by the walk, or by a second claim.';

-- Not looked for in the rows that are there: none has one, and a large table would be read to its end under a lock.
alter table step add constraint step_listed_check
    check (listed in ('running', 'lost', 'unknown', 'released', 'failed')) not valid;

-- How far the walks over all steps have come that put them into lists. new: claimed seconds ago. late: a minute ago, for claims whose commit the first
-- passed. all: over all, again once a day, for what an older version changes meanwhile.
create table step_walk (
    name       text        primary key check (name in ('new', 'late', 'all')),
    after      uuid        not null,
    begun_at   timestamptz not null default now()
);
comment on table step_walk is 'Cursors over step.id. What is behind late is in the list of its state.';
insert into step_walk (name, after) select name, '00000000-0000-0000-0000-000000000000' from unnest(array['new', 'late', 'all']) as w (name);

-- Over a large table these are made concurrently, by the maintenance: here no claim would be decided until they are complete.
do $$
begin
    if pg_relation_size('step') < 64 * 1024 * 1024 then
        create index step_listed on step (listed, id) where listed is not null;
        create index step_of_run on step (tenant collate "C", run collate "C", id);
    end if;
end $$;
