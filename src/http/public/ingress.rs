//! The face for hooks: it reads a bounded body, hands it to the intake, and answers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix_http::{HttpMessage as _, Payload, Request as HttpRequest};
use actix_web::{HttpResponse, http::header, web::Bytes};
use futures_util::StreamExt as _;
use hookonce_scheme::{Reason, Rejection};

use super::{answer, refusal::Refusal};
use crate::{
    intake::{
        receiver::{Arrived, Intake, NotTaken, Received},
        sources::Source,
    },
    port::{
        Rates, ambiguous,
        body::{Limits, announced, read_body},
        reading::{Reading, Share},
    },
};

/// The prefix of every source's path.
pub const PREFIX: &str = "/hooks/";

/// An unwanted body is read if it is no longer than this.
const UNWANTED_MAX: usize = 8 << 10;

/// The intake, and the bounds for bodies and senders.
pub struct Ingress {
    pub intake: Arc<Intake>,
    pub body_timeout: Duration,
    pub rates: Option<Rates>,
    pub reading: Arc<Reading>,
}

/// Answers `POST /hooks/{source}`, and other methods if the provider's handshake needs them.
pub async fn receive(mut request: HttpRequest, ingress: &Ingress) -> HttpResponse {
    let at = Instant::now();
    let payload = request.take_payload();
    let name = request.path().strip_prefix(PREFIX).unwrap_or_default();
    let source = ingress.intake.sources.load().get(name).cloned();
    let mut headers: Vec<(&str, &[u8])> = Vec::with_capacity(request.headers().len());
    headers.extend(
        request
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes())),
    );
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let arrived = Arrived {
        method: request.method().as_str(),
        target,
        headers: &headers,
        at,
    };
    let Some(source) = source else {
        pass_over(&request, payload, ingress.body_timeout).await;
        return refuse(&arrived, ingress, None, &Refusal::UnknownSource, None);
    };
    let share = Share::new(&ingress.reading);
    let body = match read(&request, payload, ingress, &source, &share).await {
        Ok(body) => body,
        Err(refusal) => return refuse(&arrived, ingress, Some(&source), &refusal, None),
    };
    match ingress.intake.receive(&arrived, &source, &body).await {
        Ok(Received::Known(event)) => answer::known(&source, &body, event),
        Ok(Received::Handshake(verified)) => answer::handshake(&verified),
        Ok(Received::Recorded(recorded, verified)) => {
            answer::recorded(&source, &recorded, &verified)
        }
        Err(cause) => refuse(
            &arrived,
            ingress,
            Some(&source),
            &Refusal::NotTaken(cause),
            Some(&body),
        ),
    }
}

fn refuse(
    arrived: &Arrived<'_>,
    ingress: &Ingress,
    source: Option<&Source>,
    refusal: &Refusal,
    body: Option<&Bytes>,
) -> HttpResponse {
    let why = (refusal.code(), refusal.detail());
    ingress
        .intake
        .refuse(arrived, source, why, body, refusal.is_the_requests_fault());
    refusal.response(source)
}

/// Reads the body, if the head is as its source accepts it.
async fn read(
    request: &HttpRequest,
    payload: Payload,
    ingress: &Ingress,
    source: &Source,
    share: &Share,
) -> Result<Bytes, Refusal> {
    let address = request.peer_addr().map(|peer| peer.ip());
    let is_allowed = |address| {
        ingress
            .rates
            .as_ref()
            .is_none_or(|rates| rates.allows(address))
    };
    if !address.is_none_or(is_allowed) {
        return Err(Refusal::Rate);
    }
    if !source.verifier.takes_method(request.method().as_str()) {
        return Err(Refusal::Method);
    }
    if let Some(name) = ambiguous(request.headers()) {
        let detail = format!("the header {name} comes twice");
        let rejection = Rejection::new(Reason::MalformedRequest, detail);
        return Err(Refusal::NotTaken(NotTaken::Rejected(rejection)));
    }
    let is_taken = |encoding: &[u8]| {
        encoding.eq_ignore_ascii_case(b"identity")
            || source.takes_gzip && encoding.eq_ignore_ascii_case(b"gzip")
    };
    let encoding = request.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !is_taken(encoding.as_bytes())) {
        return Err(Refusal::Encoding);
    }
    let limits = Limits {
        bytes_max: source.body_max,
        timeout: ingress.body_timeout,
        idle_timeout: None,
        address,
        source: Some(&source.name),
    };
    Ok(read_body(payload, announced(request.headers()), &limits, share).await?)
}

/// Reads and drops a small unwanted body. Otherwise the connection would have to be closed,
/// although a proxy may share it with requests to other sources.
async fn pass_over(request: &HttpRequest, mut payload: Payload, timeout: Duration) {
    if announced(request.headers()).is_some_and(|length| length <= UNWANTED_MAX) {
        let read = async { while let Some(Ok(_)) = payload.next().await {} };
        let _ = tokio::time::timeout(timeout, read).await;
    }
}
