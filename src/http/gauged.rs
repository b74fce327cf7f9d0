//! The metrics that come from the database, asked for at most every few seconds, however often they
//! are read.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::store::{gauges, link::Db};

/// The database is asked again no earlier than this, nor than so many times as long as it took.
const GAUGES_FOR: Duration = Duration::from_secs(5);
const GAUGES_PAUSE: u32 = 20;

pub type FloatGauge = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDestination {
    destination: String,
}

/// What the database said last, as text, and when it may be asked again.
#[derive(Default)]
pub struct Gauged(tokio::sync::Mutex<Option<(Instant, String)>>);

/// Appends the metrics of a registry.
pub fn encode(registry: &Registry, text: &mut String) {
    text::encode_registry(text, registry).expect("a String takes every text");
}

impl Gauged {
    /// Asks the database if the last answer is old, and otherwise gives that. A database that does
    /// not answer leaves `hookonce_database_up 0` alone.
    pub async fn text(&self, pool: &Db) -> String {
        let mut last = self.0.lock().await;
        if let Some((next, text)) = &*last
            && Instant::now() < *next
        {
            return text.clone();
        }
        let began = Instant::now();
        let asked = async { Ok((gauges::open(pool).await?, gauges::server(pool).await?)) };
        let registry = of_the_database(asked.await);
        let mut text = String::new();
        encode(&registry, &mut text);
        let pause = GAUGES_FOR.max(began.elapsed() * GAUGES_PAUSE);
        *last = Some((Instant::now() + pause, text.clone()));
        text
    }
}

fn of_the_database(asked: Result<(Vec<gauges::Open>, gauges::Server), sqlx::Error>) -> Registry {
    let mut registry = Registry::with_prefix("hookonce");
    let up = Gauge::<i64>::default();
    up.set(asked.is_ok().into());
    registry.register("database_up", "Whether the database answered", up);
    let Ok((open, server)) = asked else {
        return registry;
    };
    let (count, paused) = (
        Family::<OfDestination, Gauge>::default(),
        Family::<OfDestination, Gauge>::default(),
    );
    let oldest = Family::<OfDestination, FloatGauge>::default();
    for row in open {
        let of = OfDestination {
            destination: row.destination,
        };
        count.get_or_create(&of).set(row.open);
        paused.get_or_create(&of).set(row.paused.into());
        oldest.get_or_create(&of).set(row.oldest_seconds);
    }
    registry.register("open_deliveries", "Deliveries that have not ended", count);
    let help = "Whether an operator has paused the destination";
    registry.register("destination_paused", help, paused);
    let help = "Age of the oldest open delivery";
    registry.register_with_unit("oldest_open_delivery", help, Unit::Seconds, oldest);
    let size = Gauge::<i64>::default();
    size.set(server.size_bytes);
    registry.register_with_unit("database_size", "The database on disk", Unit::Bytes, size);
    let snapshot = FloatGauge::default();
    snapshot.set(server.oldest_snapshot_seconds);
    let help = "How long the oldest snapshot has kept vacuum from dead rows";
    registry.register_with_unit("database_oldest_snapshot", help, Unit::Seconds, snapshot);
    let ahead = Gauge::<i64>::default();
    ahead.set(server.partitions_ahead);
    let help = "Days after today that have their partitions";
    registry.register("partitions_prepared_days", help, ahead);
    registry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_does_not_answer_is_down_and_says_nothing_else() {
        let mut text = String::new();
        encode(&of_the_database(Err(sqlx::Error::PoolClosed)), &mut text);
        assert!(text.ends_with("\nhookonce_database_up 0\n"), "{text}");
        assert_eq!(text.matches("# TYPE").count(), 1);
    }
}
