//! The sections of the settings, as config/default.toml documents them key by key.

use std::{collections::BTreeMap, net::SocketAddr};

use hookonce_scheme::spec::{Dedup, OneOrMany, SchemeSpec, SourceSpec, SplitAt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    gateway::Gateway,
    value::{ByteSize, Network, Period, SecretRef, UrlText},
};

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Settings {
    pub ingress: Ingress,
    pub admin: Admin,
    pub database: Database,
    pub relay: Relay,
    pub egress: Egress,
    pub ledger: Ledger,
    pub retention: Retention,
    pub rejections: Rejections,
    pub metrics: Metrics,
    pub log: Log,
    #[serde(default)]
    pub sources: BTreeMap<String, Source>,
    #[serde(default)]
    pub destinations: BTreeMap<String, Destination>,
    #[serde(default)]
    pub routes: Vec<Route>,
    #[serde(default)]
    pub gateways: BTreeMap<String, Gateway>,
    #[serde(default)]
    pub providers: BTreeMap<String, SchemeSpec>,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Ingress {
    pub bind: SocketAddr,
    pub public_url: Option<UrlText>,
    pub workers: usize,
    pub connections_max: usize,
    pub connections_per_address_max: usize,
    /// Requests a second; 0: unbounded.
    pub rate_per_address: u32,
    pub body_max: ByteSize,
    pub head_timeout: Period,
    pub body_timeout: Period,
    /// How long a connection without a request stays open, on every port.
    pub keep_alive: Period,
    pub ack_budget: Period,
    pub queue_rows_max: usize,
    pub queue_bytes_max: ByteSize,
    pub recent_keys_max: usize,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Admin {
    pub bind: SocketAddr,
    /// The bearer token of the admin API; without it one is made and kept in the data folder.
    pub token: Option<SecretRef>,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Database {
    /// A postgres:// URL; without it a managed Postgres in the data folder.
    pub url: Option<SecretRef>,
    pub connections_max: u32,
    pub batch_connections: usize,
    pub batch_rows_max: usize,
    /// How long a statement that records, claims or completes may take before its connection is
    /// given up.
    pub write_timeout: Period,
    /// How far the node's clock may be off the database's before the log and `/readyz` say so.
    pub clock_skew_max: Period,
    pub allow_fsync_off: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Relay {
    pub timeout: Period,
    pub lease: Period,
    pub concurrency: usize,
    pub response_max: ByteSize,
    pub retry: Retry,
    pub breaker: Breaker,
    pub handoff_rows_max: usize,
    pub handoff_bytes_max: ByteSize,
    pub poll_interval: Period,
    pub finish_linger: Period,
    pub finish_rows_max: usize,
    pub drain_timeout: Period,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Retry {
    pub base: Period,
    pub factor: f64,
    pub cap: Period,
    pub attempts_max: u32,
    pub age_max: Period,
    /// An explicit list of delays instead of the exponential schedule.
    pub schedule: Option<Vec<Period>>,
    pub retry_after_max: Period,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Breaker {
    /// Attempts in a row that must fail for the breaker to open; 0 switches it off.
    pub failures: u32,
    /// How long it stays open before one probe is let through.
    pub open: Period,
}

/// Which addresses may be connected to, beyond the rules that hold for all.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Egress {
    pub allow: Vec<Network>,
    pub deny: Vec<Network>,
    /// The URL of an HTTP proxy for what is public.
    pub proxy: Option<String>,
    /// Its "user:password".
    pub proxy_basic: Option<SecretRef>,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Ledger {
    /// A port for the ledger and dedup alone; without it they are on the admin port only.
    pub bind: Option<SocketAddr>,
    pub lease_max: Period,
    pub wait_max: Period,
    pub waiters_max: usize,
    pub wait_poll_interval: Period,
    pub call_timeout: Period,
    pub call_max: ByteSize,
    pub result_max: ByteSize,
    pub emit_max: usize,
    pub keep: Period,
    pub window_max: Period,
    pub batch_connections: usize,
    pub batch_rows_max: usize,
    pub queue_rows_max: usize,
    pub queue_bytes_max: ByteSize,
    /// Other times for steps of some tenants or runs: the first that matches.
    #[serde(default)]
    pub scopes: Vec<LedgerScope>,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct LedgerScope {
    /// Without it every tenant, and who has none.
    pub tenant: Option<String>,
    /// A pattern of run names, `*` for any run of characters; without it every run.
    pub run: Option<String>,
    pub keep: Period,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Retention {
    pub events: Period,
    pub deliveries: Period,
    pub keys: Period,
    pub conflicts: Period,
    /// Counts by minute.
    pub counts: Period,
    pub interval: Period,
    pub delete_rows_max: i64,
}

/// The log of refused requests, in memory.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Rejections {
    pub rows_max: usize,
    pub bytes_max: ByteSize,
    pub age_max: Period,
    /// How much of a refused body is kept; a body that is kept whole can be explained best.
    pub body_prefix_max: ByteSize,
    /// Of each source and reason, so many a minute are kept and the rest counted.
    pub kept_per_minute: u32,
}

/// Who may read `/metrics` on the admin port, besides the holder of a token that may read.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Metrics {
    /// A bearer token that may read the metrics and nothing else.
    pub token: Option<SecretRef>,
    /// Whether anybody who reaches the admin port may read them.
    pub open: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Log {
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Source {
    pub provider: String,
    pub secret: Option<SecretRef>,
    #[serde(default)]
    pub secrets: Vec<SecretRef>,
    /// Whether one request is split into several events, and where they are (`body:events`; `body:`
    /// for a list); default: as the provider.
    pub items: Option<SplitAt>,
    /// Where the event key is, in the grammar of a provider's `key`, or several places that are
    /// joined; default: the provider's.
    pub key: Option<OneOrMany<String>>,
    /// What makes two requests the same event: the key, the body's digest, or nothing; default: as
    /// the provider.
    pub dedup: Option<Dedup>,
    /// Places that change when the provider sends an event again, besides those that are known of
    /// the provider (`body:PATH`, `form:NAME`).
    #[serde(default)]
    pub ignore: Vec<String>,
    /// What becomes of a signed body that comes again under a new id that is not signed.
    #[serde(default)]
    pub replay_guard: ReplayGuard,
    /// The URL as it is registered with the provider, for those that sign it; default:
    /// `ingress.public_url` and the path.
    pub url: Option<UrlText>,
    /// What the provider's handshake is asked for (Meta); default: any of the secrets.
    pub verify_token: Option<SecretRef>,
    /// The secret comes in the provider's handshake (Asana, Notion): the first is kept in the
    /// database.
    #[serde(default)]
    pub learn_secret: bool,
    pub window: Option<Period>,
    pub body_max: Option<ByteSize>,
    pub ack_budget: Option<Period>,
    /// Default: `keep` where the provider's key is established to name an event, else `relay`.
    pub on_conflict: Option<OnConflict>,
    /// Fields of the provider's scheme that this source sets itself (the generic `hmac` and `token`
    /// need some).
    #[serde(default)]
    pub scheme: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Source {
    /// What the source says of its scheme. A verifier is built from this and the secrets.
    pub fn spec(&self) -> SourceSpec {
        SourceSpec {
            provider: self.provider.clone(),
            items: self.items.clone(),
            key: self.key.clone(),
            dedup: self.dedup,
            ignore: self.ignore.clone(),
            learn_secret: self.learn_secret,
            scheme: self.scheme.clone(),
        }
    }
}

/// What becomes of a verified request with the key of an earlier event but another body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// Kept as a conflict, counted, not relayed.
    Keep,
    /// Counted alone: the body is not kept.
    Drop,
    /// An event of its own, marked and relayed.
    Relay,
}

impl OnConflict {
    /// What holds if the source does not say. Under a key that may name several events, another
    /// body is another event.
    pub fn where_key_is(doubtful: bool) -> Self {
        if doubtful { Self::Relay } else { Self::Keep }
    }
}

/// What becomes of a signed body that comes again under a new id, where the signature covers
/// neither the id nor a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReplayGuard {
    /// An event of its own, marked and relayed.
    #[default]
    Mark,
    /// Kept as a conflict, not relayed.
    Hold,
    /// Nobody looks.
    Off,
}

#[derive(Clone, Debug, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Destination {
    pub url: String,
    /// What the handler is to know hookonce by.
    pub auth: Option<Auth>,
    pub signing_secret: Option<SecretRef>,
    /// Several while rotating: each attempt is signed with all.
    #[serde(default)]
    pub signing_secrets: Vec<SecretRef>,
    pub timeout: Option<Period>,
    pub concurrency: Option<usize>,
    /// Attempts a second at most; default: no limit.
    pub rate: Option<u32>,
    pub retry: Option<RetryOverride>,
}

/// One of three: `bearer`, `basic`, or a header and its value.
#[derive(Clone, Debug, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Auth {
    /// A token (RFC 6750).
    pub bearer: Option<SecretRef>,
    /// `user:password` (RFC 7617).
    pub basic: Option<SecretRef>,
    /// The name of a header, and what is in it.
    pub header: Option<String>,
    pub value: Option<SecretRef>,
}

/// The parts of `relay.retry` that a destination sets for itself.
#[derive(Clone, Debug, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RetryOverride {
    pub base: Option<Period>,
    pub factor: Option<f64>,
    pub cap: Option<Period>,
    pub attempts_max: Option<u32>,
    pub age_max: Option<Period>,
    pub schedule: Option<Vec<Period>>,
    pub retry_after_max: Option<Period>,
}

/// The source of events that steps emit without naming another. It needs no table of its own.
pub const LEDGER_SOURCE: &str = "ledger";

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Route {
    pub source: String,
    /// Patterns of event types, `*` for any run of characters; without it every event.
    #[serde(default)]
    pub types: Vec<String>,
    pub destination: String,
}
