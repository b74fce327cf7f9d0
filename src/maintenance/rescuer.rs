//! Gives deliveries back whose lease is over: their node died, hung, or lost the database.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::store::outbox;

const INTERVAL: Duration = Duration::from_secs(2);

pub async fn run(pool: PgPool, stopping: CancellationToken) {
    while !stopping.is_cancelled() {
        match outbox::rescue(&pool).await {
            Ok(0) => {}
            Ok(rows) => tracing::warn!(rows, "leases were over and the deliveries are due again"),
            Err(error) => tracing::warn!(%error, "expired leases could not be looked for"),
        }
        let pause = INTERVAL.mul_f64(0.5 + rand::random::<f64>());
        tokio::select! {
            () = stopping.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
