//! The public port: hooks and health, nothing else.

mod answer;
pub mod ingress;
mod refusal;

use actix_http::Request;
use actix_web::HttpResponse;

use self::ingress::Ingress;
use super::health;
use crate::readiness::Readiness;

/// Answers one request. It does without a router, which costs as much as a fifth of a refusal.
pub async fn answer(request: Request, ingress: &Ingress, readiness: &Readiness) -> HttpResponse {
    match request.path() {
        path if path.starts_with(ingress::PREFIX) => ingress::receive(request, ingress).await,
        path => {
            let health = health::answer(readiness, request.method(), path);
            health.unwrap_or_else(|| HttpResponse::NotFound().finish())
        }
    }
}
