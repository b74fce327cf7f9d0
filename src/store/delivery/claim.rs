//! Claims: which deliveries are due, and who gets them.

use std::{sync::Arc, time::Instant};

use uuid::Uuid;

use crate::{
    contract::DeliveryId,
    event::{Key, Mark},
    handoff::{Leased, RelayEvent},
    store::link::Db,
};

/// Due deliveries of these destinations, the longest due first, at most `wanted` of each. Takes no
/// lock: `claim` decides who wins.
async fn due(
    pool: &Db,
    destinations: &[&str],
    wanted: &[i64],
) -> Result<Vec<(DeliveryId, Key, i64, i32)>, sqlx::Error> {
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

/// Takes due deliveries, by their primary key: states are compared so that no partial index seems
/// to serve, which is read to its end where the statistics are of another hour. Each epoch is
/// raised only where it is still the one that was seen, so two nodes can't both win. Returns them
/// by destination; bodies add up to at most `bytes_max`, but one is always taken.
pub async fn claim(
    pool: &Db,
    node: Uuid,
    lease_seconds: f64,
    wants: &[(&str, i64)],
    bytes_max: i64,
) -> Result<Vec<(String, Leased)>, sqlx::Error> {
    let destinations: Vec<&str> = wants.iter().map(|(destination, _)| *destination).collect();
    let wanted: Vec<i64> = wants.iter().map(|(_, rows)| *rows).collect();
    let mut bytes = 0;
    let candidates: Vec<_> = due(pool, &destinations, &wanted)
        .await?
        .into_iter()
        .take_while(|(.., size)| {
            let first = bytes == 0;
            bytes += i64::from(*size).max(1);
            first || bytes <= bytes_max
        })
        .collect();
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
                        let (source, mark) =
                            (row.source.into(), row.mark.as_deref().and_then(Mark::parse));
                        let (id, event_type, body) =
                            (row.event_id.into(), row.event_type, body.into());
                        Arc::new(RelayEvent {
                            id,
                            source,
                            event_key,
                            event_type,
                            mark,
                            headers,
                            body,
                        })
                    });
            let (id, key, epoch) = (row.id.into(), row.key.into(), row.epoch);
            let leased = Leased {
                id,
                key,
                epoch,
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
