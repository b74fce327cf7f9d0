//! What a node counts since it started: requests, attempts, batches and more. Counting waits for
//! nothing and asks no database. Who shows the counts is not decided here.
//!
//! Names and units follow Prometheus' naming conventions
//! (prometheus.io/docs/practices/naming): base units, totals end with `_total`. The values of a
//! label are sources, destinations and gateways of the settings, or words of this code, so that a
//! stranger's request never makes a series.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::contract::{AttemptOutcome, RequestStatus};

/// Seconds. An acknowledgement takes a millisecond or two, and a handler up to its timeout.
const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];
/// Seconds from an acknowledgement to the first attempt, which waits if a destination is slow.
const ARRIVAL_SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 10.0, 60.0, 600.0, 3600.0,
];
const ROWS: [f64; 8] = [1.0, 4.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Stands for all destinations that replays gave as a URL.
pub const URL: &str = "(url)";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSource {
    source: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    source: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejection {
    source: Arc<str>,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDestination {
    destination: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    destination: Arc<str>,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfQueue {
    queue: &'static str,
}

/// A count: of what, its word, and how many since the node started.
pub type Count = (Arc<str>, &'static str, u64);

/// A family of counters whose values can be listed.
struct Counts<L> {
    family: Family<L, Counter>,
    known: RwLock<HashMap<(Arc<str>, &'static str), Counter>>,
    labels: fn(Arc<str>, &'static str) -> L,
}

impl<L: Clone + Eq + Hash> Counts<L> {
    fn new(labels: fn(Arc<str>, &'static str) -> L) -> Self {
        Self {
            family: Family::default(),
            known: RwLock::default(),
            labels,
        }
    }

    fn count(&self, of: &Arc<str>, word: &'static str) {
        let key = (of.clone(), word);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = known.get(&key) {
            counter.inc();
            return;
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let labels = (self.labels)(of.clone(), word);
        let counter = known
            .entry(key)
            .or_insert_with(|| self.family.get_or_create_owned(&labels));
        counter.inc();
    }

    fn all(&self) -> Vec<Count> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .map(|((of, word), counter)| (of.clone(), *word, counter.get()))
            .collect()
    }
}

/// A family of histograms over fixed bounds.
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// All counts of a node. Cloning is cheap, and clones count together.
#[derive(Clone)]
pub struct Meters(Arc<Inner>);

struct Inner {
    registry: Registry,
    requests: Counts<Request>,
    rejections: Family<Rejection, Counter>,
    acknowledged: Histograms<OfSource>,
    attempts: Counts<Attempt>,
    attempt_seconds: Histograms<OfDestination>,
    arrival_seconds: Histograms<OfDestination>,
    batch_rows: Histograms<OfQueue>,
    batch_wait: Histograms<OfQueue>,
    statement_seconds: Histograms<OfQueue>,
    rescued: Counter,
    config_generation: Gauge,
    reload_succeeded: Gauge,
}

impl Default for Meters {
    fn default() -> Self {
        let mut inner = Inner {
            registry: Registry::with_prefix("hookonce"),
            requests: Counts::new(|source, outcome| Request { source, outcome }),
            rejections: Family::default(),
            acknowledged: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            attempts: Counts::new(|destination, result| Attempt {
                destination,
                result,
            }),
            attempt_seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            arrival_seconds: Family::new_with_constructor(|| Histogram::new(ARRIVAL_SECONDS)),
            batch_rows: Family::new_with_constructor(|| Histogram::new(ROWS)),
            batch_wait: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            statement_seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            rescued: Counter::default(),
            config_generation: Gauge::default(),
            reload_succeeded: Gauge::default(),
        };
        inner.config_generation.set(1);
        inner.reload_succeeded.set(1);
        inner.register();
        Self(Arc::new(inner))
    }
}

impl Inner {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "requests",
            "Requests by what became of them; each part of a batch counts",
            self.requests.family.clone(),
        );
        registry.register(
            "rejected_requests",
            "Refused requests by the reason",
            self.rejections.clone(),
        );
        registry.register_with_unit(
            "acknowledgement",
            "Time from the end of a request's head to its answer",
            Unit::Seconds,
            self.acknowledged.clone(),
        );
        registry.register(
            "attempts",
            "Attempts at deliveries by their result",
            self.attempts.family.clone(),
        );
        registry.register_with_unit(
            "attempt_duration",
            "Time from the beginning of an attempt to its end",
            Unit::Seconds,
            self.attempt_seconds.clone(),
        );
        registry.register_with_unit(
            "arrival",
            "Time from a delivery's acknowledgement to the end of its first attempt",
            Unit::Seconds,
            self.arrival_seconds.clone(),
        );
        registry.register(
            "batch_rows",
            "Rows that one statement wrote",
            self.batch_rows.clone(),
        );
        registry.register_with_unit(
            "batch_wait",
            "How long the first row of a batch waited for its statement",
            Unit::Seconds,
            self.batch_wait.clone(),
        );
        registry.register_with_unit(
            "statement",
            "Time that a batch's statement took, with its commit",
            Unit::Seconds,
            self.statement_seconds.clone(),
        );
        registry.register(
            "lease_rescues",
            "Deliveries that became due again because their lease was over",
            self.rescued.clone(),
        );
        registry.register(
            "config_generation",
            "How many configurations were in force since the start, with this one",
            self.config_generation.clone(),
        );
        registry.register(
            "config_last_reload_successful",
            "Whether the last reload was taken",
            self.reload_succeeded.clone(),
        );
    }
}

impl Meters {
    /// A request, or a part of a batched one, that was taken.
    pub fn request(&self, source: &Arc<str>, status: RequestStatus, took: Duration) {
        let source = source.clone();
        let outcome = match status {
            // The word of the answer.
            RequestStatus::New => "accepted",
            told => told.as_str(),
        };
        self.0
            .acknowledged
            .get_or_create(&OfSource {
                source: source.clone(),
            })
            .observe(took.as_secs_f64());
        self.0.requests.count(&source, outcome);
    }

    /// A request that was refused. `reason` is the code of the refusal.
    pub fn rejection(&self, source: &Arc<str>, reason: &'static str) {
        let source = source.clone();
        let outcome = match reason {
            "busy" => "busy",
            "database_unavailable" | "key_unavailable" => "unavailable",
            _ => "rejected",
        };
        self.0.requests.count(&source, outcome);
        self.0
            .rejections
            .get_or_create(&Rejection { source, reason })
            .inc();
    }

    /// An attempt that ended. `arrival` is the time since the acknowledgement, of a first attempt.
    pub fn attempt(
        &self,
        destination: &Arc<str>,
        outcome: AttemptOutcome,
        took: Duration,
        arrival: Option<Duration>,
    ) {
        let of = OfDestination {
            destination: destination.clone(),
        };
        let seconds = took.as_secs_f64();
        self.0.attempt_seconds.get_or_create(&of).observe(seconds);
        if let Some(arrival) = arrival {
            let seconds = arrival.as_secs_f64();
            self.0.arrival_seconds.get_or_create(&of).observe(seconds);
        }
        self.0.attempts.count(destination, outcome.as_str());
    }

    /// A batch that was written: its rows, how long the first of them waited, and how long the
    /// statement took.
    pub fn batch(&self, queue: &'static str, rows: usize, waited: Duration, took: Duration) {
        let of = OfQueue { queue };
        self.0.batch_rows.get_or_create(&of).observe(rows as f64);
        let observe = |family: &Histograms<OfQueue>, time: Duration| {
            family.get_or_create(&of).observe(time.as_secs_f64());
        };
        observe(&self.0.batch_wait, waited);
        observe(&self.0.statement_seconds, took);
    }

    /// Deliveries whose lease was over.
    pub fn rescued(&self, deliveries: i64) {
        self.0.rescued.inc_by(deliveries.unsigned_abs());
    }

    /// A reload of the configuration, which was taken or refused.
    pub fn reloaded(&self, taken: bool) {
        self.0.reload_succeeded.set(taken.into());
        if taken {
            self.0.config_generation.inc();
        }
    }

    /// Requests so far, by source and outcome.
    pub fn requests(&self) -> Vec<Count> {
        self.0.requests.all()
    }

    /// Attempts so far, by destination and result.
    pub fn attempts(&self) -> Vec<Count> {
        self.0.attempts.all()
    }

    /// All counts as OpenMetrics text, without the end of the exposition.
    pub fn encode(&self, text: &mut String) {
        text::encode_registry(text, &self.0.registry).expect("a String takes every text");
    }
}
