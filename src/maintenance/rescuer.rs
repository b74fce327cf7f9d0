//! Gives deliveries back whose lease is over: their node died, hung, or lost the database.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::{
    backoff::jittered,
    store::{delivery, link::Db},
};

const INTERVAL: Duration = Duration::from_secs(2);
/// How often all leases are looked at; in between only those that have ended since the last look.
/// Most leases are those of deliveries long done, and where a reader's old snapshot keeps vacuum
/// from them, each look from the beginning would pass them all.
const WHOLE_INTERVAL: Duration = Duration::from_secs(60);

pub async fn run(pool: Db, stopping: CancellationToken) {
    let mut since = None;
    let mut whole_at = Instant::now();
    while !stopping.is_cancelled() {
        if since.is_none() {
            whole_at = Instant::now();
        }
        match delivery::rescue(&pool, since).await {
            Ok((rows, now)) => {
                if rows > 0 {
                    tracing::warn!(rows, "leases were over and the deliveries are due again");
                }
                // A lease that was written in a transaction longer than itself ended unseen.
                since = (whole_at.elapsed() < WHOLE_INTERVAL).then_some(now);
            }
            Err(error) => tracing::warn!(%error, "expired leases could not be looked for"),
        }
        let pause = jittered(INTERVAL, 0.5);
        tokio::select! {
            () = stopping.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
