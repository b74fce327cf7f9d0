//! Steps as people and resuming programs read them, and the end of those whose time is over. Claims and completions are `ledger`'s.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{link::Db, retention::in_batches};
use crate::{event::Key, store::ledger::Place};

/// A step with all that is known of it.
#[derive(Clone, Debug)]
pub struct StepRow {
    pub id: Uuid,
    pub tenant: String,
    pub run: String,
    pub step: String,
    /// `unknown` also where the lease is over and the holder wished the step to be held.
    pub state: String,
    pub fence: i64,
    pub attempt: i32,
    pub owner: Option<String>,
    pub on_lost: String,
    pub input_hash: Option<String>,
    pub claimed_at: OffsetDateTime,
    pub lease_until: Option<OffsetDateTime>,
    pub ended_at: Option<OffsetDateTime>,
    pub result: Option<String>,
    pub evidence: Option<String>,
}

pub async fn step(executor: impl PgExecutor<'_>, place: &Place) -> Result<Option<StepRow>, sqlx::Error> {
    sqlx::query_as!(
        StepRow,
        r#"
        select id, tenant, run, step,
               case when state = 'running' and on_lost = 'hold' and lease_until < now() then 'unknown' else state end as "state!",
               fence, attempt, owner, on_lost, input_hash, claimed_at, lease_until, ended_at, result, evidence
          from step
         where key = $1 and step = $2
        "#,
        place.key,
        &*place.step,
    )
    .fetch_optional(executor)
    .await
}

/// The steps of a run in the order of their first claims, after the step of this id; results add up to at most `bytes_max`, but one is
/// always given.
pub async fn run_steps(
    executor: impl PgExecutor<'_>,
    key: Key,
    after: Option<Uuid>,
    limit: i64,
    bytes_max: i64,
) -> Result<Vec<StepRow>, sqlx::Error> {
    sqlx::query_as!(
        StepRow,
        r#"
        select id, tenant, run, step, state as "state!", fence, attempt, owner, on_lost, input_hash, claimed_at, lease_until, ended_at, result,
               evidence
          from (select id, tenant, run, step,
                       case when state = 'running' and on_lost = 'hold' and lease_until < now() then 'unknown' else state end as state,
                       fence, attempt, owner, on_lost, input_hash, claimed_at, lease_until, ended_at, result, evidence,
                       row_number() over (order by id) as n,
                       sum(coalesce(octet_length(result), 0)) over (order by id) as bytes
                  from step
                 where key = $1 and ($2::uuid is null or id > $2)) as s
         where n = 1 or bytes <= $4
         order by id
         limit $3
        "#,
        key,
        after,
        limit,
        bytes_max,
    )
    .fetch_all(executor)
    .await
}

/// What a search of steps looks for; None is no limit.
#[derive(Clone, Debug, Default)]
pub struct StepFilter {
    pub tenant: Option<String>,
    pub run: Option<String>,
    pub state: Option<String>,
    /// The lowest id, from the lower bound of time.
    pub from: Option<Uuid>,
    /// The id that all must be below: the cursor.
    pub below: Option<Uuid>,
}

/// Steps of all runs, newest first, without their results. A status that few have is looked for through all (a second for a million): an index
/// that knows the state would have every claim and completion write to all indexes (no HOT update).
pub async fn steps(executor: impl PgExecutor<'_>, filter: &StepFilter, limit: i64) -> Result<Vec<StepRow>, sqlx::Error> {
    sqlx::query_as!(
        StepRow,
        r#"
        select id, tenant, run, step, state as "state!", fence, attempt, owner, on_lost, input_hash, claimed_at, lease_until, ended_at,
               null::text as result, evidence
          from (select *, case when s.state = 'running' and s.on_lost = 'hold' and s.lease_until < now() then 'unknown' else s.state end
                          as shown
                  from step s) as s (key, step, id, tenant, run, stored, fence, attempt, claim_id, owner, on_lost, input_hash, claimed_at,
                                     lease_until, ended_at, result, end_digest, evidence, expires_at, state)
         where ($1::text is null or tenant = $1)
           and ($2::text is null or run = $2)
           and ($3::text is null or state = $3)
           and ($4::uuid is null or id >= $4)
           and ($5::uuid is null or id < $5)
         order by id desc
         limit $6
        "#,
        filter.tenant,
        filter.run,
        filter.state,
        filter.from,
        filter.below,
        limit,
    )
    .fetch_all(executor)
    .await
}

/// Removes steps whose time is over, in batches. `before` bounds the search: the lowest id that can't have expired yet.
pub async fn prune(pool: &Db, before: Uuid, rows_max: i64) -> Result<u64, sqlx::Error> {
    in_batches(rows_max, || {
        sqlx::query!(
            r#"
            delete from step
             where id = any(array(select id from step where id < $1 and expires_at < now() order by id limit $2)) and expires_at < now()
            "#,
            before,
            rows_max
        )
        .execute(pool)
    })
    .await
}
