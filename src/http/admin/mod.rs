//! The admin API's route table: `/api/v1`, JSON, a bearer token, problem+json for errors.

mod conflicts;
mod deliveries;
mod destinations;
mod events;
pub mod openapi;
mod parameters;
mod rejections;
mod replays;
mod sources;
mod steps;
mod stream;
mod tokens;

use actix_web::{middleware::from_fn, web};

use super::{
    auth,
    route::{at, headers, json_config, no_such_path, with_errors},
};

/// A body of the API: ten thousand ids fit.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Adds the API. The application needs `web::Data<AdminState>`.
pub fn configure(cfg: &mut web::ServiceConfig) {
    cfg.service(
        with_errors(web::scope("/api/v1"))
            .wrap(from_fn(auth::api))
            .wrap(headers())
            .app_data(json_config(BODY_BYTES_MAX))
            .service(at("/events").route(web::get().to(events::list)))
            .service(at("/events/{id}").route(web::get().to(events::show)))
            .service(at("/events/{id}/body").route(web::get().to(events::body)))
            .service(at("/events/{id}/original").route(web::get().to(events::original_body)))
            .service(at("/conflicts").route(web::get().to(conflicts::list)))
            .service(at("/conflicts/{id}").route(web::get().to(conflicts::show)))
            .service(at("/conflicts/{id}/relay").route(web::post().to(conflicts::relay)))
            .service(at("/deliveries").route(web::get().to(deliveries::list)))
            .service(at("/deliveries/{id}").route(web::get().to(deliveries::show)))
            .service(at("/deliveries/{id}/retry").route(web::post().to(deliveries::retry)))
            .service(at("/deliveries/{id}/cancel").route(web::post().to(deliveries::cancel)))
            .service(at("/destinations").route(web::get().to(destinations::list)))
            .service(at("/destinations/{name}/pause").route(web::post().to(destinations::pause)))
            .service(at("/destinations/{name}/resume").route(web::post().to(destinations::resume)))
            .service(at("/rejections").route(web::get().to(rejections::list)))
            .service(at("/rejections/{id}/explain").route(web::get().to(rejections::explain)))
            .service(at("/replays").route(web::get().to(replays::list)).route(web::post().to(replays::create)))
            .service(at("/replays/{id}").route(web::get().to(replays::show)))
            .service(at("/replays/{id}/advance").route(web::post().to(replays::advance)))
            .service(at("/sources").route(web::get().to(sources::list)))
            .service(at("/sources/{name}/secret").route(web::get().to(sources::secret)))
            .service(at("/sources/{name}/secret/forget").route(web::post().to(sources::forget)))
            .service(at("/prune").route(web::post().to(sources::prune)))
            .service(at("/status").route(web::get().to(sources::status)))
            .service(at("/steps").route(web::get().to(steps::list)))
            .service(at("/tokens").route(web::get().to(tokens::list)).route(web::post().to(tokens::create)))
            .service(at("/tokens/{id}/revoke").route(web::post().to(tokens::revoke)))
            .service(at("/openapi.json").route(web::get().to(openapi::show)))
            .service(at("/stream").route(web::get().to(stream::stream)))
            .default_service(web::to(no_such_path)),
    );
}
