//! Liveness and readiness, on both ports.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use actix_web::{
    HttpResponse,
    http::{Method, header},
    web,
};

const LIVE: &str = "/livez";
const READY: &str = "/readyz";

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
    let ready = async |readiness: web::Data<Readiness>| ready(&readiness);
    config.route(LIVE, web::get().to(HttpResponse::Ok)).route(READY, web::get().to(ready));
}

/// The same without a router; None where the path is of neither.
pub fn answer(readiness: &Readiness, method: &Method, path: &str) -> Option<HttpResponse> {
    match path {
        LIVE | READY if method != Method::GET => Some(HttpResponse::MethodNotAllowed().insert_header((header::ALLOW, "GET")).finish()),
        LIVE => Some(HttpResponse::Ok().finish()),
        READY => Some(ready(readiness)),
        _ => None,
    }
}

fn ready(readiness: &Readiness) -> HttpResponse {
    if readiness.get() {
        HttpResponse::Ok().json(serde_json::json!({ "status": "ready" }))
    } else {
        HttpResponse::ServiceUnavailable().insert_header(("Retry-After", "1")).json(serde_json::json!({ "status": "not ready" }))
    }
}
