//! Records the events that applications emitted in transactions of their own, and tells the
//! functions that they call what the settings say. How an event is recorded is `store::emitted`'s.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::jittered,
    routing::LikeRoutes,
    settings::{LEDGER_SOURCE, Settings},
    store::{
        emitted::{self, Windows},
        link::Db,
        terms,
    },
};

/// How often events are looked at again whose source no settings knew. Another node may have held
/// them.
const HELD_INTERVAL: Duration = Duration::from_secs(60);

/// Records events until the node stops.
pub struct Emitter<C> {
    pub pool: Db,
    /// The settings in force, so that a reload takes effect with the next look.
    pub current: C,
    /// Tells this process's relay that deliveries may be due.
    pub hint: Arc<Notify>,
}

/// What the settings in force come to.
struct Known {
    settings: Arc<Settings>,
    windows: Windows,
    routes: LikeRoutes,
    /// When the settings were last told to the functions, and held events let wait again.
    told: Option<Instant>,
}

impl Known {
    fn of(settings: Arc<Settings>) -> Self {
        let keys = settings.retention.keys;
        let mut windows = Windows::default();
        windows.sources.push(LEDGER_SOURCE.to_owned());
        windows.seconds.push(keys.as_secs_f64());
        for (name, source) in &settings.sources {
            windows.sources.push(name.clone());
            windows
                .seconds
                .push(source.window.unwrap_or(keys).as_secs_f64());
        }
        Self {
            windows,
            routes: LikeRoutes::of(&settings),
            settings,
            told: None,
        }
    }
}

impl<C: Fn() -> Arc<Settings>> Emitter<C> {
    pub async fn run_until_stopped(self, stopping: CancellationToken) {
        let mut known = Known::of((self.current)());
        while !stopping.is_cancelled() {
            if !Arc::ptr_eq(&known.settings, &(self.current)()) {
                known = Known::of((self.current)());
            }
            if let Err(error) = self.look(&mut known).await {
                tracing::warn!(%error, "events that transactions emitted could not be recorded");
            }
            let pause = jittered(known.settings.relay.poll_interval.0, 0.5);
            tokio::select! {
                () = stopping.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn look(&self, known: &mut Known) -> Result<(), sqlx::Error> {
        if known.told.is_none_or(|told| told.elapsed() > HELD_INTERVAL) {
            terms::write(&self.pool, &known.settings.ledger).await?;
            emitted::unhold(&self.pool, &known.windows.sources).await?;
            known.told = Some(Instant::now());
        }
        let rows_max = known.settings.database.batch_rows_max;
        while emitted::is_waiting(&self.pool).await? {
            let (windows, routes) = (&known.windows, &known.routes);
            let drained = emitted::record(&self.pool, windows, routes, rows_max).await?;
            if drained.deliveries > 0 {
                self.hint.notify_one();
            }
            if !drained.held.is_empty() {
                let sources = drained.held;
                tracing::warn!(
                    ?sources,
                    "events were emitted for sources that the settings don't know: they wait until they do"
                );
            }
            // What is left was taken by another node, or waits for a key to be seen.
            if drained.gone == 0 {
                return Ok(());
            }
        }
        Ok(())
    }
}
