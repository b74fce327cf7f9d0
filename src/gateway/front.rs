//! One gateway with its current settings: its upstream, its rules, and what bounds its calls. It
//! handles no request.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    key,
    upstream::{self, Client, Upstream, UpstreamError},
};
use crate::{
    clock::Clock,
    event::{GATEWAY_TENANT, TypeGlob},
    ledger::Ledger,
    outbound::Egress,
    port::reading::Reading,
    settings::{self, KeyFrom, KeyRule},
    store::link::Db,
};

/// The rules of one path.
#[derive(Clone, Debug)]
pub struct Rule {
    pub path: TypeGlob,
    pub key: KeyRule,
    pub key_from: KeyFrom,
    pub upstream_idempotent: bool,
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
    ) -> Result<Self, UpstreamError> {
        let whole = Rule {
            path: TypeGlob::new("*"),
            key: settings.key,
            key_from: settings.key_from.clone(),
            upstream_idempotent: settings.upstream_idempotent,
        };
        let rules = settings.paths.iter().map(|path| Rule {
            path: TypeGlob::new(&path.path),
            key: path.key.unwrap_or(whole.key),
            key_from: path
                .key_from
                .clone()
                .unwrap_or_else(|| whole.key_from.clone()),
            upstream_idempotent: path
                .upstream_idempotent
                .unwrap_or(whole.upstream_idempotent),
        });
        Ok(Self {
            rules: rules.chain([whole.clone()]).collect(),
            upstream: Upstream::parse(&settings.upstream)?,
            client: upstream::client(settings, egress)?,
            ledger,
            pool,
            clock,
            tenant: format!("{GATEWAY_TENANT}{name}").into(),
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

    /// The rule of a path: the first that matches.
    pub fn rule(&self, path: &str) -> &Rule {
        let path = key::plain_path(path);
        self.rules
            .iter()
            .find(|rule| rule.path.matches(&path))
            .unwrap_or(&self.rules[self.rules.len() - 1])
    }
}
