//! Takes over secrets that were learnt or forgotten, here or on another node. It looks at the
//! database periodically and when told, and learns nothing itself.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use hookonce_scheme::Catalog;
use tokio_util::sync::CancellationToken;

use crate::{
    intake::{receiver::Intake, sources::Sources},
    settings::Settings,
    store::{
        learnt::{LearntSecret, learnt_all},
        link::Db,
    },
};

const INTERVAL: Duration = Duration::from_secs(5);

pub struct Learner {
    pub pool: Db,
    pub settings: Arc<ArcSwap<Settings>>,
    pub catalog: Arc<ArcSwap<Catalog>>,
    pub intake: Arc<Intake>,
    pub stopping: CancellationToken,
}

/// The secrets that were learnt. Asks the database only if a source learns.
pub async fn learnt(pool: &Db, settings: &Settings) -> Result<Vec<LearntSecret>, sqlx::Error> {
    if settings.sources.values().any(|source| source.learn_secret) {
        learnt_all(pool).await
    } else {
        Ok(Vec::new())
    }
}

impl Learner {
    pub async fn run(self) {
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
                () = self.intake.learning.changed.notified() => {}
            }
            self.look().await;
        }
    }

    async fn look(&self) {
        let settings = self.settings.load_full();
        let found = match learnt(&self.pool, &settings).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "learnt secrets could not be looked up"
                );
                return;
            }
        };
        let at = |learnt: &LearntSecret| (learnt.source.clone(), learnt.learnt_at);
        if found
            .iter()
            .map(at)
            .eq(self.intake.learning.known.load().iter().map(at))
        {
            return;
        }
        match Sources::build(
            &settings,
            &self.catalog.load(),
            &found,
            self.intake.look_back,
        ) {
            Ok(sources) => {
                self.intake.replace_sources(sources);
                self.intake.learning.known.store(Arc::new(found));
            }
            Err(errors) => tracing::error!(
                errors = super::schemes::scheme_errors(&errors),
                "a learnt secret can't be used"
            ),
        }
        // Settings that were swapped in meanwhile were built without the new secrets, so look
        // again.
        if !Arc::ptr_eq(&settings, &self.settings.load_full()) {
            self.intake.learning.changed.notify_one();
        }
    }
}
