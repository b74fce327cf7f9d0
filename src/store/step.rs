//! Steps as people and resuming programs read them, and the deletion of expired ones. Claims and
//! completions are in `ledger`.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{batches::in_batches, ledger::StepAddress, link::Db};
use crate::{
    contract::{EffectKey, OnLost, StepState},
    event::Key,
};

/// A step with all that is known of it.
#[derive(Clone, Debug)]
pub struct StepRow {
    pub id: EffectKey,
    pub tenant: String,
    pub run: String,
    pub step: String,
    /// Also `unknown` if the lease is over and the holder wanted the step to be held.
    pub state: StepState,
    pub fence: i64,
    pub attempt: i32,
    pub owner: Option<String>,
    pub on_lost: OnLost,
    pub input_hash: Option<String>,
    pub claimed_at: OffsetDateTime,
    pub lease_until: Option<OffsetDateTime>,
    pub ended_at: Option<OffsetDateTime>,
    pub result: Option<String>,
    pub evidence: Option<String>,
}

pub async fn step(
    executor: impl PgExecutor<'_>,
    place: &StepAddress,
) -> Result<Option<StepRow>, sqlx::Error> {
    sqlx::query_file_as!(StepRow, "src/store/step/one.sql", place.key.0, &*place.step,)
        .fetch_optional(executor)
        .await
}

/// The steps of a run in the order of their first claims, after the step of this id. Results add up
/// to at most `bytes_max`, but one step is always returned.
pub async fn run_steps(
    executor: impl PgExecutor<'_>,
    key: Key,
    after: Option<Uuid>,
    limit: i64,
    bytes_max: i64,
) -> Result<Vec<StepRow>, sqlx::Error> {
    sqlx::query_file_as!(
        StepRow,
        "src/store/step/of_run.sql",
        key.0,
        after,
        limit,
        bytes_max,
    )
    .fetch_all(executor)
    .await
}

/// What a search of steps looks for. None means no limit.
#[derive(Clone, Debug, Default)]
pub struct StepFilter {
    pub tenant: Option<String>,
    pub run: Option<String>,
    pub state: Option<StepState>,
    /// The lowest id, made from the lower bound of time.
    pub from: Option<Uuid>,
    /// All ids must be below this one: the cursor.
    pub below: Option<Uuid>,
}

/// Steps of all runs, newest first, without their results. A rare state is searched for through all
/// steps (a second for a million). An index on the state would make every claim and completion
/// write to all indexes (no HOT update).
pub async fn steps(
    executor: impl PgExecutor<'_>,
    filter: &StepFilter,
    limit: i64,
) -> Result<Vec<StepRow>, sqlx::Error> {
    sqlx::query_file_as!(
        StepRow,
        "src/store/step/all.sql",
        filter.tenant,
        filter.run,
        filter.state.map(StepState::as_str),
        filter.from,
        filter.below,
        limit,
    )
    .fetch_all(executor)
    .await
}

/// Deletes expired steps, in batches. `before` bounds the search: the lowest id that can't have
/// expired yet.
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
