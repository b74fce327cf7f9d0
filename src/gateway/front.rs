//! One gateway with its current settings: its upstream, its rules, and what bounds its calls. It
//! handles no request.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use hookonce_scheme::Ignored;
use http::{HeaderName, HeaderValue, StatusCode};
use secrecy::ExposeSecret as _;
use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    cors::Cors,
    key, refusal,
    upstream::{self, Client, Upstream, UpstreamError},
};
use crate::{
    clock::Clock,
    event::{GATEWAY_TENANT, TypeGlob},
    ledger::Ledger,
    outbound::Egress,
    port::reading::Reading,
    settings::{self, KeyFrom, KeyRule, SecretRef},
    store::link::Db,
};

/// Settings that no gateway can be made of; all but those of the upstream are found by `config
/// check` already.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("key_header {0:?} is no header's name")]
    KeyHeader(String),
    #[error("described_by {0:?} is no address")]
    DescribedBy(String),
    #[error("fingerprint_ignore: {0}")]
    Place(String),
    #[error("callers.{0}: {1}")]
    Caller(String, String),
}

/// The rules of one path.
#[derive(Clone, Debug)]
pub struct Rule {
    pub path: TypeGlob,
    pub key: KeyRule,
    pub key_from: KeyFrom,
    /// Places of a body that are no part of the fingerprint.
    pub ignored: Arc<Ignored>,
    pub upstream_idempotent: bool,
}

/// What becomes of a key after an answer of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The answer is final, and given again.
    Kept,
    /// Nothing was done: the same request may be sent again.
    Free,
    /// The answer does not say whether something was done.
    Unknown,
}

/// A gateway with its current settings.
pub struct Gateway {
    pub settings: settings::Gateway,
    /// The last rule matches every path.
    pub rules: Vec<Rule>,
    pub upstream: Upstream,
    pub client: Client,
    pub ledger: Arc<Ledger>,
    pub pool: Db,
    pub clock: Clock,
    pub tenant: Arc<str>,
    pub key_header: HeaderName,
    /// The names of callers, by the digests that their keys are kept under.
    pub callers: HashMap<String, String>,
    pub cors: Cors,
    /// The value of `Link` in what the gateway refuses.
    pub described_by: HeaderValue,
    pub calls: Arc<Semaphore>,
    /// Room for bytes: `buffered` for bodies of requests, `answers` for answers that are kept while
    /// they pass.
    pub buffered: Arc<Reading>,
    pub answers: Arc<Semaphore>,
    /// Calls that have begun run here and not on a connection's thread, because they go on if their
    /// caller goes away.
    pub runtime: Handle,
    pub tasks: TaskTracker,
    /// Cancelled when the time to stop is over. What is not answered by then is unknown.
    pub cut: CancellationToken,
}

impl Gateway {
    /// Opens no connection. Call it on the runtime that calls are to run on.
    pub fn new(
        name: &str,
        settings: &settings::Gateway,
        egress: &Egress,
        ledger: Arc<Ledger>,
        pool: Db,
        clock: Clock,
    ) -> Result<Self, GatewayError> {
        let whole = Rule {
            path: TypeGlob::new("*"),
            key: settings.key,
            key_from: settings.key_from.clone(),
            ignored: ignored(&settings.fingerprint_ignore)?,
            upstream_idempotent: settings.upstream_idempotent,
        };
        let rules = settings.paths.iter().map(|path| {
            Ok(Rule {
                path: TypeGlob::new(&path.path),
                key: path.key.unwrap_or(whole.key),
                key_from: path
                    .key_from
                    .clone()
                    .unwrap_or_else(|| whole.key_from.clone()),
                ignored: match &path.fingerprint_ignore {
                    Some(places) => ignored(places)?,
                    None => whole.ignored.clone(),
                },
                upstream_idempotent: path
                    .upstream_idempotent
                    .unwrap_or(whole.upstream_idempotent),
            })
        });
        let mut rules: Vec<Rule> = rules.collect::<Result<_, GatewayError>>()?;
        rules.push(whole);
        Ok(Self {
            rules,
            upstream: Upstream::parse(&settings.upstream)?,
            client: upstream::client(settings, egress)?,
            ledger,
            pool,
            clock,
            tenant: format!("{GATEWAY_TENANT}{name}").into(),
            key_header: settings
                .key_header
                .parse()
                .map_err(|_| GatewayError::KeyHeader(settings.key_header.clone()))?,
            callers: callers(&settings.callers)?,
            cors: Cors::new(&settings.cors_origins),
            described_by: refusal::described_by(&settings.described_by)
                .ok_or_else(|| GatewayError::DescribedBy(settings.described_by.clone()))?,
            calls: Arc::new(Semaphore::new(settings.calls_max)),
            buffered: Reading::new(settings.buffered_max.bytes()),
            answers: Arc::new(Semaphore::new(
                settings.answers_max.bytes().min(Semaphore::MAX_PERMITS),
            )),
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            cut: CancellationToken::new(),
            settings: settings.clone(),
        })
    }

    /// Waits at most this long for the calls that have begun. What is left then is unknown.
    pub async fn drain(&self, timeout: Duration) {
        self.tasks.close();
        if tokio::time::timeout(timeout, self.tasks.wait())
            .await
            .is_err()
        {
            self.cut.cancel();
            let _ = tokio::time::timeout(timeout, self.tasks.wait()).await;
        }
    }

    /// What becomes of a key whose request got an answer with this status.
    pub fn fate(&self, status: StatusCode) -> Fate {
        if self.settings.unknown.contains(&status.as_u16()) {
            Fate::Unknown
        } else if self.settings.not_kept.contains(&status.as_u16()) {
            Fate::Free
        } else {
            Fate::Kept
        }
    }

    /// The rule of a path: the first that matches.
    pub fn rule(&self, path: &str) -> &Rule {
        let path = key::plain_path(path);
        self.rules
            .iter()
            .find(|rule| rule.path.matches(&path))
            .unwrap_or(&self.rules[self.rules.len() - 1])
    }
}

fn ignored(places: &[String]) -> Result<Arc<Ignored>, GatewayError> {
    let text = |(_, message): (usize, String)| message;
    Ignored::new(places).map(Arc::new).map_err(|problems| {
        let messages: Vec<String> = problems.into_iter().map(text).collect();
        GatewayError::Place(messages.join(", "))
    })
}

fn callers(named: &BTreeMap<String, SecretRef>) -> Result<HashMap<String, String>, GatewayError> {
    let of = |(name, value): (&String, &SecretRef)| {
        let value = value
            .read()
            .map_err(|error| GatewayError::Caller(name.clone(), error))?;
        let values = [value.expose_secret().as_bytes()];
        Ok((key::caller_of(values.into_iter()), name.clone()))
    };
    named.iter().map(of).collect()
}
