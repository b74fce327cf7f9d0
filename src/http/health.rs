//! Liveness and readiness, on both ports.

use crate::{
    contract::{Ready, ReadyStatus},
    readiness::Readiness,
};
use actix_web::{
    HttpResponse,
    http::{Method, header},
    web,
};

const LIVE: &str = "/livez";
const READY: &str = "/readyz";

pub fn configure(config: &mut web::ServiceConfig) {
    let ready = async |readiness: web::Data<Readiness>| ready(&readiness);
    config
        .route(LIVE, web::get().to(HttpResponse::Ok))
        .route(READY, web::get().to(ready));
}

/// The same answers without a router. None if the path is neither of the two.
pub fn answer(readiness: &Readiness, method: &Method, path: &str) -> Option<HttpResponse> {
    match path {
        LIVE | READY if method != Method::GET => Some(
            HttpResponse::MethodNotAllowed()
                .insert_header((header::ALLOW, "GET"))
                .finish(),
        ),
        LIVE => Some(HttpResponse::Ok().finish()),
        READY => Some(ready(readiness)),
        _ => None,
    }
}

fn ready(readiness: &Readiness) -> HttpResponse {
    let (mut response, status) = if readiness.get() {
        (HttpResponse::Ok(), ReadyStatus::Ready)
    } else {
        let mut response = HttpResponse::ServiceUnavailable();
        response.insert_header(("Retry-After", "1"));
        (response, ReadyStatus::NotReady)
    };
    response.json(Ready {
        clock_skew_ms: readiness.skew().over_ms(),
        status,
    })
}
