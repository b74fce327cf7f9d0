//! A ledger, its runs, and dedup.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;
use serde_json::{Value, value::to_raw_value};
use url::Url;
use uuid::Uuid;

use super::{
    error::Error,
    execute::Step,
    protocol::{Claim, Ended, Grant, Outcome, Protocol, StepState, Terms},
};

const GIVE_UP: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A ledger at a server. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    pub(super) protocol: Arc<Protocol>,
}

impl Ledger {
    pub fn new(url: &str, token: &str) -> Result<Self, Error> {
        Self::with(url, token, GIVE_UP)
    }

    /// `give_up` is how long one call without an answer, or with 429, 502, 503 or 504, is sent again; then `Unavailable`.
    pub fn with(url: &str, token: &str, give_up: Duration) -> Result<Self, Error> {
        let parsed: Url = url.parse().map_err(|error| Error::Invalid(format!("{url:?} is no URL: {error}")))?;
        // Only the first installation can succeed, and any is as good as another.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).connect_timeout(CONNECT_TIMEOUT);
        // What is on this machine is not asked for through a proxy.
        let builder = if is_loopback(&parsed) { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| Error::Invalid(format!("can't set up the HTTP client: {error}")))?;
        let protocol = Protocol {
            http,
            base: format!("{}/v1", url.trim_end_matches('/')),
            token: token.to_owned(),
            owner: format!("process {}", std::process::id()),
            give_up,
        };
        Ok(Self { protocol: Arc::new(protocol) })
    }

    /// A run by its name: a set of named steps that are executed once each.
    pub fn run(&self, name: &str) -> Run {
        Run { ledger: self.clone(), name: name.into(), known: Arc::default() }
    }

    /// Is this key new in the scope? The answer marks it, for the window: a crash before the work is done loses it.
    pub async fn dedup(&self, scope: &str, key: &str, window: Duration) -> Result<bool, Error> {
        Ok(self.protocol.mark(scope, key, window, None).await?.is_some())
    }

    /// The same under a lease: handle the key where it is the first, then say `done`; it is free again after the lease where you don't.
    pub async fn dedup_leased(&self, scope: &str, key: &str, window: Duration, lease: Duration) -> Result<DedupLease, Error> {
        let fence = self.protocol.mark(scope, key, window, Some(lease)).await?;
        Ok(DedupLease { ledger: self.clone(), scope: scope.to_owned(), key: key.to_owned(), fence })
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A key under a lease.
pub struct DedupLease {
    ledger: Ledger,
    scope: String,
    key: String,
    fence: Option<i64>,
}

impl DedupLease {
    /// It is yours to handle; else it was handled before.
    pub fn is_first(&self) -> bool {
        self.fence.is_some()
    }

    /// Says that the key is handled; `LeaseLost` where another has it now.
    pub async fn done(&self) -> Result<(), Error> {
        match self.fence {
            Some(fence) => self.ledger.protocol.mark_done(&self.scope, &self.key, fence).await,
            None => Ok(()),
        }
    }
}

/// A set of named steps that are executed once each. Clones know the same.
#[derive(Clone)]
pub struct Run {
    pub(super) ledger: Ledger,
    pub(super) name: Arc<str>,
    known: Arc<Mutex<BTreeMap<String, StepState>>>,
}

impl Run {
    /// A step to execute; see [`Step::execute`].
    pub fn step(&self, name: &str) -> Step {
        Step::new(self.clone(), name)
    }

    /// All steps as they are. Those that have ended are then skipped without asking again.
    pub async fn resume(&self) -> Result<BTreeMap<String, StepState>, Error> {
        let found = self.ledger.protocol.resume(&self.name).await?;
        let ended = found.iter().filter(|(_, state)| matches!(state.status.as_str(), "done" | "failed"));
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = ended.map(|(name, state)| (name.clone(), state.clone())).collect();
        Ok(found)
    }

    pub(super) fn known_end(&self, step: &str, terms: &Terms) -> Result<Option<Ended>, Error> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(state) = known.get(step) else { return Ok(None) };
        if state.input_hash.is_some() && terms.input_hash.is_some() && state.input_hash != terms.input_hash {
            return Err(Error::InputChanged(step.to_owned()));
        }
        let result = state.result.clone().map_or_else(|| to_raw_value(&Value::Null), Ok)?;
        Ok(Some(Ended { is_failed: state.status == "failed", result }))
    }

    /// A claim alone, for who executes in some other way: nobody beats for it. `claim_id` names this attempt.
    pub async fn claim(&self, step: &Step, claim_id: Option<&str>) -> Result<Claim, Error> {
        let id = claim_id.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned);
        self.ledger.protocol.claim(&self.name, &step.name, &step.terms, &id).await
    }

    pub async fn heartbeat(&self, grant: &Grant, lease: Duration) -> Result<(), Error> {
        self.ledger.protocol.heartbeat(&self.name, grant, lease, None).await
    }

    pub async fn complete(&self, grant: &Grant, result: &impl Serialize) -> Result<(), Error> {
        self.ledger.protocol.complete(&self.name, grant, &to_raw_value(result)?, &[]).await
    }

    pub async fn fail(&self, grant: &Grant, error: &Value) -> Result<(), Error> {
        self.ledger.protocol.fail(&self.name, grant, error, &[]).await
    }

    pub async fn release(&self, grant: &Grant) -> Result<(), Error> {
        self.ledger.protocol.release(&self.name, grant).await
    }

    /// Ends the doubt about an unknown step.
    pub async fn resolve(&self, step: &str, fence: i64, outcome: &Outcome) -> Result<(), Error> {
        self.ledger.protocol.resolve(&self.name, step, fence, outcome).await
    }
}
