//! Brings public keys that providers publish, for requests that need them: bounded in number, bytes
//! and time, each key by one fetch at a time, what failed not again for a while. Which URLs are a
//! provider's own is decided before (`provider::keys`). Redirects are not followed.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::BoxFuture};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex as AsyncMutex;

use crate::{
    outbound::Proxy,
    provider::{KeySet, KnownKeys, Need},
};

const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// A key that was there, or not, is not asked for again so soon.
const PAUSE: Duration = Duration::from_secs(60);
const SLOTS_MAX: usize = 1024;
/// Forged requests may name ever new URLs on the provider's hosts: so many fetches a minute, and as
/// many at once.
const FETCHES_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(59);

/// Why a key is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The provider says that there is none, or what it gave is no key: the request is refused.
    NotThere,
    /// It was not to be had: the request may be right, so the provider is to send it again.
    Unavailable,
}

/// The world outside; tests bring their own.
pub trait Fetch: Send + Sync {
    /// GET, or POST of a JSON text.
    fn fetch(
        &self,
        url: String,
        post: Option<SecretString>,
    ) -> BoxFuture<'static, Result<Vec<u8>, Missing>>;
}

pub struct HttpFetch {
    client: reqwest::Client,
}

impl HttpFetch {
    pub fn new(proxy: Option<&Proxy>) -> Result<Self, reqwest::Error> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("hookonce/", env!("CARGO_PKG_VERSION")))
            .timeout(FETCH_TIMEOUT)
            .https_only(true);
        let client = match proxy {
            None => client,
            Some(Proxy { uri, authorization }) => {
                let proxy = reqwest::Proxy::all(uri.to_string())?;
                client.proxy(
                    authorization
                        .iter()
                        .fold(proxy, |proxy, value| proxy.custom_http_auth(value.clone())),
                )
            }
        };
        Ok(Self {
            client: client.build()?,
        })
    }
}

impl Fetch for HttpFetch {
    fn fetch(
        &self,
        url: String,
        post: Option<SecretString>,
    ) -> BoxFuture<'static, Result<Vec<u8>, Missing>> {
        let request = match post {
            Some(text) => self
                .client
                .post(url)
                .header("content-type", "application/json")
                .body(text.expose_secret().to_owned()),
            None => self.client.get(url),
        };
        Box::pin(read(request))
    }
}

/// The answer's body: capped, and only where it is a 200.
pub async fn read(request: reqwest::RequestBuilder) -> Result<Vec<u8>, Missing> {
    let response = request.send().await.map_err(|error| {
        tracing::warn!(error = %error.without_url(), "a provider's key was not to be had");
        Missing::Unavailable
    })?;
    let status = response.status();
    if !status.is_success() {
        // What says "not now" is not the request's fault.
        let later = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
        return Err(if later {
            Missing::Unavailable
        } else {
            Missing::NotThere
        });
    }
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Missing::Unavailable)?;
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Missing::NotThere);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The last fetch of one key, and who is at it.
type Slot = Arc<AsyncMutex<Option<(Instant, Result<(), Missing>)>>>;

pub struct Keyring {
    fetch: Arc<dyn Fetch>,
    slots: Mutex<HashMap<String, Slot>>,
    budget: DefaultDirectRateLimiter,
}

impl Keyring {
    pub fn new(fetch: Arc<dyn Fetch>) -> Self {
        Self {
            fetch,
            slots: Mutex::default(),
            budget: RateLimiter::direct(Quota::per_minute(FETCHES_PER_MINUTE)),
        }
    }

    /// Brings the key, unless it was brought just now. After this the request may be checked once
    /// more.
    pub async fn bring(
        &self,
        need: &Need,
        known: &KnownKeys,
        now_unix_ms: i64,
    ) -> Result<(), Missing> {
        let slot = self.slot(&need.id).ok_or(Missing::Unavailable)?;
        let mut last = slot.lock().await;
        // Those who waited find it done. A set that lacks a key is asked for again once a minute at
        // most.
        if let Some((at, outcome)) = *last
            && at.elapsed() < PAUSE
        {
            return outcome;
        }
        if self.budget.check().is_err() {
            return Err(Missing::Unavailable);
        }
        // Where its caller goes away the next one begins anew: nothing is half-done.
        let outcome = match self.fetch.fetch(need.url.clone(), need.post.clone()).await {
            Ok(bytes) => match KeySet::read(need.format, &bytes) {
                Ok(set) => {
                    known.put(need, set, now_unix_ms);
                    Ok(())
                }
                Err(error) => {
                    tracing::warn!(
                        url = need.url,
                        error,
                        "what a provider gave as its key is none"
                    );
                    Err(Missing::NotThere)
                }
            },
            Err(missing) => Err(missing),
        };
        *last = Some((Instant::now(), outcome));
        outcome
    }

    /// Calls a URL that a verified handshake names.
    pub async fn visit(&self, url: &str) -> Result<(), Missing> {
        if self.budget.check().is_err() {
            return Err(Missing::Unavailable);
        }
        self.fetch.fetch(url.to_owned(), None).await.map(drop)
    }

    /// None where too many are being asked for.
    fn slot(&self, id: &str) -> Option<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= SLOTS_MAX && !slots.contains_key(id) {
            let is_old = |slot: &Slot| {
                slot.try_lock()
                    .is_ok_and(|last| last.is_none_or(|(at, _)| at.elapsed() >= PAUSE))
            };
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || !is_old(slot));
            if slots.len() >= SLOTS_MAX {
                return None;
            }
        }
        Some(slots.entry(id.to_owned()).or_default().clone())
    }
}
