//! What people search for: events, deliveries, attempts, destinations, totals. Lists are newest
//! first, a page at a time; the last id of a page is the cursor to the next. Nothing is written
//! here.
//!
//! Bounds of time are bounds of ids, which are UUIDv7. So a search of one hour touches only the
//! partitions of that hour.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::contract::{AttemptOutcome, DeliveryId, DeliveryState, EventId, Mark};

/// What a search of events looks for. None means no limit.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    pub source: Option<String>,
    /// A LIKE pattern, as `TypeGlob::to_like` makes it.
    pub type_like: Option<String>,
    /// The lowest id, made from the lower bound of time.
    pub from: Option<Uuid>,
    /// All ids must be below this one: the cursor, or the upper bound of time.
    pub below: Option<Uuid>,
}

#[derive(Clone, Debug)]
pub struct EventRow {
    pub id: EventId,
    pub source: String,
    pub event_type: Option<String>,
    pub event_key: String,
    pub received_at: OffsetDateTime,
    pub body_bytes: i32,
    pub mark: Option<Mark>,
}

pub async fn events(
    executor: impl PgExecutor<'_>,
    filter: &EventFilter,
    limit: i64,
) -> Result<Vec<EventRow>, sqlx::Error> {
    sqlx::query_as!(
        EventRow,
        r#"
        select id, source, event_type, event_key, received_at, octet_length(body) as "body_bytes!", mark as "mark: Mark"
          from event
         where ($1::text is null or source = $1)
           and ($2::text is null or event_type like $2)
           and ($3::uuid is null or id >= $3)
           and ($4::uuid is null or id < $4)
         order by id desc
         limit $5
        "#,
        filter.source.as_deref(),
        filter.type_like.as_deref(),
        filter.from,
        filter.below,
        limit,
    )
    .fetch_all(executor)
    .await
}

/// Those of the filter that were recorded under one of these keys. A key that has expired finds
/// nothing.
pub async fn events_of_keys(
    executor: impl PgExecutor<'_>,
    keys: &[Uuid],
    filter: &EventFilter,
    limit: i64,
) -> Result<Vec<EventRow>, sqlx::Error> {
    sqlx::query_as!(
        EventRow,
        r#"
        select id, source, event_type, event_key, received_at, octet_length(body) as "body_bytes!", mark as "mark: Mark"
          from event
         where key = any($1)
           and id in (select event_id from event_key where key = any($1))
           and ($2::text is null or source = $2)
           and ($3::text is null or event_type like $3)
           and ($4::uuid is null or id >= $4)
           and ($5::uuid is null or id < $5)
         order by id desc
         limit $6
        "#,
        keys,
        filter.source.as_deref(),
        filter.type_like.as_deref(),
        filter.from,
        filter.below,
        limit,
    )
    .fetch_all(executor)
    .await
}

/// An event with all that was received.
#[derive(Clone, Debug)]
pub struct WholeEvent {
    pub id: EventId,
    pub source: String,
    pub event_type: Option<String>,
    pub event_key: String,
    pub received_at: OffsetDateTime,
    /// A JSON array of [name, value] pairs.
    pub headers: String,
    pub body: Vec<u8>,
    pub body_digest: Vec<u8>,
    /// The request that the event is a part of, if that was split.
    pub original_id: Option<Uuid>,
    pub mark: Option<Mark>,
}

pub async fn event(
    executor: impl PgExecutor<'_>,
    id: Uuid,
) -> Result<Option<WholeEvent>, sqlx::Error> {
    sqlx::query_as!(
        WholeEvent,
        r#"
        select id, source, event_type, event_key, received_at, headers, body, body_digest, original_id, mark as "mark: Mark"
          from event where id = $1
        "#,
        id
    )
    .fetch_optional(executor)
    .await
}

/// A request that was split into several events, as it was received.
#[derive(Clone, Debug)]
pub struct WholeOriginal {
    pub body: Vec<u8>,
    pub body_digest: Vec<u8>,
    pub items: i32,
}

pub async fn original(
    executor: impl PgExecutor<'_>,
    id: Uuid,
) -> Result<Option<WholeOriginal>, sqlx::Error> {
    sqlx::query_as!(
        WholeOriginal,
        "select body, body_digest, items from original where id = $1",
        id
    )
    .fetch_optional(executor)
    .await
}

/// What a search of deliveries looks for. None means no limit.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    pub state: Option<DeliveryState>,
    pub destination: Option<String>,
    pub source: Option<String>,
    pub event: Option<Uuid>,
    pub below: Option<Uuid>,
}

#[derive(Clone, Debug)]
pub struct DeliveryRow {
    pub id: DeliveryId,
    pub event: EventId,
    pub source: String,
    pub destination: String,
    pub state: DeliveryState,
    pub attempts: i32,
    pub replay: Option<Uuid>,
    pub created_at: OffsetDateTime,
    pub due_at: Option<OffsetDateTime>,
    pub ended_at: Option<OffsetDateTime>,
}

/// Open and ended deliveries, newest first.
pub async fn deliveries(
    executor: impl PgExecutor<'_>,
    filter: &DeliveryFilter,
    limit: i64,
) -> Result<Vec<DeliveryRow>, sqlx::Error> {
    sqlx::query_file_as!(
        DeliveryRow,
        "src/store/search/deliveries.sql",
        filter.state.map(DeliveryState::as_str),
        filter.destination.as_deref(),
        filter.source.as_deref(),
        filter.event,
        filter.below,
        limit,
    )
    .fetch_all(executor)
    .await
}

pub async fn delivery(
    executor: impl PgExecutor<'_>,
    id: Uuid,
) -> Result<Option<DeliveryRow>, sqlx::Error> {
    sqlx::query_as!(
        DeliveryRow,
        r#"
        select id as "id!", event_id as "event!", source as "source!", destination as "destination!", state as "state!: DeliveryState",
               attempts as "attempts!", replay_id as "replay?", created_at as "created_at!", due_at as "due_at?", ended_at as "ended_at?"
          from delivery where id = $1
        "#,
        id
    )
    .fetch_optional(executor)
    .await
}

#[derive(Clone, Debug)]
pub struct AttemptRow {
    pub number: i32,
    pub started_at: OffsetDateTime,
    pub latency_ms: i32,
    pub outcome: AttemptOutcome,
    pub status: Option<i16>,
    pub error: Option<String>,
    pub detail: Option<String>,
    pub response: Option<Vec<u8>>,
}

/// The attempts of a delivery, oldest first, at most `limit`.
pub async fn attempts(
    executor: impl PgExecutor<'_>,
    delivery_id: Uuid,
    limit: i64,
) -> Result<Vec<AttemptRow>, sqlx::Error> {
    sqlx::query_as!(
        AttemptRow,
        r#"
        select number, started_at, latency_ms, outcome as "outcome: AttemptOutcome", status, error, detail, response
          from attempt where delivery_id = $1 order by id limit $2
        "#,
        delivery_id,
        limit
    )
    .fetch_all(executor)
    .await
}

/// The open deliveries of a destination, and the ended ones made since a given id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationCounts {
    pub destination: String,
    pub paused: bool,
    pub pending: i64,
    pub leased: i64,
    pub delivered: i64,
    pub dead: i64,
}

/// Counts of each destination that has an open delivery, one that ended since `since`, or a pause.
pub async fn destination_counts(
    executor: impl PgExecutor<'_>,
    since: Uuid,
) -> Result<Vec<DestinationCounts>, sqlx::Error> {
    sqlx::query_as!(
        DestinationCounts,
        r#"
        with counted as (
            select destination, state, count(*) as n from outbox group by 1, 2
            union all
            select destination, state, count(*) from delivery_ended where id >= $1 group by 1, 2
            union all
            select destination, 'paused', 1 from destination_pause
        )
        select destination as "destination!",
               bool_or(state = 'paused') as "paused!",
               coalesce(sum(n) filter (where state = 'pending'), 0)::bigint as "pending!",
               coalesce(sum(n) filter (where state = 'leased'), 0)::bigint as "leased!",
               coalesce(sum(n) filter (where state = 'delivered'), 0)::bigint as "delivered!",
               coalesce(sum(n) filter (where state = 'dead'), 0)::bigint as "dead!"
          from counted group by destination order by destination
        "#,
        since
    )
    .fetch_all(executor)
    .await
}

/// Events received since a given id, by source.
#[derive(Clone, Debug)]
pub struct SourceCount {
    pub source: String,
    pub events: i64,
    /// How many of them have a mark.
    pub marked: i64,
    pub last_at: OffsetDateTime,
}

pub async fn source_counts(
    executor: impl PgExecutor<'_>,
    since: Uuid,
) -> Result<Vec<SourceCount>, sqlx::Error> {
    sqlx::query_as!(
        SourceCount,
        r#"
        select source, count(*) as "events!", count(mark) as "marked!", max(received_at) as "last_at!"
          from event where id >= $1 group by source order by source
        "#,
        since
    )
    .fetch_all(executor)
    .await
}

/// The state of the database. Counts of big tables are the planner's estimates, because exact ones
/// would read the tables whole.
#[derive(Clone, Debug)]
pub struct DatabaseStatus {
    pub server_version: String,
    pub database: String,
    pub size_bytes: i64,
    pub events_estimate: i64,
    pub keys_estimate: i64,
    pub open_deliveries: i64,
    pub partitions: i64,
    pub oldest_event_at: Option<OffsetDateTime>,
    pub oldest_open_delivery_at: Option<OffsetDateTime>,
}

pub async fn database_status(executor: impl PgExecutor<'_>) -> Result<DatabaseStatus, sqlx::Error> {
    sqlx::query_as!(
        DatabaseStatus,
        r#"
        select current_setting('server_version') as "server_version!",
               current_database()::text as "database!",
               pg_database_size(current_database()) as "size_bytes!",
               (select coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint
                  from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'event'::regclass) as "events_estimate!",
               (select greatest(reltuples, 0)::bigint from pg_class where oid = 'event_key'::regclass) as "keys_estimate!",
               (select count(*) from outbox) as "open_deliveries!",
               (select count(*) from pg_inherits
                 where inhparent in ('event'::regclass, 'delivery_ended'::regclass, 'attempt'::regclass)) as "partitions!",
               (select received_at from event order by id limit 1) as oldest_event_at,
               (select created_at from outbox order by id limit 1) as oldest_open_delivery_at
        "#
    )
    .fetch_one(executor)
    .await
}

/// The newest migration that was applied, or None in a database that hookonce did not migrate. Not
/// a checked query, because the migrator's own table is not part of our schema.
pub async fn schema_version(executor: impl PgExecutor<'_>) -> Option<i64> {
    sqlx::query_scalar("select max(version) from _sqlx_migrations where success")
        .fetch_one(executor)
        .await
        .ok()
        .flatten()
}
