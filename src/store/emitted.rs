//! Events that applications emitted by `hookonce.emit` and `hookonce.complete`, in transactions of
//! their own (`migrations/0009_sql_functions.sql`). They wait in a table until they are recorded.
//! When that is done is not decided here.

use sqlx::PgExecutor;

use super::ledger::EMITTED_HEADERS;
use crate::{ids, routing::LikeRoutes};

/// Limit of the bodies of one statement, added up. A larger body is recorded alone.
const BYTES_MAX: i64 = 16 << 20;

/// What one statement did.
#[derive(Debug, Default, PartialEq)]
pub struct Drained {
    /// Events that no longer wait: recorded, or known already.
    pub gone: i64,
    pub deliveries: i64,
    /// Sources that no settings know. Their events are kept until some do.
    pub held: Vec<String>,
}

/// The sources whose events are recorded, and for how long their keys count.
#[derive(Default)]
pub struct Windows {
    pub sources: Vec<String>,
    pub seconds: Vec<f64>,
}

/// Whether an event waits to be recorded.
pub async fn is_waiting(executor: impl PgExecutor<'_>) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (select from emitted where held_at is null) as "is_waiting!""#
    )
    .fetch_one(executor)
    .await
}

/// Records the events that have waited longest, at most `rows_max`, with their deliveries. Any
/// number of nodes may do this at once: each takes other rows.
pub async fn record(
    executor: impl PgExecutor<'_>,
    windows: &Windows,
    routes: &LikeRoutes,
    rows_max: usize,
) -> Result<Drained, sqlx::Error> {
    let ids: Vec<_> = (0..rows_max).map(|_| ids::new()).collect();
    let row = sqlx::query_file!(
        "src/store/emitted/record.sql",
        &windows.sources,
        &windows.seconds,
        &routes.sources,
        &routes.patterns as &[Option<String>],
        &routes.destinations,
        i64::try_from(rows_max).unwrap_or(i64::MAX),
        &ids,
        BYTES_MAX,
        EMITTED_HEADERS,
    )
    .fetch_one(executor)
    .await?;
    Ok(Drained {
        gone: row.gone,
        deliveries: row.deliveries,
        held: row.held,
    })
}

/// Lets events wait again that were held because no node knew their source.
pub async fn unhold(executor: impl PgExecutor<'_>, sources: &[String]) -> Result<u64, sqlx::Error> {
    let unheld = sqlx::query!(
        "update emitted set held_at = null where held_at is not null and source = any($1)",
        sources
    );
    Ok(unheld.execute(executor).await?.rows_affected())
}
