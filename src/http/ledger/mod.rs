//! The ledger over HTTP: `/v1/runs/{run}/steps/{step}/…` and `/v1/dedup/{scope}`, on the admin port and on a port of its own. Here are the
//! routes and what the handlers share; what decides is `store::ledger` and `store::dedup`.

pub(super) mod calls;
pub(super) mod dedup;
mod emit;
pub(super) mod place;
pub(super) mod read;

use actix_web::{Scope, middleware::from_fn, web};

pub use self::read::step_json;
use super::{
    auth,
    route::{at, headers, json_config, no_such_path, with_errors},
};

/// `/v1` on the admin port. The application needs `web::Data` of `AdminState` and `Ledger`.
pub fn configure(config: &mut web::ServiceConfig, call_bytes_max: usize) {
    config.service(routes(web::scope("/v1"), call_bytes_max).wrap(from_fn(auth::ledger)).wrap(headers()));
}

/// `/v1` on a port of its own.
pub fn configure_alone(config: &mut web::ServiceConfig, call_bytes_max: usize) {
    config.service(routes(web::scope("/v1"), call_bytes_max).wrap(from_fn(auth::ledger_alone)).wrap(headers()));
}

fn routes(scope: Scope, call_bytes_max: usize) -> Scope {
    let step = |action: &str| at(&format!("/runs/{{run}}/steps/{{step}}/{action}"));
    with_errors(scope)
        .app_data(json_config(call_bytes_max))
        .service(at("/runs/{run}/steps").route(web::get().to(read::run)))
        .service(at("/runs/{run}/steps/{step}").route(web::get().to(read::step)))
        .service(step("claim").route(web::post().to(calls::claim)))
        .service(step("heartbeat").route(web::post().to(calls::heartbeat)))
        .service(step("complete").route(web::post().to(calls::complete)))
        .service(step("release").route(web::post().to(calls::release)))
        .service(step("resolve").route(web::post().to(calls::resolve)))
        .service(at("/dedup/{scope}").route(web::post().to(dedup::mark)))
        .service(at("/dedup/{scope}/done").route(web::post().to(dedup::done)))
        .default_service(web::to(no_such_path))
}
