//! Where a provider publishes its keys, as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the provider's public keys are.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct KeysSpec {
    /// A URL (https), or the selector of one in the request.
    pub from: String,
    /// What is there.
    pub format: KeyFormat,
    /// The hosts that such a URL may be on; `*` for any run within one part of the name, `{region}`
    /// for the name of a cloud's region (`us-east-1`) and nothing else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// The path that it must have, with `*` for any run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Selector of what must be one of the source's secrets, as the keys sign for all of the
    /// provider's customers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// Members of a JSON object to post for a key: `{kid}` is the token's key id, `{user}` and
    /// `{password}` the source's secret around its colon.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub post: BTreeMap<String, String>,
}

/// How keys are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyFormat {
    /// A certificate in PEM, of an RSA key; its dates count.
    X509,
    /// RFC 7517: a set, or one key.
    Jwks,
}
