//! The Idempotency-Key gateway: a reverse proxy for an API that lacks one. A key is a step of the ledger (tenant `gateway:NAME`, run the caller's
//! digest), so who may send, who waits, what is lost and what a person resolves is decided there; here is HTTP alone. Settings are read at the
//! start.

mod answer;
mod call;
mod execution;
mod headers;
mod kept;
mod key;
mod pass;
mod pointer;
mod refusal;
mod upstream;

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, http::Method, web};
use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    event::{GATEWAY_TENANT, TypeGlob},
    ledger::Ledger,
    outbound::Egress,
    port::reading::Reading,
    settings::{self, KeyFrom, KeyRule},
    store::link::Db,
};
use refusal::Refusal;
use upstream::{Client, Upstream, UpstreamError};

/// What counts for one path.
#[derive(Clone, Debug)]
struct Rule {
    path: TypeGlob,
    key: KeyRule,
    key_from: KeyFrom,
    upstream_idempotent: bool,
}

/// One gateway in force.
pub struct Gateway {
    settings: settings::Gateway,
    /// The last fits every path.
    rules: Vec<Rule>,
    upstream: Upstream,
    client: Client,
    ledger: Arc<Ledger>,
    pool: Db,
    tenant: Arc<str>,
    calls: Arc<Semaphore>,
    /// Bytes that bodies of requests may take, and bytes that answers may which are kept as they pass.
    buffered: Arc<Reading>,
    answers: Arc<Semaphore>,
    /// Calls that have begun: they end whatever becomes of who sent them, so they don't run on a connection's thread.
    runtime: Handle,
    tasks: TaskTracker,
    /// Cancelled when the time to stop is over: what is not answered by then is unknown.
    cut: CancellationToken,
}

impl Gateway {
    /// Opens no connection. To be called on the runtime that calls are to run on.
    pub fn new(name: &str, settings: &settings::Gateway, egress: &Egress, ledger: Arc<Ledger>, pool: Db) -> Result<Self, UpstreamError> {
        let whole = Rule {
            path: TypeGlob::new("*"),
            key: settings.key,
            key_from: settings.key_from.clone(),
            upstream_idempotent: settings.upstream_idempotent,
        };
        let rules = settings.paths.iter().map(|path| Rule {
            path: TypeGlob::new(&path.path),
            key: path.key.unwrap_or(whole.key),
            key_from: path.key_from.clone().unwrap_or_else(|| whole.key_from.clone()),
            upstream_idempotent: path.upstream_idempotent.unwrap_or(whole.upstream_idempotent),
        });
        Ok(Self {
            rules: rules.chain([whole.clone()]).collect(),
            upstream: Upstream::parse(&settings.upstream)?,
            client: upstream::client(settings, egress)?,
            ledger,
            pool,
            tenant: format!("{GATEWAY_TENANT}{name}").into(),
            calls: Arc::new(Semaphore::new(settings.calls_max)),
            buffered: Reading::new(settings.buffered_max.bytes()),
            answers: Arc::new(Semaphore::new(settings.answers_max.bytes().min(Semaphore::MAX_PERMITS))),
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            cut: CancellationToken::new(),
            settings: settings.clone(),
        })
    }

    /// Lets calls that have begun end within this time; what is left then is unknown.
    pub async fn drain(&self, timeout: std::time::Duration) {
        self.tasks.close();
        if tokio::time::timeout(timeout, self.tasks.wait()).await.is_err() {
            self.cut.cancel();
            let _ = tokio::time::timeout(timeout, self.tasks.wait()).await;
        }
    }

    fn rule(&self, path: &str) -> &Rule {
        let path = key::plain_path(path);
        self.rules.iter().find(|rule| rule.path.matches(&path)).unwrap_or(&self.rules[self.rules.len() - 1])
    }
}

/// Every path of a gateway's port.
pub fn configure(config: &mut web::ServiceConfig) {
    config.default_service(web::to(receive));
}

async fn receive(request: HttpRequest, payload: web::Payload, gateway: web::Data<Gateway>) -> HttpResponse {
    let is_head = request.method() == Method::HEAD;
    match handle(&request, payload, &gateway.into_inner()).await {
        Ok(answer) => answer.into_response(is_head),
        Err(refusal) => refusal.into_response(),
    }
}

async fn handle(request: &HttpRequest, payload: web::Payload, gateway: &Arc<Gateway>) -> Result<answer::Answer, Refusal> {
    headers::check(request)?;
    let permit = gateway.calls.clone().try_acquire_owned().map_err(|_| Refusal::Busy)?;
    let outgoing = headers::Outgoing::of(request, &gateway.upstream)?;
    // The other methods are idempotent by themselves (RFC 9110, 9.2.2).
    if !matches!(*request.method(), Method::POST | Method::PATCH) {
        return pass::pass(gateway, outgoing, payload, permit).await;
    }
    let rule = gateway.rule(request.path());
    let key = key::of_header(request.headers())?;
    if key.is_none() && rule.key_from == KeyFrom::Header {
        return match rule.key {
            KeyRule::Required => Err(Refusal::KeyMissing("send a header Idempotency-Key with a name of this operation")),
            KeyRule::Optional => pass::pass(gateway, outgoing, payload, permit).await,
        };
    }
    let (body, share) = call::read_body(gateway, request, payload).await?;
    let fingerprint = key::fingerprint(request, &body);
    let key = match key {
        Some(key) => Some(key),
        None => key::derived(&rule.key_from, &fingerprint, &body)?,
    };
    match (key, rule.key) {
        (Some(key), _) => {
            call::start(gateway, request, outgoing, call::Keyed { key, fingerprint, body, rule: rule.clone() }, (permit, share)).await
        }
        (None, KeyRule::Optional) => pass::pass_body(gateway, outgoing, body, permit).await,
        (None, KeyRule::Required) => {
            Err(Refusal::KeyMissing("the body has no key where this path's rule looks for it: send it, or a header Idempotency-Key"))
        }
    }
}
