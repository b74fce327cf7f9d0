//! Keys that consumers have seen: only the first consumer to bring a key is told that it is first.
//! With a lease, the first must say that it is done, or another becomes the first. The inserting
//! statement decides what is new. What a consumer does with the answer is its own matter.

use std::collections::HashMap;

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;

use super::{batches::in_batches, link::Db};
use crate::{event::Key, ids};

/// A key that somebody wants to handle.
#[derive(Clone, Debug)]
pub struct NewMark {
    pub key: Key,
    /// A repeat of the call has the same id, and so gets the same answer.
    pub claim_id: String,
    /// None marks the key for good, even if the caller is lost.
    pub lease_seconds: Option<f64>,
    pub window_seconds: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// The caller is the first and handles it; with a lease, until `lease_until`.
    First {
        fence: i64,
        lease_until: Option<OffsetDateTime>,
    },
    /// The key was handled, or marked for good, at this time.
    Seen { at: OffsetDateTime },
    /// Another caller is handling it, and its lease has this many seconds left.
    Leased { seconds: f64 },
}

struct Row {
    fence: i64,
    claim_id: String,
    marked_at: OffsetDateTime,
    lease_until: Option<OffsetDateTime>,
    lease_left: Option<f64>,
    is_over: bool,
}

fn mark_of(mark: &NewMark, row: &Row) -> Option<Mark> {
    match row.lease_left {
        _ if row.is_over => None,
        Some(left) if left < 0.0 => None,
        _ if row.claim_id == mark.claim_id => Some(Mark::First {
            fence: row.fence,
            lease_until: row.lease_until,
        }),
        None => Some(Mark::Seen { at: row.marked_at }),
        Some(seconds) => Some(Mark::Leased { seconds }),
    }
}

/// Decides in one statement who is the first to bring each key. A known key is only read. None
/// means that the caller must ask again, because the row changed meanwhile.
pub async fn mark(
    connection: &mut PgConnection,
    marks: &[&NewMark],
) -> Result<Vec<Option<Mark>>, sqlx::Error> {
    let mut firsts: Vec<&NewMark> = marks.to_vec();
    firsts.sort_by_key(|mark| mark.key);
    firsts.dedup_by_key(|mark| mark.key);
    let rows = sqlx::query_file!(
        "src/store/dedup/mark.sql",
        &firsts.iter().map(|mark| mark.key.0).collect::<Vec<_>>(),
        &firsts
            .iter()
            .map(|mark| &*mark.claim_id)
            .collect::<Vec<_>>() as &[&str],
        &firsts
            .iter()
            .map(|mark| mark.lease_seconds)
            .collect::<Vec<_>>() as &[Option<f64>],
        &firsts
            .iter()
            .map(|mark| mark.window_seconds)
            .collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await?;
    let rows: HashMap<Key, Row> = rows
        .into_iter()
        .map(|r| {
            let (fence, claim_id, marked_at, is_over) =
                (r.fence, r.claim_id, r.marked_at, r.is_over);
            (
                r.key.into(),
                Row {
                    fence,
                    claim_id,
                    marked_at,
                    lease_until: r.lease_until,
                    lease_left: r.lease_left,
                    is_over,
                },
            )
        })
        .collect();
    Ok(marks
        .iter()
        .map(|mark| rows.get(&mark.key).and_then(|row| mark_of(mark, row)))
        .collect())
}

/// A key as its holder left it.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    pub claim_id: String,
    pub lease_until: Option<OffsetDateTime>,
}

/// Makes the lease of a key end this many seconds from now, and its window not before that. A lease
/// that is over is extended too, unless another has taken the key. None if the fence has moved or
/// the key is not leased.
pub async fn heartbeat(
    executor: impl PgExecutor<'_>,
    key: Key,
    fence: i64,
    lease_seconds: f64,
) -> Result<Option<Held>, sqlx::Error> {
    sqlx::query_as!(
        Held,
        r#"
        update dedup_key set lease_until = now() + $3 * interval '1 second',
               expires_at = greatest(expires_at, now() + $3 * interval '1 second')
         where key = $1 and fence = $2 and lease_until > to_timestamp(0)
        returning claim_id, lease_until
        "#,
        key.0,
        fence,
        lease_seconds,
    )
    .fetch_optional(executor)
    .await
}

/// Frees a leased key at once. Its fence is raised, so that the holder can change nothing more. A
/// repeat of the call changes nothing. None if the fence has moved or the key is not leased.
pub async fn release(
    executor: impl PgExecutor<'_> + Copy,
    key: Key,
    fence: i64,
) -> Result<Option<Held>, sqlx::Error> {
    // No lease ends in 1970: such a key was released, under the fence before.
    let released = sqlx::query_as!(
        Held,
        r#"
        update dedup_key set lease_until = to_timestamp(0), fence = fence + 1
         where key = $1 and fence = $2 and lease_until > to_timestamp(0)
        returning claim_id, lease_until
        "#,
        key.0,
        fence,
    )
    .fetch_optional(executor)
    .await?;
    if released.is_some() {
        return Ok(released);
    }
    sqlx::query_as!(
        Held,
        "select claim_id, lease_until from dedup_key where key = $1 and fence = $2 and lease_until = to_timestamp(0)",
        key.0,
        fence.saturating_add(1),
    )
    .fetch_optional(executor)
    .await
}

/// Says that a leased key is handled, also by a repeat of the call. None if the fence has moved or
/// the key is not known.
pub async fn done(
    executor: impl PgExecutor<'_> + Copy,
    key: Key,
    fence: i64,
) -> Result<Option<Held>, sqlx::Error> {
    let done = sqlx::query_as!(
        Held,
        r#"
        update dedup_key set lease_until = null where key = $1 and fence = $2 and lease_until > to_timestamp(0)
        returning claim_id, lease_until
        "#,
        key.0,
        fence,
    )
    .fetch_optional(executor)
    .await?;
    if done.is_some() {
        return Ok(done);
    }
    sqlx::query_as!(
        Held,
        "select claim_id, lease_until from dedup_key where key = $1 and fence = $2 and lease_until is null",
        key.0,
        fence,
    )
    .fetch_optional(executor)
    .await
}

/// Forgets keys whose window is over, in batches.
pub async fn prune(pool: &Db, rows_max: i64) -> Result<u64, sqlx::Error> {
    in_batches(rows_max, || sqlx::query!(
            "delete from dedup_key where key = any(array(select key from dedup_key where expires_at < now() limit $1)) and expires_at < now()",
            rows_max
        ).execute(pool)).await
}

/// A claim id for a call that brought none, so that our own retries of the statement get the same
/// answer.
pub fn claim_id() -> String {
    ids::new().to_string()
}
