//! The whole route table: the public port, the admin port, the ledger's own port.

pub mod api;
pub mod auth;
pub mod batcher;
mod commits;
pub mod dropped_types;
pub mod error;
pub mod explain;
pub mod health;
pub mod ingress;
pub mod keyring;
pub mod learning;
pub mod ledger;
mod object;
pub mod outcomes;
pub mod port;
pub mod probe;
pub mod reading;
mod recent;
pub mod recorder;
pub mod recording;
pub mod rejections;
mod rewritten;
pub mod skew;
pub mod sources;
pub mod state;
pub mod tokens;
pub mod waiters;

use actix_http::Request;
use actix_web::{HttpResponse, web};

use self::{health::Readiness, ingress::Ingress};

/// The public port: hooks and health, nothing else. Without a router, which costs as much as a fifth of a refusal.
pub async fn public(request: Request, ingress: &Ingress, readiness: &Readiness) -> HttpResponse {
    match request.path() {
        path if path.starts_with(ingress::PREFIX) => ingress::receive(request, ingress).await,
        path => health::answer(readiness, request.method(), path).unwrap_or_else(|| HttpResponse::NotFound().finish()),
    }
}

/// The admin port: the API, the ledger and health.
pub fn admin(config: &mut web::ServiceConfig, ledger_call_bytes_max: usize) {
    config.configure(api::configure).configure(|config| ledger::configure(config, ledger_call_bytes_max)).configure(health::configure);
}

/// The ledger's own port: the ledger and health, nothing else.
pub fn ledger_alone(config: &mut web::ServiceConfig, ledger_call_bytes_max: usize) {
    config.configure(|config| ledger::configure_alone(config, ledger_call_bytes_max)).configure(health::configure);
}
