//! Replays: which stored events are to be delivered once more, a page at a time, oldest first. A
//! replay is a row with a cursor, which the statement that makes the deliveries moves
//! (`delivery::advance`). So an interrupted replay goes on where it stood, and two callers that
//! advance it at once make no delivery twice. Where events go is not decided here.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    contract::{EventId, ReplayId},
    event::Key,
};

/// Which events to replay. None means no limit. Ids lie between `after` and `before`, both
/// exclusive.
#[derive(Clone, Debug, Default)]
pub struct ReplayFilter {
    pub ids: Option<Vec<Uuid>>,
    pub source: Option<String>,
    /// A LIKE pattern, as `TypeGlob::to_like` makes it.
    pub type_like: Option<String>,
    /// `dead` (and not delivered to the same destination since) or `delivered`.
    pub status: Option<&'static str>,
    pub after: Uuid,
    pub before: Uuid,
}

/// An event to replay.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub id: EventId,
    pub key: Key,
    pub source: String,
    pub event_type: Option<String>,
    pub body_bytes: i32,
    /// Destinations where a delivery of it ended as the filter's `status` says. Empty without such
    /// a filter.
    pub ended_at: Vec<String>,
}

/// The next events, by id.
pub async fn candidates(
    executor: impl PgExecutor<'_>,
    filter: &ReplayFilter,
    limit: i64,
) -> Result<Vec<Candidate>, sqlx::Error> {
    sqlx::query_file_as!(
        Candidate,
        "src/store/replay/candidates.sql",
        filter.after,
        filter.before,
        filter.source.as_deref(),
        filter.type_like.as_deref(),
        filter.status,
        filter.ids.as_deref(),
        limit,
    )
    .fetch_all(executor)
    .await
}

/// The id of the event in the given place (from 0), or None if there are fewer.
pub async fn nth(
    executor: impl PgExecutor<'_>,
    filter: &ReplayFilter,
    place: i64,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_file_scalar!(
        "src/store/replay/nth.sql",
        filter.after,
        filter.before,
        filter.source.as_deref(),
        filter.type_like.as_deref(),
        filter.status,
        filter.ids.as_deref(),
        place,
    )
    .fetch_optional(executor)
    .await
}

/// How many events of one source and type ended at the same destinations.
#[derive(Clone, Debug)]
pub struct Group {
    pub source: String,
    pub event_type: Option<String>,
    /// As in `Candidate::ended_at`.
    pub ended_at: Vec<String>,
    pub events: i64,
}

/// All events of the filter, counted by what decides where they go: source, type and `ended_at`.
pub async fn groups(
    executor: impl PgExecutor<'_>,
    filter: &ReplayFilter,
) -> Result<Vec<Group>, sqlx::Error> {
    sqlx::query_file_as!(
        Group,
        "src/store/replay/groups.sql",
        filter.after,
        filter.before,
        filter.source.as_deref(),
        filter.type_like.as_deref(),
        filter.status,
        filter.ids.as_deref(),
    )
    .fetch_all(executor)
    .await
}

/// Returns those of the ids that are stored.
pub async fn known(executor: impl PgExecutor<'_>, ids: &[Uuid]) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!("select id from event where id = any($1)", ids)
        .fetch_all(executor)
        .await
}

/// A replay as it is kept. `filter` is what was asked for, as JSON.
#[derive(Clone, Debug)]
pub struct ReplayRow {
    pub id: ReplayId,
    pub filter: serde_json::Value,
    pub created_at: OffsetDateTime,
    pub after: Uuid,
    pub before: Uuid,
    pub deliveries: i64,
    pub ended_at: Option<OffsetDateTime>,
}

pub async fn create(
    executor: impl PgExecutor<'_>,
    id: Uuid,
    filter: &serde_json::Value,
    after: Uuid,
    before: Uuid,
) -> Result<ReplayRow, sqlx::Error> {
    sqlx::query_as!(
        ReplayRow,
        r#"
        insert into replay (id, filter, after, before) values ($1, $2, $3, $4)
        returning id, filter, created_at, after, before, deliveries, ended_at
        "#,
        id,
        filter,
        after,
        before
    )
    .fetch_one(executor)
    .await
}

pub async fn find(
    executor: impl PgExecutor<'_>,
    id: Uuid,
) -> Result<Option<ReplayRow>, sqlx::Error> {
    sqlx::query_as!(ReplayRow, "select id, filter, created_at, after, before, deliveries, ended_at from replay where id = $1", id)
        .fetch_optional(executor)
        .await
}

/// Newest first.
pub async fn list(
    executor: impl PgExecutor<'_>,
    below: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ReplayRow>, sqlx::Error> {
    sqlx::query_as!(
        ReplayRow,
        r#"
        select id, filter, created_at, after, before, deliveries, ended_at
          from replay where ($1::uuid is null or id < $1) order by id desc limit $2
        "#,
        below,
        limit
    )
    .fetch_all(executor)
    .await
}
