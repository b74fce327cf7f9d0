//! Claims: which deliveries are due, and which node gets them. What is done with them is not
//! decided here.

use std::{sync::Arc, time::Instant};

use uuid::Uuid;

use crate::{
    contract::DeliveryId,
    event::{Key, Mark},
    handoff::{Leased, RelayEvent},
    store::link::Db,
};

/// A due delivery as it was seen: its id, key, epoch and the length of its body.
type Candidate = (DeliveryId, Key, i64, i32);

/// Due deliveries of these destinations, the longest due first, at most `wanted` of each. Takes no
/// lock, because `claim` decides who wins.
async fn due(
    pool: &Db,
    destinations: &[&str],
    wanted: &[i64],
) -> Result<Vec<Candidate>, sqlx::Error> {
    let rows = sqlx::query_file!(
        "src/store/delivery/due.sql",
        destinations as &[&str],
        wanted,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.id.into(), row.key.into(), row.epoch, row.body_bytes))
        .collect())
}

/// What `due` finds, as long as the bodies add up to at most `bytes_max`; one is always taken.
async fn candidates(
    pool: &Db,
    wants: &[(&str, i64)],
    bytes_max: i64,
) -> Result<Vec<Candidate>, sqlx::Error> {
    let destinations: Vec<&str> = wants.iter().map(|(destination, _)| *destination).collect();
    let wanted: Vec<i64> = wants.iter().map(|(_, rows)| *rows).collect();
    let mut bytes = 0;
    Ok(due(pool, &destinations, &wanted)
        .await?
        .into_iter()
        .take_while(|(.., size)| {
            let first = bytes == 0;
            bytes += i64::from(*size).max(1);
            first || bytes <= bytes_max
        })
        .collect())
}

/// Takes due deliveries and returns each with its destination. An epoch is raised only if it is
/// still the one that was seen, so two nodes can't both win a delivery. Bodies add up to at most
/// `bytes_max`, but one delivery is always taken.
///
/// The rows are found by their primary key. The statement compares the state by `<>`, so that the
/// planner can't choose a partial index: with stale statistics it would read that to its end.
pub async fn claim(
    pool: &Db,
    node: Uuid,
    lease_seconds: f64,
    wants: &[(&str, i64)],
    bytes_max: i64,
) -> Result<Vec<(String, Leased)>, sqlx::Error> {
    let candidates = candidates(pool, wants, bytes_max).await?;
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = candidates.iter().map(|candidate| candidate.0.0).collect();
    let keys: Vec<Uuid> = candidates.iter().map(|candidate| candidate.1.0).collect();
    let epochs: Vec<i64> = candidates.iter().map(|candidate| candidate.2).collect();
    let leased_at = Instant::now();
    let rows = sqlx::query_file!(
        "src/store/delivery/claim.sql",
        &ids,
        &keys,
        &epochs,
        lease_seconds,
        node,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let event =
                row.event_key
                    .zip(row.headers)
                    .zip(row.body)
                    .map(|((event_key, headers), body)| {
                        Arc::new(RelayEvent {
                            id: row.event_id.into(),
                            source: row.source.into(),
                            event_key,
                            event_type: row.event_type,
                            mark: row.mark.as_deref().and_then(Mark::parse),
                            headers,
                            body: body.into(),
                        })
                    });
            let leased = Leased {
                id: row.id.into(),
                key: row.key.into(),
                epoch: row.epoch,
                attempts: row.attempts,
                replay_id: row.replay_id.map(Into::into),
                age_seconds: row.age_seconds,
                leased_at,
                event,
            };
            (row.destination, leased)
        })
        .collect())
}
