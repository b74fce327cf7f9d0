//! Events from their acknowledgement to their arrival at a handler: the load, the handlers, and the
//! times of both.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Bench,
    events::{Events, Provider},
    handler::{Behaviour, Handler},
    hookonce::{Hookonce, Options, Relay},
    load::{Load, Order, Pace, Running},
    processor::{self, Party, Snapshot, Used},
    round::{Latency, fresh},
    times::{Keep, Times},
};

/// Room for this many events a second.
const EVENTS_A_SECOND: f64 = 30_000.0;
/// Signed in advance; what comes after is signed when it is sent, for some 2 µs.
const SIGNED_MAX: usize = 1_000_000;

/// What is sent, and what became of it.
pub struct Flow {
    begin: Instant,
    pub events: Arc<Events>,
    pub answered: Arc<Times>,
    pub arrived: Arc<Times>,
}

/// A stretch of a flow.
#[derive(Clone, Debug, Default)]
pub struct Stretch {
    pub acks_per_second: f64,
    pub relayed_per_second: f64,
    /// From answer to arrival, of the events answered in the stretch.
    pub relay: Latency,
}

impl Flow {
    /// `most`: room for so many events.
    pub fn new(most: usize, keep: Keep) -> Self {
        Self::of(Provider::Stripe, most, keep)
    }

    pub fn of(provider: Provider, most: usize, keep: Keep) -> Self {
        let begin = Instant::now();
        let times = |keep| Arc::new(Times::new(begin, most, keep));
        Self {
            begin,
            events: fresh(provider, 2048, most.min(SIGNED_MAX)),
            answered: times(Keep::First),
            arrived: times(keep),
        }
    }

    /// For as long as this, at any rate that can be.
    pub fn lasting(seconds: f64) -> Self {
        Self::new((seconds * EVENTS_A_SECOND) as usize, Keep::First)
    }

    pub fn handler(&self, port: u16) -> anyhow::Result<Handler> {
        Handler::start(port, Behaviour::Answer(self.arrived.clone()))
    }

    pub fn load(
        &self,
        address: SocketAddr,
        connections: usize,
        pace: Pace,
        order: Order,
    ) -> anyhow::Result<Running> {
        Load {
            address,
            connections,
            events: self.events.clone(),
            pace,
            order,
            answered: Some(self.answered.clone()),
        }
        .start()
    }

    pub fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    pub fn stretch(&self, from: Duration, to: Duration) -> Stretch {
        let seconds = (to - from).as_secs_f64();
        Stretch {
            acks_per_second: self.answered.within(from, to) as f64 / seconds,
            relayed_per_second: self.arrived.within(from, to) as f64 / seconds,
            relay: Latency::of(&self.answered.to(&self.arrived, from, to), 0),
        }
    }

    /// Waits until all that was answered has arrived. Whether it did in time.
    pub async fn settle(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while self.arrived.count() < self.answered.count() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.arrived.count() >= self.answered.count()
    }
}

/// hookonce on a database of its own, delivering Stripe's events to one handler.
pub async fn relaying(
    bench: &Bench,
    database: &str,
    port: u16,
    extra: &str,
) -> anyhow::Result<Hookonce> {
    bench
        .hookonce
        .create_database(&bench.postgres, database)
        .await?;
    let relay = Relay::To(vec![("stripe".to_owned(), port)]);
    bench
        .hookonce
        .start(
            &bench.postgres,
            &Options {
                relay,
                extra,
                ..Options::paused(database)
            },
        )
        .await
}

/// Processor time over a stretch.
pub struct Meter {
    parties: Vec<Party>,
    before: Snapshot,
}

impl Meter {
    pub fn start(bench: &Bench, server: i32) -> Self {
        processor::reset_peak_memory(server);
        let parties = bench.parties(&[Party {
            name: "server",
            pid: server,
        }]);
        let before = Snapshot::take(&parties);
        Self { parties, before }
    }

    pub fn stop(&self) -> Used {
        self.before.until(&Snapshot::take(&self.parties))
    }
}
