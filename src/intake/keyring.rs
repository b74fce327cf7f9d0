//! Fetches the public keys that providers publish, for requests that need them. Number, bytes and
//! time are bounded, one key has one fetch at a time, and a failure is not repeated for a while.
//! `hookonce_scheme::keys` decides before which URLs are a provider's own. Redirects are not followed.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::BoxFuture};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use hookonce_scheme::{KeySet, KnownKeys, Need};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex as AsyncMutex;

use crate::outbound::Proxy;

const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// How long a fetch counts, whether it found the key or not, before the key may be fetched again.
const PAUSE: Duration = Duration::from_secs(60);
const SLOTS_MAX: usize = 1024;
/// Forged requests may name any number of URLs on the provider's hosts, so all fetches together are
/// bounded by this, in a burst as well.
const FETCHES_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(59);

/// Why a key could not be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The provider says that there is none, or its answer is not a key. The request is refused.
    NotThere,
    /// The provider could not be asked. The request may be right, so the provider is asked to send
    /// it again.
    Unavailable,
}

/// The way to the provider; tests bring their own.
pub trait Fetch: Send + Sync {
    /// Sends a GET, or a POST if there is a JSON text to send.
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

/// The body of a 200, up to a cap.
pub async fn read(request: reqwest::RequestBuilder) -> Result<Vec<u8>, Missing> {
    let response = request.send().await.map_err(|error| {
        tracing::warn!(error = %error.without_url(), "a provider's key was not to be had");
        Missing::Unavailable
    })?;
    let status = response.status();
    if !status.is_success() {
        // A status that says "not now" is not the request's fault.
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

/// The last fetch of one key. Whoever fetches it holds the lock.
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

    /// Fetches the key, unless that was done just now. Afterwards the request can be checked once
    /// more.
    pub async fn bring(
        &self,
        need: &Need,
        known: &KnownKeys,
        now_unix_ms: i64,
    ) -> Result<(), Missing> {
        let slot = self.slot(&need.id).ok_or(Missing::Unavailable)?;
        let mut last = slot.lock().await;
        // Whoever waited for the lock finds the fetch done. A set that lacks the key is fetched
        // again once a minute at most.
        if let Some((at, outcome)) = *last
            && at.elapsed() < PAUSE
        {
            return outcome;
        }
        if self.budget.check().is_err() {
            return Err(Missing::Unavailable);
        }
        // If the caller goes away here, the next one fetches anew, since nothing has been changed
        // yet.
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

    /// The key's slot, or None while too many keys are being fetched.
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
