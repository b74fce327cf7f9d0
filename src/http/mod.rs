//! The whole route table: the public port and the admin port.

pub mod api;
pub mod auth;
pub mod error;
pub mod explain;
pub mod health;
pub mod ingress;
pub mod learning;
pub mod recorder;
pub mod rejections;
mod rewritten;
pub mod sources;
pub mod state;

use actix_web::web;

/// The public port: hooks and health, nothing else.
pub fn public(config: &mut web::ServiceConfig) {
    // A scope, whose path is a fixed text: a name in the pattern would make it a regular expression, run for every request.
    config.service(web::scope(ingress::PREFIX).default_service(web::to(ingress::receive))).configure(health::configure);
}

/// The admin port: the API and health.
pub fn admin(config: &mut web::ServiceConfig) {
    config.configure(api::configure).configure(health::configure);
}
