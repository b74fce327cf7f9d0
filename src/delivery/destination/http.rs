//! HTTP handlers: sends the exact body with the provider's headers, ours, and a Standard Webhooks
//! signature of this attempt. Redirects are not followed, and what an answer means is decided in
//! `outcome`.

use std::{borrow::Cow, error::Error, io, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use hookonce_scheme::standard::Signer;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{ACCEPT, AUTHORIZATION, USER_AGENT},
};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use url::Url;
use uuid::Uuid;

use crate::{
    chance,
    delivery::outcome::{Failure, HandlerAnswer, retry_after},
    handoff::{Leased, RelayEvent},
    outbound::{self, Egress, chain, guard::NamedBy},
    settings::{Auth, SecretRef},
};

type Client = outbound::Client<Full<Bytes>>;

/// Where a handler listens.
#[derive(Clone, Debug)]
pub struct Address {
    uri: Uri,
}

impl Address {
    pub fn parse(text: &str) -> Result<Self, String> {
        let no_url = |error: &dyn Error| format!("{text:?} is not a URL: {error}");
        let mut url = Url::parse(text).map_err(|error| no_url(&error))?;
        url.set_fragment(None);
        Ok(Self {
            uri: url.as_str().parse().map_err(|error| no_url(&error))?,
        })
    }
}

/// "user:password" as a header's value (RFC 7617).
pub fn basic(pair: &SecretRef) -> Result<HeaderValue, String> {
    let pair = pair.read()?;
    let mut value = HeaderValue::try_from(format!(
        "Basic {}",
        BASE64_STANDARD.encode(pair.expose_secret())
    ))
    .map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The header that identifies hookonce to a handler.
///
/// # Errors
///
/// The secret can't be read, or is no header's value.
pub fn credential(auth: &Auth) -> Result<(HeaderName, HeaderValue), String> {
    let read = |secret: &SecretRef| {
        secret
            .read()
            .map(|secret| secret.expose_secret().to_owned())
    };
    let (name, value) = match auth {
        Auth {
            bearer: Some(token),
            ..
        } => (AUTHORIZATION, format!("Bearer {}", read(token)?)),
        Auth {
            basic: Some(pair), ..
        } => return Ok((AUTHORIZATION, basic(pair)?)),
        Auth {
            header: Some(name),
            value: Some(value),
            ..
        } => (
            HeaderName::try_from(name).map_err(|error| format!("auth.header: {error}"))?,
            read(value)?,
        ),
        _ => return Err("auth says neither bearer, basic nor header and value".into()),
    };
    let mut value =
        HeaderValue::try_from(value).map_err(|_| "auth: the secret holds what no header may")?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// A handler's address, credential and keys.
#[derive(Clone)]
pub struct HttpDestination {
    pub address: Address,
    pub named_by: NamedBy,
    pub credential: Option<(HeaderName, HeaderValue)>,
    /// Several while a secret is rotated: each attempt carries a signature of each.
    pub signers: Vec<Signer>,
    pub timeout: Duration,
    pub response_max: usize,
}

/// The HTTP clients. All destinations of the settings share one connection pool. URLs that callers
/// name get a new connection for each attempt. So their address is judged each time, and no
/// connection that was opened for somebody else is used.
pub struct Clients {
    settings: Client,
    callers: Client,
}

impl Clients {
    pub fn new(egress: &Egress) -> Result<Self, rustls::Error> {
        let client = |named_by, idle_max| {
            let limits = outbound::Limits {
                connect_timeout: Duration::from_secs(10),
                idle_for: Duration::from_secs(60),
                idle_max,
            };
            outbound::client(&limits, named_by, egress, Vec::new())
        };
        Ok(Self {
            settings: client(NamedBy::Settings, usize::MAX)?,
            callers: client(NamedBy::Caller, 0)?,
        })
    }

    fn of(&self, named_by: NamedBy) -> &Client {
        match named_by {
            NamedBy::Settings => &self.settings,
            NamedBy::Caller => &self.callers,
        }
    }
}

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("hookonce/", env!("CARGO_PKG_VERSION")));
const ANY: HeaderValue = HeaderValue::from_static("*/*");
/// At most so many headers are ours.
const OWN_HEADERS: usize = 16;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const SOURCE: HeaderName = HeaderName::from_static("hookonce-source");
const EVENT_KEY: HeaderName = HeaderName::from_static("hookonce-event-key");
const EVENT_TYPE: HeaderName = HeaderName::from_static("hookonce-event-type");
const MARK: HeaderName = HeaderName::from_static("hookonce-mark");
const ATTEMPT: HeaderName = HeaderName::from_static("hookonce-attempt");
const FENCE: HeaderName = HeaderName::from_static("hookonce-fence");
const REPLAY: HeaderName = HeaderName::from_static("hookonce-replay");

/// A header as it is kept, copied only if it has escapes.
#[derive(Deserialize)]
struct StoredHeader<'a>(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] Cow<'a, str>);

impl HttpDestination {
    /// Makes one attempt. It never fails: what went wrong is part of the answer.
    pub async fn send(
        &self,
        clients: &Clients,
        leased: &Leased,
        event: &Arc<RelayEvent>,
        now_unix: i64,
    ) -> HandlerAnswer {
        let headers = match self.headers(leased, event, now_unix) {
            Ok(headers) => headers,
            Err(detail) => return HandlerAnswer::failed(Failure::Destination, detail),
        };
        let mut request = Request::new(Full::new(event.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.address.uri.clone();
        *request.headers_mut() = headers;
        match tokio::time::timeout(
            self.timeout,
            self.exchange(clients.of(self.named_by), request, now_unix),
        )
        .await
        {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => failed(&error),
            Err(_) => HandlerAnswer::failed(
                Failure::Timeout,
                format!("no complete answer within {:?}", self.timeout),
            ),
        }
    }

    async fn exchange(
        &self,
        client: &Client,
        request: Request<Full<Bytes>>,
        now_unix: i64,
    ) -> Result<HandlerAnswer, legacy::Error> {
        let mut response = client.request(request).await?;
        let status = response.status().as_u16();
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let retry_after = header("retry-after").and_then(|value| retry_after(value, now_unix));
        let no_retry =
            header("hookonce-retry").is_some_and(|value| value.trim().eq_ignore_ascii_case("no"));
        let mut kept = Vec::new();
        while kept.len() < self.response_max {
            // The head decides the verdict. A body that breaks off, or never ends, does not change
            // it.
            let Some(Ok(frame)) = response.frame().await else {
                break;
            };
            let Ok(chunk) = frame.into_data() else {
                continue;
            };
            kept.extend_from_slice(&chunk[..chunk.len().min(self.response_max - kept.len())]);
        }
        Ok(HandlerAnswer {
            status: Ok(status),
            retry_after,
            no_retry,
            response: kept,
            detail: None,
        })
    }

    /// The headers of one attempt: the provider's, the destination's credential, and ours.
    fn headers(
        &self,
        leased: &Leased,
        event: &RelayEvent,
        now_unix: i64,
    ) -> Result<HeaderMap, String> {
        let mut headers = providers(event)?;
        headers.entry(USER_AGENT).or_insert(AGENT);
        headers.insert(ACCEPT, ANY);
        if let Some((name, value)) = &self.credential {
            headers.insert(name.clone(), value.clone());
        }
        let id = event.id.to_string();
        describe(&mut headers, leased, event, &id);
        set(&mut headers, WEBHOOK_TIMESTAMP, &now_unix.to_string());
        let signatures: Vec<String> = self
            .signers
            .iter()
            .map(|signer| signer.sign(&id, now_unix, &event.body))
            .collect();
        if !signatures.is_empty() {
            set(&mut headers, WEBHOOK_SIGNATURE, &signatures.join(" "));
        }
        Ok(headers)
    }
}

/// The headers that the provider sent, as they were kept, with room for ours.
fn providers(event: &RelayEvent) -> Result<HeaderMap, String> {
    let kept: Vec<StoredHeader<'_>> = serde_json::from_str(&event.headers)
        .map_err(|error| format!("the kept headers can't be read: {error}"))?;
    let mut headers = HeaderMap::with_capacity(kept.len() + OWN_HEADERS);
    for StoredHeader(name, value) in kept {
        let bytes: Cow<'_, [u8]> = match value.is_ascii() {
            true => Cow::Borrowed(value.as_bytes()),
            false => value
                .chars()
                .map(|c| u8::try_from(c).unwrap_or(b'?'))
                .collect(),
        };
        if let (Ok(name), Ok(value)) = (
            HeaderName::try_from(&*name),
            HeaderValue::from_bytes(&bytes),
        ) {
            headers.append(name, value);
        }
    }
    Ok(headers)
}

/// What the event and this attempt are. `id` is the event's id as text.
fn describe(headers: &mut HeaderMap, leased: &Leased, event: &RelayEvent, id: &str) {
    set(headers, WEBHOOK_ID, id);
    set(headers, IDEMPOTENCY_KEY, id);
    set(headers, SOURCE, &event.source);
    set(headers, EVENT_KEY, &event.event_key);
    if let Some(event_type) = &event.event_type {
        set(headers, EVENT_TYPE, event_type);
    }
    if let Some(mark) = event.mark {
        set(headers, MARK, mark.as_str());
    }
    set(headers, ATTEMPT, &(leased.attempts + 1).to_string());
    set(headers, FENCE, &leased.epoch.to_string());
    if let Some(replay) = leased.replay_id {
        set(headers, REPLAY, &replay.to_string());
    }
    set(headers, TRACEPARENT, &traceparent(event.id.0));
}

/// Sets one of our headers, in place of one of that name from the provider. Control characters,
/// which no header may hold, are left out; the event's body has the original.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let clean: Cow<'_, str> = match value.contains(char::is_control) {
        true => value.chars().filter(|c| !c.is_control()).collect(),
        false => value.into(),
    };
    if let Ok(value) = HeaderValue::from_bytes(clean.as_bytes()) {
        headers.insert(name, value);
    }
}

/// A `traceparent` of W3C Trace Context. The trace id is the event's, so all its attempts and
/// replays are one trace; the span is this attempt's.
fn traceparent(event: Uuid) -> String {
    format!(
        "00-{}-{:016x}-01",
        event.simple(),
        u64::from_ne_bytes(chance::bytes()) | 1
    )
}

fn failed(error: &legacy::Error) -> HandlerAnswer {
    if let Some(blocked) = outbound::blocked(error) {
        return HandlerAnswer::failed(Failure::Blocked, blocked.to_string());
    }
    let failure = match error.is_connect() {
        true if is_timeout(error) => Failure::Timeout,
        true => Failure::Connect,
        false => Failure::Interrupted,
    };
    HandlerAnswer::failed(failure, chain(error))
}

fn is_timeout(error: &dyn Error) -> bool {
    let is_one = |error: &(dyn Error + 'static)| {
        error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
    };
    std::iter::successors(error.source(), |&error| error.source()).any(is_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_is_sent() {
        assert_eq!(
            Address::parse("https://Example.com/in?a=1#part")
                .unwrap()
                .uri,
            "https://example.com/in?a=1"
        );
        assert_eq!(
            Address::parse("http://127.0.0.1:3000").unwrap().uri,
            Uri::from_static("http://127.0.0.1:3000/")
        );
        assert!(
            Address::parse("localhost")
                .unwrap_err()
                .contains("is not a URL")
        );
    }

    #[test]
    fn a_credential_is_a_header_that_no_log_shows() {
        let secret = |text: &str| Some(SecretRef::Value(text.to_owned().into()));
        let basic = credential(&Auth {
            basic: secret("us@er:p\u{e4}ss"),
            ..Auth::default()
        })
        .unwrap();
        assert_eq!(
            basic,
            (
                AUTHORIZATION,
                HeaderValue::from_static("Basic dXNAZXI6cMOkc3M=")
            )
        );
        let bearer = credential(&Auth {
            bearer: secret("t"),
            ..Auth::default()
        })
        .unwrap();
        assert_eq!(
            bearer,
            (AUTHORIZATION, HeaderValue::from_static("Bearer t"))
        );
        let own = credential(&Auth {
            header: Some("X-Api-Key".into()),
            value: secret("k"),
            ..Auth::default()
        })
        .unwrap();
        assert_eq!(
            (
                own.0.as_str(),
                own.1.to_str().unwrap(),
                format!("{:?}", own.1)
            ),
            ("x-api-key", "k", "Sensitive".into())
        );
        assert!(credential(&Auth::default()).is_err());
        assert!(
            credential(&Auth {
                bearer: secret("a\nb"),
                ..Auth::default()
            })
            .is_err()
        );
    }
}
