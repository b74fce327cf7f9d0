//! The Idempotency-Key gateway: a reverse proxy for an API that lacks one. A key is a step of the
//! ledger (tenant `gateway:NAME`, run the caller's digest). So the ledger decides who may send, who
//! waits, what is lost and what a person resolves, and this folder does HTTP alone. Settings are
//! read at the start.

mod answer;
mod call;
mod cors;
mod execution;
mod front;
mod headers;
mod kept;
mod key;
mod operation;
mod pass;
mod pointer;
mod refusal;
mod upstream;

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, http::Method, web};

pub use front::Gateway;
use refusal::{Listener, Refusal};

use crate::settings::{KeyFrom, KeyRule};

/// Serves every path of a gateway's port.
pub fn configure(config: &mut web::ServiceConfig) {
    config.default_service(web::to(receive));
}

async fn receive(
    request: HttpRequest,
    payload: web::Payload,
    gateway: web::Data<Gateway>,
) -> HttpResponse {
    let is_head = request.method() == Method::HEAD;
    let gateway = gateway.into_inner();
    match handle(&request, payload, &gateway).await {
        Ok(answer) => {
            gateway.cors.learn(&request, &answer.headers);
            answer.into_response(is_head)
        }
        Err(refusal) => {
            let listener = Listener::of(&request);
            let mut response = refusal.into_response(listener, &gateway.described_by);
            gateway.cors.allow(&request, response.headers_mut());
            response
        }
    }
}

async fn handle(
    request: &HttpRequest,
    payload: web::Payload,
    gateway: &Arc<Gateway>,
) -> Result<answer::Answer, Refusal> {
    headers::check(request)?;
    let permit = gateway
        .calls
        .clone()
        .try_acquire_owned()
        .map_err(|_| Refusal::Busy)?;
    let outgoing = headers::Outgoing::of(request, &gateway.upstream)?;
    // The other methods are idempotent by themselves (RFC 9110, 9.2.2).
    if !matches!(*request.method(), Method::POST | Method::PATCH) {
        return pass::pass(gateway, outgoing, payload, permit).await;
    }
    let rule = gateway.rule(request.path());
    let key = key::of_header(request.headers(), gateway.key_header.as_str())?;
    if key.is_none() && rule.key_from == KeyFrom::Header {
        return match rule.key {
            KeyRule::Required => Err(Refusal::KeyMissing(format!(
                "send a header {} with a name of this operation",
                gateway.key_header
            ))),
            KeyRule::Optional => pass::pass(gateway, outgoing, payload, permit).await,
        };
    }
    let (body, share) = call::read_body(gateway, request, payload).await?;
    let fingerprint = key::fingerprint(request, &body, &rule.ignored);
    let key = match key {
        Some(key) => Some(key),
        None => key::derived(&rule.key_from, &fingerprint, &body)?,
    };
    match (key, rule.key) {
        (Some(key), _) => {
            call::start(
                gateway,
                request,
                outgoing,
                call::Keyed {
                    key,
                    fingerprint,
                    body,
                    rule: rule.clone(),
                },
                (permit, share),
            )
            .await
        }
        (None, KeyRule::Optional) => pass::pass_body(gateway, outgoing, body, permit).await,
        (None, KeyRule::Required) => Err(Refusal::KeyMissing(format!(
            "the body has no key where this path's rule looks for it: send it, or a header {}",
            gateway.key_header
        ))),
    }
}
