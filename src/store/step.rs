//! Steps as people and resuming programs read them, and the deletion of expired ones. Claims and
//! completions are in `ledger`.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{batches::in_batches, ledger::StepAddress, link::Db};
use crate::{
    contract::{EffectKey, OnLost, StepState},
    event::run_key,
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
    pub claim_id: String,
    pub owner: Option<String>,
    pub on_lost: OnLost,
    pub input_hash: Option<String>,
    pub claimed_at: OffsetDateTime,
    pub lease_until: Option<OffsetDateTime>,
    pub ended_at: Option<OffsetDateTime>,
    pub result: Option<String>,
    /// JSON: why there is no result.
    pub result_not_kept: Option<String>,
    /// JSON: what the last holder said who stopped without knowing the outcome.
    pub error: Option<String>,
    pub evidence: Option<String>,
    /// JSON: what the caller of a gateway asked for.
    pub about: Option<String>,
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
    (tenant, run): (&str, &str),
    after: Option<Uuid>,
    limit: i64,
    bytes_max: i64,
) -> Result<Vec<StepRow>, sqlx::Error> {
    sqlx::query_file_as!(
        StepRow,
        "src/store/step/of_run.sql",
        run_key(tenant, run).0,
        tenant,
        run,
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

/// Steps of all runs, newest first, without their results. Those of a rare state are found by the
/// index of the lists. An index on the state itself would make every claim and completion write to
/// all indexes (no HOT update).
pub async fn steps(
    executor: impl PgExecutor<'_>,
    filter: &StepFilter,
    limit: i64,
) -> Result<Vec<StepRow>, sqlx::Error> {
    let lists: &[&str] = match filter.state {
        None | Some(StepState::Done) => return all_steps(executor, filter, limit).await,
        // The lease of one that runs may be over, and is to be held.
        Some(StepState::Unknown) => &["unknown", "lost", "running"],
        Some(StepState::Running) => &["running"],
        Some(StepState::Released) => &["released"],
        Some(StepState::Failed) => &["failed"],
    };
    sqlx::query_file_as!(
        StepRow,
        "src/store/step/by_state.sql",
        filter.tenant.as_deref(),
        filter.run.as_deref(),
        filter.state.map(StepState::as_str),
        filter.from,
        filter.below,
        limit,
        lists as &[&str],
    )
    .fetch_all(executor)
    .await
}

async fn all_steps(
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

/// A run with how many of its steps are in each state.
#[derive(Clone, Debug)]
pub struct RunRow {
    pub run: String,
    pub running: i64,
    pub unknown: i64,
    pub released: i64,
    pub done: i64,
    pub failed: i64,
    pub last_at: OffsetDateTime,
    /// Its lowest id, which has the time of its first claim.
    pub first_id: Uuid,
}

/// How many steps one page of runs counts before it ends.
const COUNTED_STEPS_MAX: i64 = 200_000;

/// The tenant's runs that begin with `prefix` and come after `after`, by name. At most `limit`, and
/// fewer if they have many steps, but one is always returned.
pub async fn runs(
    executor: impl PgExecutor<'_>,
    tenant: &str,
    prefix: &str,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<RunRow>, sqlx::Error> {
    // No name has control characters, so this is the lowest one that may come after it.
    let above = after.map(|run| format!("{run}\u{1}"));
    let from = above.as_deref().unwrap_or_default().max(prefix);
    sqlx::query_file_as!(
        RunRow,
        "src/store/step/runs.sql",
        tenant,
        from,
        prefix,
        limit,
        COUNTED_STEPS_MAX,
    )
    .fetch_all(executor)
    .await
}

/// A walk over steps in the order of their first claims, which puts each into the list of its
/// state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Walk {
    /// Over what was claimed seconds ago.
    New,
    /// Once more over what was claimed a minute ago: the first may have passed a claim before its
    /// commit.
    Late,
    /// Over all, again each day: an older version may change steps meanwhile.
    All,
}

impl Walk {
    /// Its name, and how many seconds ago a step was made that it looks at.
    fn name(self) -> (&'static str, f64) {
        match self {
            Self::New => ("new", 2.0),
            Self::Late => ("late", 60.0),
            Self::All => ("all", 60.0),
        }
    }
}

/// What one round of a walk found.
#[derive(Clone, Copy, Debug)]
pub struct Walked {
    pub seen: i64,
    pub put: i64,
}

/// Goes on with a walk over at most `rows_max` steps. Only one node does so at a time; for the
/// others there is nothing to see.
pub async fn walk(
    executor: impl PgExecutor<'_>,
    walk: Walk,
    rows_max: i64,
) -> Result<Walked, sqlx::Error> {
    let (name, seconds) = walk.name();
    sqlx::query_file_as!(Walked, "src/store/step/walk.sql", name, seconds, rows_max)
        .fetch_one(executor)
        .await
}

/// Begins the walk over all steps anew, once a day. Returns whether it did.
pub async fn walk_anew(executor: impl PgExecutor<'_>) -> Result<bool, sqlx::Error> {
    let begun = sqlx::query!(
        r#"
        update step_walk set after = '00000000-0000-0000-0000-000000000000', begun_at = now()
         where name = 'all' and begun_at < now() - interval '1 day'
        "#
    );
    Ok(begun.execute(executor).await?.rows_affected() > 0)
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
