//! `GET /metrics` on the admin port, for Prometheus: OpenMetrics text. It takes a token that may
//! read, or the one of `metrics.token`; with `metrics.open` it takes none.

use actix_web::{HttpResponse, web};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use super::{
    gauged::{FloatGauge, encode},
    route::{headers, no_such_method},
    state::AdminState,
    table::guarded,
    tokens::Need,
};
use crate::{contract::BreakerState, readiness::Readiness};

/// OpenMetrics 1.0, section "Content Type and Encoding".
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBreaker {
    destination: String,
    state: &'static str,
}

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
