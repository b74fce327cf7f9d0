//! Conflicts: verified requests that share their key with an event of another body, or their body
//! with an event of another unsigned id. The recorder keeps them. They are listed and read here,
//! and made into events of their own when an operator says so.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    contract::{ConflictId, ConflictKind, EventId},
    event::{BodyDigest, Mark, other_body_key_of},
    ids,
    store::inbox::NewEvent,
};

/// Keeps a request that is not the event of its key, at most once per key and `compared`. If the
/// request took the key although it became no event, the key is pointed at the first event.
pub async fn keep(
    connection: &mut PgConnection,
    event: &NewEvent,
    compared: &BodyDigest,
    first: Uuid,
    same_body: bool,
) -> Result<(), sqlx::Error> {
    let (kind, body): (_, &[u8]) = match same_body {
        true => (ConflictKind::SameBodyNewId, b""),
        false => (ConflictKind::OtherBody, event.request.body()),
    };
    sqlx::query!(
        r#"
        with repointed as (update event_key set event_id = $4 where key = $1 and event_id = $3)
        insert into conflict (key, body_digest, id, event_id, kind, source, event_key, event_type, headers, body)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        on conflict (key, body_digest) do nothing
        "#,
        event.key.0,
        &compared.0[..],
        event.id,
        first,
        kind.as_str(),
        &*event.source,
        event.event_key(),
        event.request.event_type(),
        event.headers,
        body,
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[derive(Clone, Debug)]
pub struct ConflictRow {
    pub id: ConflictId,
    /// The event that came first.
    pub event: EventId,
    pub kind: ConflictKind,
    pub source: String,
    pub event_key: String,
    pub event_type: Option<String>,
    pub received_at: OffsetDateTime,
    /// SHA-256 in hex of the bytes that repeats are compared by.
    pub body_digest: String,
    pub body_bytes: i32,
    /// The event that the conflict was made into by `relay`.
    pub relayed_as: Option<Uuid>,
}

/// Which conflicts to list. None means no limit.
#[derive(Clone, Debug, Default)]
pub struct ConflictFilter {
    pub source: Option<String>,
    pub event: Option<Uuid>,
    /// The lowest id, made from the lower bound of time.
    pub from: Option<Uuid>,
    /// All ids must be below this one: the cursor, or the upper bound of time.
    pub below: Option<Uuid>,
}

/// Newest first.
pub async fn list(
    executor: impl PgExecutor<'_>,
    filter: &ConflictFilter,
    limit: i64,
) -> Result<Vec<ConflictRow>, sqlx::Error> {
    sqlx::query_as!(
        ConflictRow,
        r#"
        select id, event_id as event, kind as "kind: ConflictKind", source, event_key, event_type, received_at, encode(body_digest, 'hex') as "body_digest!",
               octet_length(body) as "body_bytes!", relayed_as
          from conflict
         where ($1::text is null or source = $1)
           and ($2::uuid is null or event_id = $2)
           and ($3::uuid is null or id >= $3)
           and ($4::uuid is null or id < $4)
         order by id desc
         limit $5
        "#,
        filter.source.as_deref(),
        filter.event,
        filter.from,
        filter.below,
        limit
    )
    .fetch_all(executor)
    .await
}

/// How many conflicts a source has, and how many of them nobody has relayed.
#[derive(Clone, Debug)]
pub struct ConflictCount {
    pub source: String,
    pub conflicts: i64,
    pub not_relayed: i64,
}

pub async fn counts(executor: impl PgExecutor<'_>) -> Result<Vec<ConflictCount>, sqlx::Error> {
    sqlx::query_as!(
        ConflictCount,
        r#"
        select source, count(*) as "conflicts!", count(*) filter (where relayed_as is null) as "not_relayed!"
          from conflict group by source order by source
        "#
    )
    .fetch_all(executor)
    .await
}

/// A conflict with all that was received.
#[derive(Clone, Debug)]
pub struct WholeConflict {
    pub id: ConflictId,
    pub event: EventId,
    pub kind: ConflictKind,
    pub source: String,
    pub event_key: String,
    pub event_type: Option<String>,
    pub received_at: OffsetDateTime,
    pub headers: String,
    /// Empty if the body is the first event's own.
    pub body: Vec<u8>,
    pub body_digest: Vec<u8>,
    pub relayed_as: Option<Uuid>,
}

impl WholeConflict {
    pub fn has_own_body(&self) -> bool {
        self.kind == ConflictKind::OtherBody
    }
}

pub async fn find(
    executor: impl PgExecutor<'_>,
    id: Uuid,
) -> Result<Option<WholeConflict>, sqlx::Error> {
    sqlx::query_as!(
        WholeConflict,
        r#"
        select id, event_id as event, kind as "kind: ConflictKind", source, event_key, event_type, received_at, headers, body, body_digest,
               relayed_as
          from conflict where id = $1
        "#,
        id
    )
    .fetch_optional(executor)
    .await
}

/// Makes a conflict an event of its own, with a delivery for each of these destinations. Returns
/// the event's id, or None if the conflict was relayed before.
pub async fn relay(
    executor: impl PgExecutor<'_>,
    conflict: &WholeConflict,
    body: &[u8],
    destinations: &[&str],
) -> Result<Option<Uuid>, sqlx::Error> {
    let (id, exact) = (ids::new(), BodyDigest::of(body));
    let compared = BodyDigest(
        conflict
            .body_digest
            .as_slice()
            .try_into()
            .unwrap_or(exact.0),
    );
    let mark = if conflict.has_own_body() {
        Mark::OtherBody
    } else {
        Mark::SameBody
    };
    let deliveries: Vec<Uuid> = destinations.iter().map(|_| ids::new()).collect();
    sqlx::query_file_scalar!(
        "src/store/conflict/relay.sql",
        conflict.id.0,
        id,
        other_body_key_of(&conflict.source, &conflict.event_key, &compared).0,
        body,
        &exact.0[..],
        mark.as_str(),
        &deliveries,
        destinations as &[&str],
    )
    .fetch_optional(executor)
    .await
}
