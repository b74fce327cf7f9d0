//! HTTP handlers: the exact body, the provider's headers, ours, and a Standard Webhooks signature of this attempt. Redirects are not followed.

use std::{error::Error as _, sync::Arc, time::Duration};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::{
    delivery::outcome::{Answer, Failure, retry_after},
    provider::standard::Signer,
    store::handoff::{Leased, RelayEvent},
};

/// One handler's address and keys.
#[derive(Clone)]
pub struct HttpDestination {
    pub url: reqwest::Url,
    /// Several while rotating: each attempt carries a signature of each.
    pub signers: Vec<Signer>,
    pub timeout: Duration,
    pub response_max: usize,
}

/// What sends: one connection pool for all destinations.
pub fn client() -> Result<reqwest::Client, reqwest::Error> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("hookonce/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .pool_idle_timeout(Duration::from_secs(60))
        .tcp_nodelay(true)
        .build()
}

impl HttpDestination {
    /// One attempt. Never fails: what went wrong is part of the answer.
    pub async fn send(&self, client: &reqwest::Client, leased: &Leased, event: &Arc<RelayEvent>, now_unix: i64) -> Answer {
        let headers = match self.headers(leased, event, now_unix) {
            Ok(headers) => headers,
            Err(detail) => return Answer::failed(Failure::Destination, detail),
        };
        let request = client.post(self.url.clone()).headers(headers).body(event.body.clone());
        match tokio::time::timeout(self.timeout, self.exchange(request, now_unix)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => failed(&error),
            Err(_) => Answer::failed(Failure::Timeout, format!("no complete answer within {:?}", self.timeout)),
        }
    }

    async fn exchange(&self, request: reqwest::RequestBuilder, now_unix: i64) -> Result<Answer, reqwest::Error> {
        let mut response = request.send().await?;
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let retry_after = header("retry-after").and_then(|value| retry_after(value, now_unix));
        let no_retry = header("hookonce-retry").is_some_and(|value| value.trim().eq_ignore_ascii_case("no"));
        let mut kept = Vec::new();
        while kept.len() < self.response_max {
            // The verdict is in the head: a body that breaks off, or goes on for ever, does not change it.
            let Ok(Some(chunk)) = response.chunk().await else { break };
            kept.extend_from_slice(&chunk[..chunk.len().min(self.response_max - kept.len())]);
        }
        Ok(Answer { status: Ok(status), retry_after, no_retry, response: kept, detail: None })
    }

    fn headers(&self, leased: &Leased, event: &RelayEvent, now_unix: i64) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        let kept: Vec<(String, String)> =
            serde_json::from_str(&event.headers).map_err(|error| format!("the kept headers can't be read: {error}"))?;
        for (name, value) in kept {
            let bytes: Vec<u8> = value.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect();
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(&bytes)) {
                headers.append(name, value);
            }
        }
        let id = event.id.to_string();
        let mut set = |name: &'static str, value: String| {
            // Bytes that no header may hold are dropped from the copy in the header; the body has the original.
            let clean: String = value.chars().filter(|c| !c.is_control()).collect();
            if let Ok(value) = HeaderValue::from_bytes(clean.as_bytes()) {
                headers.insert(name, value);
            }
        };
        set("webhook-id", id.clone());
        set("idempotency-key", id.clone());
        set("hookonce-source", event.source.to_string());
        set("hookonce-event-key", event.event_key.clone());
        if let Some(event_type) = &event.event_type {
            set("hookonce-event-type", event_type.clone());
        }
        set("hookonce-attempt", (leased.attempts + 1).to_string());
        set("hookonce-fence", leased.epoch.to_string());
        if let Some(replay) = leased.replay_id {
            set("hookonce-replay", replay.to_string());
        }
        set("traceparent", traceparent(event.id));
        set("webhook-timestamp", now_unix.to_string());
        let signatures: Vec<String> = self.signers.iter().map(|signer| signer.sign(&id, now_unix, &event.body)).collect();
        if !signatures.is_empty() {
            set("webhook-signature", signatures.join(" "));
        }
        Ok(headers)
    }
}

/// W3C Trace Context: the trace is the event's, so that all its attempts and replays are one trace; the span is this attempt's.
fn traceparent(event: Uuid) -> String {
    format!("00-{}-{:016x}-01", event.simple(), rand::random::<u64>() | 1)
}

fn failed(error: &reqwest::Error) -> Answer {
    let failure = if error.is_timeout() {
        Failure::Timeout
    } else if error.is_connect() {
        Failure::Connect
    } else if error.is_builder() {
        Failure::Destination
    } else {
        Failure::Interrupted
    };
    let mut detail = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        detail = format!("{detail}: {inner}");
        source = inner.source();
    }
    Answer::failed(failure, detail)
}
