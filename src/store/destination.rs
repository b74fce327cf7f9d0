//! Destinations as the database knows them: those that an operator paused, and those that a replay
//! gave as a URL. Those of the settings are not kept here.

use std::collections::HashMap;

use sqlx::PgExecutor;
use time::OffsetDateTime;

pub async fn paused(executor: impl PgExecutor<'_>) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!("select destination from destination_pause")
        .fetch_all(executor)
        .await
}

/// Destinations given as a URL (by a replay) that have due deliveries.
pub async fn due_urls(
    executor: impl PgExecutor<'_>,
    most: i64,
) -> Result<Vec<String>, sqlx::Error> {
    let rows: HashMap<String, ()> = sqlx::query_scalar!(
        "select destination from outbox where destination like 'http%://%' and state = 'pending' and due_at <= now() order by due_at limit $1",
        most
    )
    .fetch_all(executor)
    .await?
    .into_iter()
    .map(|destination| (destination, ()))
    .collect();
    Ok(rows.into_keys().collect())
}

/// How the open deliveries of a destination stand.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    pub destination: String,
    pub oldest_open_at: Option<OffsetDateTime>,
    /// When the oldest delivery was recorded that has failed and is still open.
    pub failing_since: Option<OffsetDateTime>,
    /// When the next of those is tried again.
    pub next_retry_at: Option<OffsetDateTime>,
    /// The class of error, and the HTTP status, of one's last attempt.
    pub error: Option<String>,
    pub status: Option<i16>,
}

/// Reads all open deliveries, so ask seldom.
pub async fn standings(executor: impl PgExecutor<'_>) -> Result<Vec<Standing>, sqlx::Error> {
    sqlx::query_file_as!(Standing, "src/store/standings.sql")
        .fetch_all(executor)
        .await
}

/// True if it was not paused before.
pub async fn pause(executor: impl PgExecutor<'_>, destination: &str) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!("insert into destination_pause (destination) values ($1) on conflict (destination) do nothing", destination)
        .execute(executor)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// True if it was paused before.
pub async fn resume(executor: impl PgExecutor<'_>, destination: &str) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "delete from destination_pause where destination = $1",
        destination
    )
    .execute(executor)
    .await?;
    Ok(done.rows_affected() > 0)
}
