//! The faces of the ports: they read requests and write answers. The decisions are made below, in
//! `intake`, `ledger` and `store`.

pub(crate) mod admin;
mod answer;
pub(crate) mod auth;
pub(crate) mod error;
pub(crate) mod gauged;
pub(crate) mod health;
pub(crate) mod ledger;
mod metrics;
mod object;
mod openapi;
pub(crate) mod public;
mod route;
mod sketch;
pub(crate) mod state;
mod table;
pub mod tokens;

use actix_web::web;

/// The admin port: the API, the ledger, metrics and health.
pub fn admin_port(config: &mut web::ServiceConfig, ledger_call_bytes_max: usize) {
    config
        .configure(admin::configure)
        .configure(|config| ledger::configure(config, ledger_call_bytes_max))
        .configure(metrics::configure)
        .configure(health::configure);
}

/// The ledger's own port: the ledger and health, nothing else.
pub fn ledger_port(config: &mut web::ServiceConfig, ledger_call_bytes_max: usize) {
    config
        .configure(|config| ledger::configure_alone(config, ledger_call_bytes_max))
        .configure(health::configure);
}
