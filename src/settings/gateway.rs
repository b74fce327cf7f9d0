//! `[gateways.NAME]`: a reverse proxy that gives an API what it lacks, the Idempotency-Key.

use std::{
    borrow::Cow, collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{ByteSize, Period, SecretRef};

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Gateway {
    pub bind: SocketAddr,
    /// Where requests go: `http://` or `https://`, a path before theirs where there is one.
    pub upstream: String,
    /// A PEM file of certificates that an https upstream's may be signed by, beside those that this
    /// machine trusts.
    pub upstream_ca: Option<PathBuf>,
    #[serde(default)]
    pub key: KeyRule,
    #[serde(default)]
    pub key_from: KeyFrom,
    /// The header that has the key.
    #[serde(default = "default_key_header")]
    pub key_header: String,
    /// The header that tells callers apart; each has keys of its own.
    #[serde(default = "default_caller")]
    pub caller: String,
    /// Names of callers, for who looks at their steps: of each the whole value of that header.
    #[serde(default)]
    pub callers: BTreeMap<String, SecretRef>,
    /// The upstream knows the Idempotency-Key itself: it gets it, and a call whose answer was lost
    /// is made again.
    #[serde(default)]
    pub upstream_idempotent: bool,
    /// Calls in all to an upstream that is idempotent, before the caller is told.
    #[serde(default = "default_attempts_max")]
    pub attempts_max: u32,
    /// Places of a request's body that may differ in a repeat (`body:PATH`, `form:NAME`).
    #[serde(default)]
    pub fingerprint_ignore: Vec<String>,
    /// Statuses that say that nothing was done: the answer is passed on and the key is free.
    #[serde(default = "default_not_kept")]
    pub not_kept: Vec<u16>,
    /// Statuses that leave open what was done: the answer is passed on and the outcome is unknown.
    #[serde(default = "default_unknown")]
    pub unknown: Vec<u16>,
    /// How long an answer is given again.
    #[serde(default = "default_keep")]
    pub keep: Period,
    /// How long the key of such an answer is refused after that; then it is a new one.
    #[serde(default = "default_expired_keep")]
    pub expired_keep: Period,
    /// Largest request that carries a key: it is held in memory.
    #[serde(default = "default_body_max")]
    pub body_max: ByteSize,
    /// How long a request with a key may take to arrive.
    #[serde(default = "default_body_timeout")]
    pub body_timeout: Period,
    /// Largest answer that is kept; a larger one is passed on and can't be given again.
    #[serde(default = "default_body_kept_max")]
    pub body_kept_max: ByteSize,
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Period,
    /// From sending to the answer's head.
    #[serde(default = "default_timeout")]
    pub timeout: Period,
    /// Longest pause within a body, either way.
    #[serde(default = "default_idle_timeout")]
    pub idle_timeout: Period,
    /// How long an unused connection to the upstream may be used again. Shorter than the upstream's
    /// own time, or calls are lost.
    #[serde(default = "default_connection_idle_max")]
    pub connection_idle_max: Period,
    /// How long a repeat waits for the first, unless it says so itself (`Prefer: wait=n`).
    #[serde(default = "default_wait")]
    pub wait: Period,
    /// How long a call counts as alive without a sign of its node.
    #[serde(default = "default_lease")]
    pub lease: Period,
    #[serde(default = "default_calls_max")]
    pub calls_max: usize,
    /// Bodies of requests that are held in memory, all together.
    #[serde(default = "default_buffered_max")]
    pub buffered_max: ByteSize,
    /// Answers over 64 KiB that are on their way and are to be kept, all together; what does not
    /// fit is passed on and can't be given again.
    #[serde(default = "default_answers_max")]
    pub answers_max: ByteSize,
    /// Origins whose scripts may read what the gateway says in its own name, beside those that the
    /// upstream has let read its answers; `*` for all.
    #[serde(default)]
    pub cors_origins: Vec<String>,
    /// The page that refusals name as their description (`Link: …; rel="describedby"`).
    #[serde(default = "default_described_by")]
    pub described_by: String,
    /// Other rules for some paths: the first that fits.
    #[serde(default)]
    pub paths: Vec<GatewayPath>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct GatewayPath {
    /// A pattern of paths, `*` for any run of characters.
    pub path: String,
    pub key: Option<KeyRule>,
    pub key_from: Option<KeyFrom>,
    pub fingerprint_ignore: Option<Vec<String>>,
    pub upstream_idempotent: Option<bool>,
}

/// What becomes of a POST or PATCH without a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyRule {
    /// It is refused.
    #[default]
    Required,
    /// It is passed through.
    Optional,
}

/// Where the key is of callers that send no Idempotency-Key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeyFrom {
    /// Nowhere else.
    #[default]
    Header,
    /// The digest of method, path, query, content type and body.
    Digest,
    /// A JSON pointer (RFC 6901) into the body.
    Body(String),
}

impl fmt::Display for KeyFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("header"),
            Self::Digest => f.write_str("digest"),
            Self::Body(pointer) => write!(f, "body:{pointer}"),
        }
    }
}

impl<'de> Deserialize<'de> for KeyFrom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match (text.as_str(), text.strip_prefix("body:")) {
            ("header", _) => Ok(Self::Header),
            ("digest", _) => Ok(Self::Digest),
            (_, Some(pointer)) if pointer.starts_with('/') => Ok(Self::Body(pointer.into())),
            _ => Err(D::Error::custom(
                "write \"header\", \"digest\" or \"body:/a/b\" with a JSON pointer",
            )),
        }
    }
}

impl Serialize for KeyFrom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for KeyFrom {
    fn schema_name() -> Cow<'static, str> {
        "KeyFrom".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "\"header\", \"digest\", or \"body:\" and a JSON pointer", "examples": ["header", "digest", "body:/order/id"] })
    }
}

fn default_key_header() -> String {
    "idempotency-key".into()
}

/// Of these, 503 is what a balancer says that has nobody to send to (RFC 9110, 15.6.4).
fn default_not_kept() -> Vec<u16> {
    vec![401, 403, 408, 409, 423, 425, 429, 503]
}

/// A gateway says these of a request that it has sent, or may have (RFC 9110, 15.6.3 and 15.6.5).
fn default_unknown() -> Vec<u16> {
    vec![502, 504]
}

fn default_described_by() -> String {
    concat!(
        env!("CARGO_PKG_REPOSITORY"),
        "/blob/main/docs/idempotency.md#what-a-gateway-refuses"
    )
    .into()
}

fn default_caller() -> String {
    "authorization".into()
}

const fn default_attempts_max() -> u32 {
    3
}

const fn default_keep() -> Period {
    Period(Duration::from_secs(24 * 3600))
}

const fn default_expired_keep() -> Period {
    Period(Duration::from_secs(7 * 24 * 3600))
}

const fn default_body_max() -> ByteSize {
    ByteSize(10 << 20)
}

const fn default_body_timeout() -> Period {
    Period(Duration::from_secs(60))
}

const fn default_body_kept_max() -> ByteSize {
    ByteSize(1 << 20)
}

const fn default_connect_timeout() -> Period {
    Period(Duration::from_secs(5))
}

const fn default_timeout() -> Period {
    Period(Duration::from_secs(60))
}

const fn default_idle_timeout() -> Period {
    Period(Duration::from_secs(30))
}

const fn default_connection_idle_max() -> Period {
    Period(Duration::from_secs(1))
}

const fn default_wait() -> Period {
    Period(Duration::from_secs(2))
}

const fn default_lease() -> Period {
    Period(Duration::from_secs(15))
}

const fn default_calls_max() -> usize {
    1024
}

const fn default_buffered_max() -> ByteSize {
    ByteSize(64 << 20)
}

const fn default_answers_max() -> ByteSize {
    ByteSize(64 << 20)
}
