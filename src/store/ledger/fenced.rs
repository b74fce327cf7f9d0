//! The answer to a call that carries a fence.

use sqlx::PgExecutor;

use super::place::StepAddress;
use crate::contract::StepState;

/// The outcome of a call that carries a fence.
#[derive(Clone, Debug, PartialEq)]
pub enum Fenced<T> {
    Done(T),
    /// Another holds the step, or it has ended otherwise. Its fence and state.
    Stale(i64, StepState),
    Missing,
}

/// Reads why a call changed nothing: the step's fence and state, or `Missing`.
pub async fn stale<T>(
    executor: impl PgExecutor<'_>,
    place: &StepAddress,
) -> Result<Fenced<T>, sqlx::Error> {
    let row = sqlx::query!(
        r#"select fence, state as "state: StepState" from step where key = $1 and step = $2"#,
        place.key.0,
        &*place.step
    )
    .fetch_optional(executor)
    .await?;
    Ok(row.map_or(Fenced::Missing, |row| Fenced::Stale(row.fence, row.state)))
}
