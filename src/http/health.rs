//! Liveness and readiness, on both ports.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use actix_web::{HttpResponse, web};

/// Whether this node takes requests: its database answers and it is not stopping. A background task keeps it current.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

pub fn configure(config: &mut web::ServiceConfig) {
    config.route("/livez", web::get().to(HttpResponse::Ok)).route("/readyz", web::get().to(ready));
}

async fn ready(readiness: web::Data<Readiness>) -> HttpResponse {
    if readiness.get() {
        HttpResponse::Ok().json(serde_json::json!({ "status": "ready" }))
    } else {
        HttpResponse::ServiceUnavailable().insert_header(("Retry-After", "1")).json(serde_json::json!({ "status": "not ready" }))
    }
}
