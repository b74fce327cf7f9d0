//! The public door: reads a bounded body, verifies it, has it recorded, answers. A refused request costs no query, and its answer never tells
//! which check failed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix_http::{HttpMessage as _, Payload, Request as HttpRequest};
use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
    web::{Bytes, BytesMut},
};
use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use secrecy::SecretString;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    clock::Clock,
    http::{
        keyring::{Keyring, Missing},
        learning::{Kept, Learning},
        port::{Rates, ambiguous},
        reading::{Full, GivenUp, Reading, Share},
        recorder::{RecordError, Recorder},
        recording,
        rejections::{Refused, Rejections},
        sources::{Source, Sources},
    },
    provider::{ChallengeAnswer, Reason, Rejection, Request, Verified, VerifiedRequest},
    tail::{RequestStatus, Tail, TailLine},
};

/// The path of all sources.
pub const PREFIX: &str = "/hooks/";

/// What every request needs.
pub struct Ingress {
    pub sources: ArcSwap<Sources>,
    pub recorder: Arc<Recorder>,
    pub learning: Learning,
    /// There may be events that earlier versions recorded under keys of another form.
    pub look_back: bool,
    pub keyring: Keyring,
    pub clock: Clock,
    pub tail: Tail,
    pub public_url: Option<String>,
    pub body_timeout: Duration,
    pub rates: Option<Rates>,
    pub reading: Arc<Reading>,
    pub rejections: Arc<Rejections>,
    /// Sources that a reload replaced, the latest first: only to explain rejections with.
    pub retired: ArcSwap<Vec<Arc<Source>>>,
}

/// Replaced sources that are remembered.
const RETIRED_MAX: usize = 64;

impl Ingress {
    /// Takes new sources in force.
    pub fn replace_sources(&self, sources: Sources) {
        let old = self.sources.swap(Arc::new(sources));
        let retired = self.retired.load();
        self.retired.store(Arc::new(old.iter().chain(retired.iter()).take(RETIRED_MAX).cloned().collect()));
    }
}

/// Why a request gets no 200.
#[derive(Debug)]
enum Refusal {
    UnknownSource,
    /// Its address has sent too many.
    Rate,
    Method,
    TooLarge,
    BodyTimeout,
    BodyBroken,
    Encoding,
    Rejected(Rejection),
    /// The provider's key, or its answer to a handshake, was not to be had; from where.
    KeyUnavailable(String),
    Record(RecordError),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::UnknownSource => StatusCode::NOT_FOUND,
            Self::Rate => StatusCode::TOO_MANY_REQUESTS,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::Encoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Rejected(Rejection { reason: Reason::MalformedRequest, .. }) => StatusCode::BAD_REQUEST,
            Self::Rejected(_) => StatusCode::UNAUTHORIZED,
            Self::Record(RecordError::Refused) => StatusCode::BAD_REQUEST,
            Self::Record(_) | Self::KeyUnavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::UnknownSource => "unknown_source",
            Self::Rate => "rate",
            Self::Method => "method",
            Self::TooLarge => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::BodyBroken => "body_broken",
            Self::Encoding => "content_encoding",
            Self::Rejected(rejection) => rejection.reason.code(),
            Self::KeyUnavailable(_) => "key_unavailable",
            Self::Record(RecordError::Busy) => "busy",
            Self::Record(RecordError::Unavailable) => "database_unavailable",
            Self::Record(RecordError::Refused) => "unstorable",
        }
    }

    /// `source` where there is one: its provider may insist on how a refusal looks.
    fn response(&self, source: Option<&Source>) -> HttpResponse {
        let status = self.status();
        let mut response = HttpResponse::build(status);
        response.insert_header((header::CONTENT_TYPE, PROBLEM)).insert_header((recording::STATUS, REFUSED));
        match status {
            StatusCode::SERVICE_UNAVAILABLE => response.insert_header((header::RETRY_AFTER, "5")),
            StatusCode::TOO_MANY_REQUESTS => response.insert_header((header::RETRY_AFTER, "1")),
            _ => &mut response,
        };
        if matches!(self, Self::TooLarge | Self::BodyTimeout | Self::BodyBroken) {
            response.force_close();
        }
        if matches!(self, Self::Method) {
            response.insert_header((header::ALLOW, "POST"));
        }
        let Some(source) = source else { return response.body(problem(status)) };
        if status == StatusCode::UNAUTHORIZED && source.secret_headers.iter().any(|name| name == "authorization") {
            // RFC 9110, section 15.5.2; some senders show their credentials only when asked so.
            response.insert_header((header::WWW_AUTHENTICATE, source.asks_for()));
        }
        if source.bare_answers {
            return response.finish();
        }
        response.body(problem(status))
    }
}

const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const REFUSED: HeaderValue = HeaderValue::from_static("refused");

fn problem(status: StatusCode) -> String {
    let title = status.canonical_reason().unwrap_or("Refused");
    [r#"{"type":"about:blank","title":""#, title, r#"","status":"#, status.as_str(), "}"].concat()
}

/// `POST /hooks/{source}`; by other methods only what the provider's handshake needs.
pub async fn receive(mut request: HttpRequest, ingress: &Ingress) -> HttpResponse {
    let started = Instant::now();
    let payload = request.take_payload();
    let name = request.path().strip_prefix(PREFIX).unwrap_or_default();
    let source = ingress.sources.load().get(name).cloned();
    let Some(source) = source else {
        pass_over(&request, payload, ingress.body_timeout).await;
        return refuse(&request, ingress, None, started, Refusal::UnknownSource.into());
    };
    match handle(&request, payload, ingress, &source, started).await {
        Ok(response) => response,
        Err(cause) => refuse(&request, ingress, Some(&source), started, cause),
    }
}

/// A refusal with the body that was read, where it was.
struct Cause {
    refusal: Refusal,
    body: Option<Bytes>,
}

impl From<Refusal> for Cause {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, body: None }
    }
}

fn refuse(request: &HttpRequest, ingress: &Ingress, source: Option<&Source>, started: Instant, cause: Cause) -> HttpResponse {
    let Cause { refusal, body } = cause;
    let detail = match &refusal {
        Refusal::Rejected(rejection) => &*rejection.detail,
        Refusal::KeyUnavailable(detail) => detail.as_str(),
        _ => "",
    };
    // What we could not store is not the request's fault.
    if !matches!(refusal, Refusal::Record(_)) {
        ingress.rejections.write(Refused {
            at_unix_ms: ingress.clock.unix_ms(),
            source: source.map(|source| &source.name),
            reason: refusal.code(),
            detail,
            method: request.method().as_str(),
            target: request.uri().path_and_query().map_or("/", |target| target.as_str()),
            headers: &mut request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())),
            body: body.as_ref(),
        });
    }
    let name: &str = source.map_or("", |source| &source.name);
    tracing::debug!(source = name, reason = refusal.code(), detail, "refused");
    ingress.tail.write(|| TailLine::Request {
        at: OffsetDateTime::now_utc(),
        source: name.to_owned(),
        event_type: None,
        event_key: None,
        status: RequestStatus::Rejected,
        reason: Some(refusal.code().to_owned()),
        ack_ms: started.elapsed().as_secs_f64() * 1000.0,
        event: None,
    });
    refusal.response(source)
}

async fn handle(
    request: &HttpRequest,
    payload: Payload,
    ingress: &Ingress,
    source: &Arc<Source>,
    started: Instant,
) -> Result<HttpResponse, Cause> {
    if request.peer_addr().is_some_and(|peer| ingress.rates.as_ref().is_some_and(|rates| !rates.allows(peer.ip()))) {
        return Err(Refusal::Rate.into());
    }
    if !source.verifier.takes_method(request.method().as_str()) {
        return Err(Refusal::Method.into());
    }
    if let Some(name) = ambiguous(request.headers()) {
        return Err(Refusal::Rejected(Rejection::new(Reason::MalformedRequest, format!("the header {name} comes twice"))).into());
    }
    let encoding = request.headers().get(header::CONTENT_ENCODING).map(|encoding| encoding.as_bytes().to_ascii_lowercase());
    if encoding.is_some_and(|encoding| encoding != b"identity" && !(source.takes_gzip && encoding == b"gzip")) {
        return Err(Refusal::Encoding.into());
    }
    let share = Share::new(&ingress.reading);
    let body = read_body(request, payload, source, ingress.body_timeout, &share).await?;
    let verified =
        verify_with_keys(request, ingress, source, &body).await.map_err(|refusal| Cause { refusal, body: Some(body.clone()) })?;
    let verified = match verified {
        Verified::New(verified) => verified,
        Verified::Known(event) => return Ok(recording::answer_known(source, &body, event)),
    };
    if let Some(challenge) = verified.challenge() {
        if let Some(secret) = verified.learnt_secret() {
            learn(ingress, source, secret).await?;
        }
        if let Some(url) = verified.visit() {
            ingress.keyring.visit(url).await.map_err(|_| Refusal::KeyUnavailable("the handshake's URL was not to be had".into()))?;
        }
        report(ingress, source, &verified, started, RequestStatus::Handshake, None);
        return Ok(handshake(challenge));
    }
    let parts = recording::parts(&verified);
    let recorded = recording::record(request.headers(), ingress, source, &verified).await.map_err(Refusal::Record)?;
    for (part, recorded) in parts.iter().zip(&recorded) {
        let (event, status) = recording::told(*recorded);
        report(ingress, source, part, started, status, Some(event));
    }
    Ok(recording::answer(source, &recorded, &verified))
}

async fn learn(ingress: &Ingress, source: &Source, secret: &SecretString) -> Result<(), Refusal> {
    match ingress.learning.keep(source, secret, &ingress.sources).await.map_err(Refusal::Record)? {
        Kept::Yes => Ok(()),
        Kept::No => {
            let detail = "another handshake brought the source's secret first";
            Err(Refusal::Rejected(Rejection::new(Reason::NoMatch, detail)))
        }
    }
}

/// What a sender asked to hear comes back as plain data, never as something that a browser would run.
fn handshake(answer: &ChallengeAnswer) -> HttpResponse {
    let mut response = HttpResponse::build(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK));
    response
        .insert_header(("Hookonce-Status", "handshake"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .content_type(answer.content_type);
    for (name, value) in &answer.headers {
        response.insert_header((name.as_str(), value.as_str()));
    }
    response.body(answer.body.clone())
}

/// An announced length is only a promise: no more than this is set aside for it.
const PREALLOCATED_MAX: usize = 64 << 10;
/// A body that nobody wants is read where it is no longer than this.
const UNWANTED_MAX: usize = 8 << 10;

/// Reads a small body that nobody wants: else the connection would have to be closed, and a proxy's requests to other sources share it.
async fn pass_over(request: &HttpRequest, mut payload: Payload, timeout: Duration) {
    if announced(request).is_some_and(|length| length <= UNWANTED_MAX) {
        let read = async { while let Some(Ok(_)) = payload.next().await {} };
        let _ = tokio::time::timeout(timeout, read).await;
    }
}

fn announced(request: &HttpRequest) -> Option<usize> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn read_body(
    request: &HttpRequest,
    mut payload: Payload,
    source: &Source,
    timeout: Duration,
    share: &Share,
) -> Result<Bytes, Refusal> {
    let announced = announced(request);
    if announced.is_some_and(|length| length > source.body_max) {
        return Err(Refusal::TooLarge);
    }
    let read = async {
        let mut body = BytesMut::with_capacity(announced.unwrap_or(0).min(PREALLOCATED_MAX));
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| Refusal::BodyBroken)?;
            if body.len() + chunk.len() > source.body_max {
                return Err(Refusal::TooLarge);
            }
            share.grow(chunk.len()).map_err(|Full| Refusal::Record(RecordError::Busy))?;
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    let address = request.peer_addr().map(|peer| peer.ip());
    match share.read(address, Some(&source.name), timeout, read).await {
        Ok(read) => read,
        Err(GivenUp::Slow) => Err(Refusal::BodyTimeout),
        Err(GivenUp::GaveWay) => Err(Refusal::Record(RecordError::Busy)),
    }
}

/// The same once more, with the provider's key, where that had to be fetched first.
async fn verify_with_keys(request: &HttpRequest, ingress: &Ingress, source: &Source, body: &Bytes) -> Result<Verified<Uuid>, Refusal> {
    let rejection = match verify(request, ingress, source, body) {
        Ok(verified) => return Ok(verified),
        Err(rejection) => rejection,
    };
    let Some(need) = &rejection.needs else { return Err(Refusal::Rejected(rejection)) };
    let bring = ingress.keyring.bring(need, source.verifier.known_keys(), ingress.clock.unix_ms());
    match tokio::time::timeout(source.ack_budget, bring).await {
        Ok(Ok(())) => verify(request, ingress, source, body).map_err(Refusal::Rejected),
        Ok(Err(Missing::NotThere)) => {
            Err(Refusal::Rejected(Rejection::new(Reason::NoMatch, format!("the provider has no such key: {}", need.url))))
        }
        Ok(Err(Missing::Unavailable)) | Err(_) => {
            Err(Refusal::KeyUnavailable(format!("the provider's key was not to be had from {}", need.url)))
        }
    }
}

/// Whoever reads the tail wants a line with the key and the type: then all is read.
fn verify(request: &HttpRequest, ingress: &Ingress, source: &Source, body: &Bytes) -> Result<Verified<Uuid>, Rejection> {
    let mut headers: Vec<(&str, &[u8])> = Vec::with_capacity(request.headers().len());
    headers.extend(request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let url = source.url_of(ingress.public_url.as_deref(), target);
    let query = Some(request.uri().query().unwrap_or_default());
    let view = Request { method: request.method().as_str(), url: url.as_deref(), query, headers: &headers, body };
    let known = || if ingress.tail.is_read() { None } else { ingress.recorder.recent().of_body(&source.name, body) };
    source.verifier.verify_unless(&view, ingress.clock.unix_ms(), known)
}

fn report(ingress: &Ingress, source: &Source, verified: &VerifiedRequest, started: Instant, status: RequestStatus, event: Option<Uuid>) {
    ingress.tail.write(|| TailLine::Request {
        at: OffsetDateTime::now_utc(),
        source: source.name.to_string(),
        event_type: verified.event_type().map(str::to_owned),
        event_key: verified.event_key().map(str::to_owned),
        status,
        reason: verified.type_dropped().map(|_| "type_dropped".to_owned()),
        ack_ms: started.elapsed().as_secs_f64() * 1000.0,
        event,
    });
}
