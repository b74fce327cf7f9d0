//! What is known already: rows of keys, and events as they are kept. What a known key means for a
//! request is not decided here.

use bytes::Bytes;
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::event::{BodyDigest, Key, Mark};

/// A row of `event_key`.
#[derive(Clone, Copy, Debug)]
pub struct SeenKey {
    pub key: Key,
    pub event_id: Uuid,
    pub digest: BodyDigest,
    /// How long the key still counts. Not positive if it has expired but is not deleted yet.
    pub seconds_left: f64,
}

impl SeenKey {
    pub fn counts(&self) -> bool {
        self.seconds_left > 0.0
    }
}

/// Deletes those of the keys that have expired, ahead of the pruner. Whoever inserts one next is
/// its first, as the unique index decides.
pub async fn forget_expired(
    connection: &mut PgConnection,
    keys: &[Key],
) -> Result<(), sqlx::Error> {
    let keys: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
    // `is true` keeps the planner from using an index on the time: a plan made while the table is
    // empty would read all of it.
    sqlx::query!(
        "delete from event_key where key = any($1) and (expires_at <= now()) is true",
        &keys
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The rows of these keys.
pub async fn seen(
    connection: &mut PgConnection,
    keys: &[Key],
) -> Result<Vec<SeenKey>, sqlx::Error> {
    let keys: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
    let rows = sqlx::query!(
        r#"
        select key, event_id, body_digest, extract(epoch from expires_at - now())::float8 as "seconds_left!"
          from event_key where key = any($1)
        "#,
        &keys
    )
    .fetch_all(connection)
    .await?;
    let seen = |key, event_id, digest: Vec<u8>, seconds_left| {
        Some(SeenKey {
            key,
            event_id,
            digest: BodyDigest(digest.try_into().ok()?),
            seconds_left,
        })
    };
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            seen(
                row.key.into(),
                row.event_id,
                row.body_digest,
                row.seconds_left,
            )
        })
        .collect())
}

/// When the last key expires that was recorded in the form of earlier versions. None if all have
/// expired.
pub async fn keys_before_until(
    executor: impl PgExecutor<'_>,
) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    sqlx::query_scalar!("select until from keys_before where until > now() limit 1")
        .fetch_optional(executor)
        .await
}

/// A stored event, with what is needed to read its request anew.
pub struct StoredEvent {
    pub key: Key,
    /// A JSON array of [name, value] pairs.
    pub headers: String,
    pub body: Bytes,
    /// Whether it is a part of a request that was split.
    pub is_item: bool,
    pub mark: Option<Mark>,
}

pub async fn stored(
    executor: impl PgExecutor<'_>,
    id: Uuid,
) -> Result<Option<StoredEvent>, sqlx::Error> {
    let row = sqlx::query!(
        "select key, headers, body, original_id, mark from event where id = $1",
        id
    )
    .fetch_optional(executor)
    .await?;
    Ok(row.map(|row| StoredEvent {
        key: row.key.into(),
        headers: row.headers,
        body: row.body.into(),
        is_item: row.original_id.is_some(),
        mark: row.mark.as_deref().and_then(Mark::parse),
    }))
}
