//! Whether this node can do what it is asked for: found out twice a second, by doing it.

use std::{sync::Arc, time::Duration};

use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use super::{health::Readiness, recorder::Recorder};
use crate::store::{
    link::{Db, Dialer, within},
    schema,
};

const INTERVAL: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(1);

/// Asks the database what the writers will want of it, on a connection like theirs.
pub struct Probe {
    pool: Db,
    dialer: Dialer,
    connection: Option<PgConnection>,
    recorder: Arc<Recorder>,
    /// Who answered last.
    server: Option<String>,
}

impl Probe {
    pub fn new(pool: Db, dialer: Dialer, recorder: Arc<Recorder>) -> Self {
        Self { pool, dialer, connection: None, recorder, server: None }
    }

    /// Whether events can be recorded now, and all else be asked. Where another server answers, or none, what is remembered of the old one is
    /// forgotten: so it is asked before the first event comes.
    pub async fn is_well(&mut self) -> bool {
        let pool = self.pool.clone();
        let (written, answered) = tokio::join!(self.write(), within(TIMEOUT, schema::answers(&pool)));
        match written {
            Ok(server) if self.server.as_ref() == Some(&server) => {}
            Ok(server) => {
                if self.server.replace(server).is_some() {
                    tracing::warn!("another database answers, or one that was restored: what was remembered of repeats is forgotten");
                    self.recorder.recent().forget();
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the database can't be written to");
                self.connection = None;
                self.recorder.recent().forget();
                return false;
            }
        }
        answered.is_ok() && !self.recorder.is_stuck()
    }

    async fn write(&mut self) -> Result<String, sqlx::Error> {
        let written = async {
            let connection = match &mut self.connection {
                Some(connection) => connection,
                none => none.insert(self.dialer.connect().await?),
            };
            schema::writes(connection).await
        };
        within(TIMEOUT, written).await
    }

    /// Keeps readiness current: it flips within two seconds, both ways.
    pub async fn watch(mut self, readiness: Readiness, stopping: CancellationToken) {
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            let is_well = self.is_well().await;
            if stopping.is_cancelled() {
                return;
            }
            if readiness.get() != is_well {
                tracing::warn!(ready = is_well, "readiness changed");
            }
            readiness.set(is_well);
        }
    }
}
