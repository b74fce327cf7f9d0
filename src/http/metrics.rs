//! `GET /metrics` on the admin port, for Prometheus: OpenMetrics text. It takes a token that may
//! read, or the one of `metrics.token`; with `metrics.open` it takes none. What the database alone
//! knows is asked for at most every few seconds, however often the page is read.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use actix_web::{HttpResponse, web};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use super::{
    route::{headers, no_such_method},
    state::AdminState,
    table::guarded,
    tokens::Need,
};
use crate::{
    contract::BreakerState,
    readiness::Readiness,
    store::{gauges, link::Db},
};

/// OpenMetrics 1.0, section "Content Type and Encoding".
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The database is asked again no earlier than this, nor than so many times as long as it took.
const GAUGES_FOR: Duration = Duration::from_secs(5);
const GAUGES_PAUSE: u32 = 20;

type FloatGauge = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDestination {
    destination: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBreaker {
    destination: String,
    state: &'static str,
}

/// What the database said last, as text, and when it may be asked again.
#[derive(Default)]
pub struct Gauged(tokio::sync::Mutex<Option<(Instant, String)>>);

pub fn configure(config: &mut web::ServiceConfig) {
    let needs = (Need::Metrics, Need::Metrics);
    config.service(
        web::resource("/metrics")
            .wrap(headers())
            .route(guarded(web::get().to(show), needs, true))
            .default_service(guarded(web::to(no_such_method), needs, true)),
    );
}

async fn show(state: web::Data<AdminState>, readiness: web::Data<Readiness>) -> HttpResponse {
    let mut text = String::new();
    state.intake.meters.encode(&mut text);
    encode(&of_the_node(&state, &readiness), &mut text);
    text += &state.gauged.text(&state.pool).await;
    text::encode_eof(&mut text).expect("a String takes every text");
    HttpResponse::Ok().content_type(OPENMETRICS).body(text)
}

fn encode(registry: &Registry, text: &mut String) {
    text::encode_registry(text, registry).expect("a String takes every text");
}

/// What the node itself knows at this moment.
fn of_the_node(state: &AdminState, readiness: &Readiness) -> Registry {
    let mut registry = Registry::with_prefix("hookonce");
    let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "This program", build);
    let ready = Gauge::<i64>::default();
    ready.set(readiness.get().into());
    registry.register("ready", "Whether the node takes requests", ready);
    if let Some(offset_ms) = readiness.skew().offset_ms() {
        let skew = FloatGauge::default();
        skew.set(offset_ms as f64 / 1000.0);
        let help = "This node's time less the database's, as last measured";
        registry.register_with_unit("clock_skew", help, Unit::Seconds, skew);
    }
    let breakers = Family::<OfBreaker, Gauge>::default();
    for breaking in state.relays.breakers() {
        for each in BreakerState::ALL.iter().copied() {
            let of = OfBreaker {
                destination: breaking.destination.to_string(),
                state: each.as_str(),
            };
            breakers
                .get_or_create(&of)
                .set((each == breaking.state).into());
        }
    }
    let help = "The state of a destination's breaker: 1 for the one it is in";
    registry.register("breaker", help, breakers);
    let waiting = Gauge::<i64>::default();
    waiting.set(i64::try_from(*state.claims_waiting.borrow()).unwrap_or(i64::MAX));
    let help = "Claims that wait for a step which another executes";
    registry.register("ledger_claims_waiting", help, waiting);
    let connections = Gauge::<i64>::default();
    connections.set(i64::from(state.pool.size()));
    let help = "Open connections of the shared pool";
    registry.register("database_pool_connections", help, connections);
    registry
}

impl Gauged {
    /// Asks the database if the last answer is old, and otherwise gives that. A database that does
    /// not answer leaves `hookonce_database_up 0` alone.
    async fn text(&self, pool: &Db) -> String {
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
