//! What becomes of a call that carries a fence.

use sqlx::PgExecutor;

use super::place::Place;
use crate::contract::StepState;

/// What a call that carries a fence came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Fenced<T> {
    Done(T),
    /// Another has the step, or it has ended otherwise: its fence and state.
    Stale(i64, StepState),
    Missing,
}

/// What a step's row says, for a call that changed nothing.
pub async fn stale<T>(
    executor: impl PgExecutor<'_>,
    place: &Place,
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
