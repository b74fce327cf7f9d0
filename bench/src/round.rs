//! One stretch of time with one load on one side: what was answered, how fast, at what cost, and
//! who disturbed it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use anyhow::bail;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio_postgres::Client;

use crate::{
    Bench,
    events::{Events, Provider, Recipe},
    hookonce::Hookonce,
    load::{Load, Order, Pace},
    pgbench::{self, Pgbench},
    postgres,
    processor::{self, Party, Snapshot, Used, own_pid},
};

const WARM_UP: Duration = Duration::from_millis(400);
/// Others may use up to this share of the processors before a round counts as disturbed.
pub const DISTURBED: f64 = 0.04;
/// Events signed in advance, a second of a closed loop's window; what comes after is signed when it
/// is sent.
const SIGNED_A_SECOND: f64 = 20_000.0;

/// Latencies in µs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Latency {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
    /// With the requests that a stalled closed loop did not send (hdrhistogram's correction).
    pub p99_corrected: u64,
    /// (percentile, µs) for the plots.
    pub curve: Vec<(f64, u64)>,
}

const CURVE: [f64; 14] = [
    0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999, 100.0,
];

impl Latency {
    /// `interval`: µs between the requests of one connection where nothing stalls; 0 where
    /// latencies count from when they were due.
    pub fn of(latencies: &Histogram<u64>, interval: u64) -> Self {
        let at = |quantile: f64| latencies.value_at_quantile(quantile);
        let corrected = latencies.clone_correct(interval);
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: latencies.max(),
            p99_corrected: corrected.value_at_quantile(0.99),
            curve: CURVE
                .iter()
                .map(|percentile| (*percentile, at(percentile / 100.0)))
                .collect(),
        }
    }
}

/// What a round came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    pub per_second: f64,
    pub seconds: f64,
    pub events: u64,
    pub failed: u64,
    pub latency: Latency,
    /// Processor time an event in µs, by party.
    pub postgres_us: f64,
    pub server_us: f64,
    pub client_us: f64,
    pub kernel_us: f64,
    pub wal_bytes: f64,
    /// The server's peak.
    pub memory_bytes: u64,
    /// The share of the processors that others used.
    pub others: f64,
    /// How often the round was measured before it was left alone.
    pub tries: u32,
}

impl Sample {
    fn new(events: u64, used: &Used, latency: Latency, wal_bytes: i64) -> Self {
        let each = |seconds: f64| seconds * 1e6 / events.max(1) as f64;
        Self {
            per_second: events as f64 / used.seconds,
            seconds: used.seconds,
            events,
            latency,
            postgres_us: each(used.of("postgres")),
            server_us: each(used.of("server")),
            client_us: each(used.of("client")),
            kernel_us: each(used.kernel),
            wal_bytes: wal_bytes as f64 / events.max(1) as f64,
            others: used.others_share(),
            tries: 1,
            ..Self::default()
        }
    }
}

impl Sample {
    /// A stretch of a longer flow: its rate is known, its events are counted elsewhere.
    pub fn of_rate(per_second: f64, used: &Used, latency: Latency) -> Self {
        let events = (per_second * used.seconds) as u64;
        Self {
            per_second,
            ..Self::new(events, used, latency, 0)
        }
    }
}

/// What answers are to say; a round with others is no measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Accepted,
    Duplicate,
    Refused,
}

impl Expect {
    /// How many answers were as expected; an error where another kind came.
    pub fn check(
        self,
        [accepted, duplicate, conflict, refused, failed]: [u64; 5],
    ) -> anyhow::Result<u64> {
        let events = match self {
            Self::Accepted => accepted,
            Self::Duplicate => duplicate,
            Self::Refused => refused,
        };
        if events == 0 || accepted + duplicate + conflict + refused > events {
            bail!(
                "{self:?} answers were expected: {accepted} accepted, {duplicate} duplicate, {conflict} conflict, {refused} refused, {failed} failed"
            );
        }
        Ok(events)
    }
}

/// A server under an HTTP load.
#[derive(Clone)]
pub struct Http {
    pub address: SocketAddr,
    /// The server's processes.
    pub pids: Vec<i32>,
    /// Emptied before each round where the events are fresh.
    pub database: Option<String>,
    pub connections: usize,
    pub pace: Pace,
    pub requests: Requests,
    pub expect: Expect,
}

#[derive(Clone)]
pub enum Requests {
    /// New ones in every round.
    Fresh { provider: Provider, size: usize },
    /// These, over and over.
    Fixed(Arc<Events>, usize),
}

impl Requests {
    fn order(&self) -> Order {
        match self {
            Self::Fresh { .. } => Order::From(0),
            Self::Fixed(_, count) => Order::Among(*count),
        }
    }
}

/// Tells the events of one round from those of all others, also in earlier runs on the same
/// machine.
pub fn next_run() -> u64 {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    (now << 12) + (RUNS.fetch_add(1, Ordering::Relaxed) & 0xfff)
}

/// Many signed events that were never sent.
pub fn fresh(provider: Provider, size: usize, signed: usize) -> Arc<Events> {
    Arc::new(Events::new(&Recipe {
        provider,
        size,
        source: provider.name(),
        run: next_run(),
        signed,
        spoiled: false,
    }))
}

impl Http {
    /// New events of a provider and a size to a hookonce; its database, where one is named, is
    /// emptied before each round.
    pub fn new_events(
        hookonce: &Hookonce,
        database: Option<&str>,
        (provider, size): (Provider, usize),
        connections: usize,
    ) -> Self {
        Self {
            address: hookonce.address,
            pids: vec![hookonce.pid()],
            database: database.map(str::to_owned),
            connections,
            pace: Pace::Closed,
            requests: Requests::Fresh { provider, size },
            expect: Expect::Accepted,
        }
    }

    /// The sample has no events where nothing was answered in the window.
    pub async fn measure(&self, bench: &Bench, window: Duration) -> anyhow::Result<Sample> {
        let events = match &self.requests {
            Requests::Fresh { provider, size } => fresh(
                *provider,
                *size,
                (SIGNED_A_SECOND * window.as_secs_f64()) as usize,
            ),
            Requests::Fixed(events, _) => events.clone(),
        };
        let client = match &self.database {
            Some(database) => Some(bench.postgres.connect(database).await?),
            None => None,
        };
        if let (Some(client), Requests::Fresh { .. }) = (&client, &self.requests) {
            postgres::empty(client).await?;
        }
        let wal = async || match &client {
            Some(client) => postgres::wal_bytes(client).await,
            None => Ok(0),
        };
        let servers: Vec<Party> = self
            .pids
            .iter()
            .map(|pid| Party {
                name: "server",
                pid: *pid,
            })
            .collect();
        let parties = bench.parties(&servers);
        let load = Load {
            address: self.address,
            connections: self.connections,
            events,
            pace: self.pace,
            order: self.requests.order(),
            answered: None,
        };
        let running = load.start()?;
        tokio::time::sleep(WARM_UP).await;
        self.pids
            .iter()
            .copied()
            .for_each(processor::reset_peak_memory);
        let (wal_before, before, counts) =
            (wal().await?, Snapshot::take(&parties), running.counts());
        running.measure(true);
        tokio::time::sleep(window).await;
        running.measure(false);
        let (counted, after) = (running.counts(), Snapshot::take(&parties));
        let (wal_after, memory) = (
            wal().await?,
            self.pids.iter().copied().map(processor::peak_memory).sum(),
        );
        let latencies = running.stop().await?;
        let answers: [u64; 5] = std::array::from_fn(|at| counted[at] - counts[at]);
        if answers == [0; 5] {
            return Ok(Sample::default());
        }
        let (events, failed) = (self.expect.check(answers)?, answers[4]);
        let used = before.until(&after);
        let interval = if matches!(self.pace, Pace::Closed) {
            (used.seconds * 1e6 * self.connections as f64 / events as f64) as u64
        } else {
            0
        };
        let sample = Sample::new(
            events,
            &used,
            Latency::of(&latencies, interval),
            wal_after - wal_before,
        );
        Ok(Sample {
            failed,
            memory_bytes: memory,
            ..sample
        })
    }
}

/// Sends each of the first `count` events once, all of it measured.
pub async fn measure_all(
    bench: &Bench,
    hookonce: &Hookonce,
    client: &Client,
    events: &Arc<Events>,
    count: usize,
    expect: Expect,
) -> anyhow::Result<Sample> {
    let parties = bench.parties(&[Party {
        name: "server",
        pid: hookonce.pid(),
    }]);
    let load = Load {
        address: hookonce.address,
        connections: 64,
        events: events.clone(),
        pace: Pace::Closed,
        order: Order::Once(count),
        answered: None,
    };
    let (wal_before, before) = (postgres::wal_bytes(client).await?, Snapshot::take(&parties));
    let running = load.start()?;
    running.measure(true);
    while !running.is_finished() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let (after, wal_after, counts) = (
        Snapshot::take(&parties),
        postgres::wal_bytes(client).await?,
        running.counts(),
    );
    let latencies = running.join().await?;
    let events = expect.check(counts)?;
    let sample = Sample::new(
        events,
        &before.until(&after),
        Latency::of(&latencies, 0),
        wal_after - wal_before,
    );
    Ok(Sample {
        memory_bytes: processor::peak_memory(hookonce.pid()),
        ..sample
    })
}

/// pgbench with one event a commit.
pub struct SingleRow<'a> {
    pub database: &'a str,
    pub connections: usize,
    pub size: usize,
    /// Each event is a duplicate of one of so many.
    pub known: Option<usize>,
}

impl SingleRow<'_> {
    pub async fn measure(&self, bench: &Bench, window: Duration) -> anyhow::Result<Sample> {
        let client = bench.postgres.connect(self.database).await?;
        match self.known {
            None => postgres::empty(&client).await?,
            Some(count) => pgbench::fill_keys(&client, count).await?,
        }
        let body = fresh(Provider::Stripe, self.size, 0).body_text(0);
        let pgbench = Pgbench::start(
            &bench.postgres,
            &client,
            self.database,
            self.connections,
            &body,
            self.known,
            &bench.folder,
        )
        .await?;
        let parties = bench.parties(&[Party {
            name: "server",
            pid: pgbench.pid(),
        }]);
        let (wal_before, before, from) = (
            postgres::wal_bytes(&client).await?,
            Snapshot::take(&parties),
            SystemTime::now(),
        );
        tokio::time::sleep(window).await;
        let (to, after, wal_after) = (
            SystemTime::now(),
            Snapshot::take(&parties),
            postgres::wal_bytes(&client).await?,
        );
        let tally = pgbench.finish(from, to).await?;
        let used = before.until(&after);
        let interval = (used.seconds * 1e6 * self.connections as f64 / tally.count as f64) as u64;
        let mut sample = Sample::new(
            tally.count,
            &used,
            Latency::of(&tally.latencies, interval),
            wal_after - wal_before,
        );
        // pgbench is its own client.
        (sample.client_us, sample.server_us) = (sample.server_us, 0.0);
        Ok(sample)
    }
}

impl Bench {
    pub fn parties(&self, more: &[Party]) -> Vec<Party> {
        let mut parties = vec![
            Party {
                name: "postgres",
                pid: self.postgres.pid(),
            },
            Party {
                name: "client",
                pid: own_pid(),
            },
        ];
        parties.extend_from_slice(more);
        parties
    }
}
