//! The signature scheme grammar as data: what `config/providers/*.toml` and a user's `[providers.NAME]` are written in. Only the shape
//! is here; the small languages inside the strings (selectors, content, secret steps) are read and checked by the provider layer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::Period;

/// One provider's scheme. A *selector* names a place in a request: `header:NAME`, `body:a.b`, `body:list[0].id`, `body:list[].id` (all,
/// joined with commas), `query:NAME`, `form:NAME`, `signature:MEMBER`; `a|b` takes the first that is there, `a+b` joins with a dot, and
/// `b?` in a join may be missing.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SchemeSpec {
    /// The provider's name as people write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The page that documents the signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docs: Option<String>,
    /// How the facts were established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,

    pub algorithm: Algorithm,
    /// Default: hex; plain for `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    pub signature: SignatureSpec,
    /// What is signed: text with `{body}`, `{timestamp}`, `{id}`, `{url}`, `{method}`, `{secret}` or `{SELECTOR}`; `{{` is a brace.
    /// Default: `{body}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// From the secret as the provider's page shows it to the key: `strip:PREFIX` (`*` for any run), `base64`, `hex`, `text`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret: Vec<String>,
    /// What the provider's secrets begin with, where that stays part of the key; used to make one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_starts: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeSpec>,
    /// Selector of what `{id}` stands for in the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Selector of the event key. Without it, or where a request lacks it, the body's SHA-256 is the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Selector of the event type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// How long the provider may send an event again: the least time to remember keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Period>,
    /// How long the provider waits for an answer, less a margin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack_budget: Option<Period>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<ChallengeSpec>,
    /// The content type that the provider sends; default: application/json.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    #[serde(rename = "hmac-sha1")]
    HmacSha1,
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    #[serde(rename = "hmac-sha384")]
    HmacSha384,
    #[serde(rename = "hmac-sha512")]
    HmacSha512,
    /// A plain hash of the content, which must name `{secret}`.
    #[serde(rename = "sha1")]
    Sha1,
    #[serde(rename = "sha256")]
    Sha256,
    /// The secret itself is sent.
    Token,
    Ed25519,
    /// Named by the grammar, not yet built.
    #[serde(rename = "ecdsa-p256-sha256")]
    EcdsaP256Sha256,
    /// Named by the grammar, not yet built.
    #[serde(rename = "rsa-sha256")]
    RsaSha256,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Either case.
    Hex,
    /// The standard alphabet, padded or not.
    Base64,
    /// The URL-safe alphabet, padded or not.
    Base64url,
    Plain,
}

/// Where signatures are and how their text is taken apart: the value is split at `separator`, each item at the first `pair` into a name
/// and a digest, of which those named in `take` count; then `prefix` is taken off.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SignatureSpec {
    /// Selector: `header:NAME`, with `|` for other names of the same header.
    pub from: String,
    /// Each alternative that is there counts, not the first alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub every: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub take: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prefix_optional: bool,
    /// Items at the front that are no digests; `signature:0` names the first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skip: usize,
    /// More items than this are refused before any is computed; default 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates_max: Option<usize>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TimeSpec {
    /// Selector.
    pub from: String,
    #[serde(default)]
    pub unit: TimeUnit,
    /// How far the request's time may be from ours; without it the time is read and not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Period>,
    #[serde(default)]
    pub direction: Direction,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    #[default]
    S,
    Ms,
    Rfc3339,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    #[default]
    Both,
    Past,
}

/// A handshake: a request that is answered and not recorded.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ChallengeSpec {
    /// The request's method, where it is not POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Selector of what marks the handshake.
    pub when: String,
    /// The value it must have; default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<String>,
    /// Selector of what is answered.
    pub answer: String,
    /// The answer is a JSON object with this member; default: the bare text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The handshake comes without a signature.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsigned: bool,
}
