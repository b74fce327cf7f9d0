//! Handshakes, as they are written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A handshake: a request that is answered and not recorded. The answer's texts are templates, as
/// `content` is, with `{mac}` besides.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ChallengeSpec {
    /// The request's method; default: POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// By selector the value that marks the handshake: `*` for any, empty for a place that must not
    /// be there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<String, String>,
    /// The handshake comes without a signature.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsigned: bool,
    /// Selector of a token that must be the source's `verify_token` (without one: one of its
    /// secrets).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Content whose digest, made and written as the provider's signatures are, is `{mac}` in the
    /// answer. Where the handshake is unsigned, only plain words get one: up to 256 printable
    /// characters of ASCII, none of `{}[]"<>&`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// What that content may be made of where the handshake is unsigned: whoever asks gets its
    /// digest. Default: word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_text: Option<MacText>,
    /// The answer's status, 200 to 299; default: 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The answer's body: a text, or the members of a JSON object. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerSpec>,
    /// The answer's headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Selector of a URL that is called (GET, on one of `keys.hosts`) before the handshake is
    /// answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visit: Option<String>,
    /// Selector of the source's secret, which comes in this handshake; kept only while the source
    /// has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
}

/// Texts that can be no event of the provider's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MacText {
    /// 256 characters of ASCII at most, none of `{}[]"<>&`: no JSON, no XML, no form.
    Word,
    /// 32 hex digits at most.
    Hex,
}

/// The body of an answer.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text or a table")]
pub enum AnswerSpec {
    /// A template of a text.
    Text(String),
    /// Strings are templates; other values stand as they are.
    Object(serde_json::Map<String, serde_json::Value>),
}
