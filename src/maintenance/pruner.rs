//! Runs retention: prepares the partitions of the days to come and removes what is past its time.
//! `store::retention` knows what that is. It also makes the indexes that a migration has left out.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    backoff::jittered,
    settings::Settings,
    store::{indexes, link::Db, retention},
};

/// Prunes until the node stops. `current` returns the settings in force, so a reload takes effect
/// in the next round.
pub async fn run(pool: Db, current: impl Fn() -> Arc<Settings>, stopping: CancellationToken) {
    while !stopping.is_cancelled() {
        tokio::select! {
            () = stopping.cancelled() => return,
            made = indexes::make_missing(&pool) => if let Err(error) = made {
                tracing::warn!(%error, "an index could not be made and is tried again");
            }
        }
        let settings = current();
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(jittered(settings.retention.interval.0, 0.25)) => {}
        }
        let done = match retention::prepare(&pool).await {
            Ok(()) => retention::prune(&pool, &settings).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(pruned) => {
                if !pruned.held.is_empty() {
                    tracing::warn!(held = ?pruned.held, "days past their retention are kept: open deliveries need their events");
                }
                tracing::debug!(?pruned, "pruned");
            }
            Err(error) => tracing::warn!(%error, "pruning failed and is tried again"),
        }
    }
}
