//! Makes deliveries due again whose lease is over because their node died, hung, or lost the
//! database. It sends nothing.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::{
    backoff::jittered,
    meters::Meters,
    store::{delivery, link::Db},
};

const INTERVAL: Duration = Duration::from_secs(2);
/// How often all leases are looked at; in between, only those that ended since the last look. A
/// reader's old snapshot keeps vacuum from the rows of finished deliveries, and a look from the
/// beginning passes all of them.
const WHOLE_INTERVAL: Duration = Duration::from_secs(60);

pub async fn run(pool: Db, meters: Meters, stopping: CancellationToken) {
    let mut since = None;
    let mut whole_at = Instant::now();
    while !stopping.is_cancelled() {
        if since.is_none() {
            whole_at = Instant::now();
        }
        match delivery::rescue(&pool, since).await {
            Ok((rows, now)) => {
                meters.rescued(rows);
                if rows > 0 {
                    tracing::warn!(rows, "leases were over and the deliveries are due again");
                }
                // The look at all leases also finds a lease that was over before its transaction
                // was committed.
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
