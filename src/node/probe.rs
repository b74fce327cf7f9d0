//! Finds out twice a second whether this node can do its work, by doing it. Who may ask is decided
//! elsewhere.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    ids,
    intake::recorder::Recorder,
    node::skew::{Said, SkewWatch},
    readiness::Readiness,
    store::{
        Error,
        link::{Db, Dialer, within},
        schema,
    },
};

const INTERVAL: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(1);

/// Asks the database for what the writers need of it, on a connection like theirs.
pub struct Probe {
    pool: Db,
    dialer: Dialer,
    connection: Option<(PgConnection, Option<schema::Pages>)>,
    recorder: Arc<Recorder>,
    /// The server that answered last.
    server: Option<String>,
    clock: Clock,
    readiness: Readiness,
    skew: SkewWatch,
    /// Why the node is not well, as found last.
    why: Option<String>,
}

impl Probe {
    /// `skew_max`: how far the clock may be off the database's before that is reported.
    pub fn new(
        pool: Db,
        dialer: Dialer,
        recorder: Arc<Recorder>,
        clock: Clock,
        readiness: Readiness,
        skew_max: Duration,
    ) -> Self {
        Self {
            pool,
            dialer,
            connection: None,
            recorder,
            server: None,
            clock,
            readiness,
            skew: SkewWatch::new(skew_max),
            why: None,
        }
    }

    /// Whether events can be recorded now and queries are answered. If another server answers, or
    /// none, what is remembered of repeats is forgotten. So call it before the first event.
    pub async fn is_well(&mut self) -> bool {
        let pool = self.pool.clone();
        let (written, answered) =
            tokio::join!(self.write(), within(TIMEOUT, schema::answers(&pool)));
        match written {
            Ok(server) if self.server.as_ref() == Some(&server) => {}
            Ok(server) => {
                if self.server.replace(server).is_some() {
                    tracing::warn!(
                        "another database answers, or one that was restored: what was remembered of repeats is forgotten"
                    );
                    self.recorder.recent().forget();
                }
            }
            Err(error) => {
                self.why = Some(format!("the database can't be written to: {error}"));
                self.connection = None;
                self.recorder.recent().forget();
                return false;
            }
        }
        self.why = match answered {
            Err(error) => Some(format!("the database does not answer: {error}")),
            Ok(()) if self.recorder.is_stuck() => Some("batches are not taken".into()),
            Ok(()) => None,
        };
        self.why.is_none()
    }

    async fn write(&mut self) -> Result<String, Error> {
        let written = async {
            let (connection, pages) = match &mut self.connection {
                Some(connection) => connection,
                none => {
                    let mut connection = self.dialer.connect().await?;
                    let pages = schema::Pages::of(&mut connection).await?;
                    none.insert((connection, pages))
                }
            };
            if let Some(pages) = pages {
                pages.take(connection).await?;
            }
            let (node_before, before) = (self.clock.unix_ms(), Instant::now());
            let schema::Written { server, at_unix_ms } = schema::writes(connection).await?;
            Ok::<_, Error>((server, at_unix_ms, node_before, before))
        };
        let (server, at_unix_ms, node_before, before) = within(TIMEOUT, written).await?;
        let uncertainty = before.elapsed() / 2;
        ids::follow(at_unix_ms, before + uncertainty, uncertainty);
        let node_unix_ms = node_before.midpoint(self.clock.unix_ms());
        self.tell(node_unix_ms.saturating_sub(at_unix_ms), uncertainty);
        Ok(server)
    }

    fn tell(&mut self, offset_ms: i64, uncertainty: Duration) {
        match self.skew.note(
            self.readiness.skew(),
            offset_ms,
            uncertainty,
            Instant::now(),
        ) {
            Said::Nothing => {}
            Said::Over => tracing::warn!(
                offset_ms,
                "this node's clock is off the database's by more than database.clock_skew_max: signatures with a time in them may be refused. \
                 Set the clocks by NTP"
            ),
            Said::Ended => tracing::warn!(
                offset_ms,
                "this node's clock agrees with the database's again"
            ),
        }
    }

    /// Keeps readiness current until the node stops. It changes within two seconds, both ways.
    pub async fn watch(mut self, stopping: CancellationToken) {
        let readiness = self.readiness.clone();
        if let Some(why) = &self.why {
            tracing::warn!(why, "not ready yet");
        }
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
                tracing::warn!(
                    ready = is_well,
                    why = self.why.as_deref(),
                    "readiness changed"
                );
            }
            readiness.set(is_well);
        }
    }
}
