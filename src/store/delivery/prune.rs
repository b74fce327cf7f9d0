//! Open deliveries keep the day of their event from being dropped: without the event there would be
//! nothing to send.

use uuid::Uuid;

use crate::store::link::Db;

/// Whether there is an open delivery of an event with an id from `from` (inclusive) to `to`.
pub async fn is_open_between(pool: &Db, from: Uuid, to: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists(select from outbox where event_id >= $1 and event_id < $2) as "open!""#,
        from,
        to
    )
    .fetch_one(pool)
    .await
}
