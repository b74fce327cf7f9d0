//! `GET /metrics` on the admin port, for Prometheus: OpenMetrics text, under a token that may read.
//! The registry is made for each scrape, so nothing grows between scrapes.

use std::sync::atomic::AtomicU64;

use actix_web::{HttpResponse, web};
use prometheus_client::{
    encoding::text::encode,
    metrics::gauge::Gauge,
    registry::{Registry, Unit},
};

use super::{
    route::{headers, no_such_method},
    table::guarded,
    tokens::Need,
};
use crate::readiness::Readiness;

/// OpenMetrics 1.0, section "Content Type and Encoding".
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub fn configure(config: &mut web::ServiceConfig) {
    let needs = (Need::Read, Need::Read);
    config.service(
        web::resource("/metrics")
            .wrap(headers())
            .route(guarded(web::get().to(show), needs, true))
            .default_service(guarded(web::to(no_such_method), needs, true)),
    );
}

async fn show(readiness: web::Data<Readiness>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(OPENMETRICS)
        .body(text(&readiness))
}

fn text(readiness: &Readiness) -> String {
    let mut registry = Registry::with_prefix("hookonce");
    if let Some(offset_ms) = readiness.skew().offset_ms() {
        let skew = Gauge::<f64, AtomicU64>::default();
        skew.set(offset_ms as f64 / 1000.0);
        let help = "This node's time less the database's, as last measured";
        registry.register_with_unit("clock_skew", help, Unit::Seconds, skew);
    }
    let mut text = String::new();
    encode(&mut text, &registry).expect("a String takes every text");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_has_no_sample() {
        let readiness = Readiness::default();
        assert_eq!(text(&readiness), "# EOF\n");
        readiness.skew().set(-1500, false);
        let measured = text(&readiness);
        assert!(
            measured.contains("\nhookonce_clock_skew_seconds -1.5\n"),
            "{measured}"
        );
    }
}
