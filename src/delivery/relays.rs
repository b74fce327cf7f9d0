//! The relay of one node: a worker for each destination, and one claimer that polls for due
//! deliveries. The database is the authority; the hand-off and hints only save time. Nothing is
//! sent here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    backoff::jittered,
    contract::BreakerState,
    delivery::{
        pace::Pace,
        target::{Target, is_url},
        worker::{Context, Worker},
    },
    handoff::Lane,
    settings::{Destination, Relay, Settings},
    store::{delivery, destination},
};

/// Limit of the bodies of one claim, added up.
const CLAIM_BYTES_MAX: i64 = 32 << 20;
/// Limit of destinations given as a URL that have a worker at once.
const URLS_MAX: i64 = 16;

/// The relay of one node.
pub struct Relays {
    context: Arc<Context>,
    settings: std::sync::RwLock<Relay>,
    running: Mutex<HashMap<Arc<str>, Running>>,
    sends: TaskTracker,
}

struct Running {
    target: Arc<Target>,
    lane: Arc<Lane>,
    /// Ends the worker when its destination is changed or removed. The deliveries that it holds are
    /// given back.
    retired: CancellationToken,
    pace: Pace,
}

/// The breaker of a destination.
pub struct Breaking {
    pub destination: Arc<str>,
    pub state: BreakerState,
    /// How long it lets no attempt through yet.
    pub open_left: Duration,
}

/// Targets that are built but not in use yet.
pub struct NewTargets(Vec<Target>);

impl Relays {
    pub fn new(context: Context, relay: Relay) -> Arc<Self> {
        Arc::new(Self {
            context: Arc::new(context),
            settings: std::sync::RwLock::new(relay),
            running: Mutex::default(),
            sends: TaskTracker::new(),
        })
    }

    /// Builds the targets that the settings change or add, without using them.
    ///
    /// # Errors
    ///
    /// What is wrong with a destination. Nothing has changed then.
    pub fn prepare(&self, settings: &Settings) -> Result<NewTargets, String> {
        let running = self
            .running
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_as_before = |name: &str, destination: &Destination| {
            let running = running.get(name);
            running.is_some_and(|running| running.target.same_as(destination, &settings.relay))
        };
        let changed = settings
            .destinations
            .iter()
            .filter(|(name, new)| !is_as_before(name, new));
        let targets = changed.map(|(name, destination)| {
            let target = Target::new(&name.as_str().into(), destination, &settings.relay);
            target.map_err(|error| format!("destination {name}: {error}"))
        });
        Ok(NewTargets(targets.collect::<Result<_, _>>()?))
    }

    /// Starts, changes and retires workers as the settings say. `new` was prepared from the same
    /// settings.
    pub fn apply(&self, settings: &Settings, new: NewTargets) {
        if let Ok(mut relay) = self.settings.write() {
            *relay = settings.relay.clone();
        }
        let mut running = self
            .running
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        new.0
            .into_iter()
            .for_each(|target| self.spawn(&mut running, target));
        let gone: Vec<Arc<str>> = running
            .keys()
            .filter(|name| !is_url(name) && !settings.destinations.contains_key(&***name))
            .cloned()
            .collect();
        for name in gone {
            self.context.handoff.remove(&name);
            if let Some(running) = running.remove(&name) {
                running.retired.cancel();
            }
        }
    }

    fn spawn(&self, running: &mut HashMap<Arc<str>, Running>, target: Target) {
        let target = Arc::new(target);
        let (lane, receiver) = self.context.handoff.add(target.name.clone());
        let retired = CancellationToken::new();
        let worker = Worker {
            context: self.context.clone(),
            target: target.clone(),
            lane: lane.clone(),
            sends: self.sends.clone(),
        };
        self.sends.spawn(worker.run(receiver, retired.clone()));
        if let Some(old) = running.insert(
            target.name.clone(),
            Running {
                target,
                lane,
                retired,
                pace: Pace::new(),
            },
        ) {
            old.retired.cancel();
        }
    }

    /// The state of each configured destination's breaker on this node.
    pub fn breakers(&self) -> Vec<Breaking> {
        let running = self
            .running
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let state = |running: &Running| {
            let target = &running.target;
            Breaking {
                destination: target.name.clone(),
                state: target.breaker.state(),
                open_left: target.breaker.open_left(),
            }
        };
        running
            .values()
            .filter(|running| !is_url(&running.target.name))
            .map(state)
            .collect()
    }

    /// Polls for due deliveries until the node stops.
    pub async fn claim_until_stopped(self: Arc<Self>) {
        let context = self.context.clone();
        while !context.stopping.is_cancelled() {
            if let Err(error) = self.claim_once().await {
                tracing::warn!(%error, "due deliveries could not be claimed");
            }
            let interval = self
                .settings
                .read()
                .map_or(Duration::from_secs(1), |relay| relay.poll_interval.0);
            let pause = jittered(interval, 0.5);
            tokio::select! {
                () = context.stopping.cancelled() => {}
                () = context.hint.notified() => {}
                () = context.handoff.room() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Claims due deliveries, as far as destinations have room. A destination that got some may
    /// have more due, so it asks again when half of its room is free.
    pub async fn claim_once(&self) -> Result<(), sqlx::Error> {
        self.learn_pauses().await?;
        self.open_urls().await?;
        let wants = self.wants();
        if wants.is_empty() {
            return Ok(());
        }
        let lease = self
            .settings
            .read()
            .map_or(20.0, |relay| relay.lease.as_secs_f64());
        let bytes_max = i64::try_from(self.context.handoff.bytes_left())
            .map_or(CLAIM_BYTES_MAX, |left| left.min(CLAIM_BYTES_MAX));
        let asked: Vec<(&str, i64)> = wants
            .iter()
            .map(|(name, free, _)| (&**name, *free))
            .collect();
        let claimed = delivery::claim(
            &self.context.claiming,
            self.context.node,
            lease,
            &asked,
            bytes_max,
        )
        .await?;
        let mut fed: Vec<&Arc<Lane>> = Vec::new();
        for (destination, leased) in claimed {
            if let Some((.., lane)) = wants.iter().find(|(name, ..)| **name == *destination) {
                self.context.handoff.push(lane, leased);
                if !fed.last().is_some_and(|last| Arc::ptr_eq(last, lane)) {
                    fed.push(lane);
                }
            }
        }
        fed.iter().for_each(|lane| lane.set_hungry());
        Ok(())
    }

    /// The destinations that have room, each with the number of rows that it may get and its lane.
    fn wants(&self) -> Vec<(Arc<str>, i64, Arc<Lane>)> {
        let mut running = self
            .running
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let wants = running.values_mut().filter_map(|running| {
            let paused = self.context.is_paused(&running.target.name);
            let pace = running.pace.update(running.lane.attempted());
            let held_max = if paused {
                0
            } else {
                running.target.held_max(pace)
            };
            // While the breaker lets only a probe through, the hand-off is closed.
            running.lane.set_open(held_max > 1);
            running.lane.set_refill_at(held_max / 2);
            let free = held_max.saturating_sub(running.lane.rows());
            (free > 0).then(|| {
                (
                    running.target.name.clone(),
                    i64::try_from(free).unwrap_or(i64::MAX),
                    running.lane.clone(),
                )
            })
        });
        wants.collect()
    }

    async fn learn_pauses(&self) -> Result<(), sqlx::Error> {
        let paused = destination::paused(&self.context.pool)
            .await?
            .into_iter()
            .collect();
        if **self.context.paused.load() != paused {
            self.context.paused.store(Arc::new(paused));
        }
        Ok(())
    }

    /// Starts a worker for each URL that a replay gave and that has due deliveries. Of the idle
    /// ones only half as many as may run are kept.
    async fn open_urls(&self) -> Result<(), sqlx::Error> {
        let due = destination::due_urls(&self.context.pool, URLS_MAX).await?;
        let Ok(relay) = self.settings.read().map(|relay| relay.clone()) else {
            return Ok(());
        };
        let mut running = self
            .running
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        for url in due {
            let name: Arc<str> = url.as_str().into();
            if running.contains_key(&name)
                || running.keys().filter(|name| is_url(name)).count() >= URLS_MAX as usize
            {
                continue;
            }
            match Target::new(
                &name,
                &Destination {
                    url,
                    ..Destination::default()
                },
                &relay,
            ) {
                Ok(target) => self.spawn(&mut running, target),
                Err(error) => tracing::warn!(
                    destination = &*name,
                    error,
                    "a replay's destination can't be called"
                ),
            }
        }
        let idle: Vec<Arc<str>> = running
            .iter()
            .filter(|(name, running)| is_url(name) && running.lane.rows() == 0)
            .map(|(name, _)| name.clone())
            .collect();
        for name in idle.into_iter().skip(URLS_MAX as usize / 2) {
            self.context.handoff.remove(&name);
            if let Some(running) = running.remove(&name) {
                running.retired.cancel();
            }
        }
        Ok(())
    }

    /// Writes the remaining endings. Call it once nothing is being sent.
    pub async fn close(&self) {
        self.context.finisher.close().await;
    }

    /// Waits at most this long for the attempts under way, then cuts them off. The remaining
    /// deliveries are given back.
    pub async fn drain(&self, at_most: Duration) {
        self.context.stopping.cancel();
        self.sends.close();
        if tokio::time::timeout(at_most, self.sends.wait())
            .await
            .is_err()
        {
            self.context.cut.cancel();
            self.sends.wait().await;
        }
    }
}
