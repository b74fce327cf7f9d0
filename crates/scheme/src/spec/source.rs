//! What a source sets of its scheme.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{identity::Dedup, one_or_many::OneOrMany};

/// True for where the provider has them, false for not at all; or a place.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected true, false or a place such as \"body:events\""
)]
pub enum SplitAt {
    /// Where the provider has them, or not at all.
    Known(bool),
    /// At this place: `body:` or `body:PATH`, of a list.
    Place(String),
}

/// What a source says of its scheme: its provider, and what it sets itself.
#[derive(Clone, Debug, Default)]
pub struct SourceSpec {
    /// The name of a scheme, or another name of its provider.
    pub provider: String,
    /// Whether one request is split into several events, and where they are; None: as the provider.
    pub items: Option<SplitAt>,
    /// Where the event key is, in the grammar of a scheme's `key`; None: the provider's.
    pub key: Option<OneOrMany<String>>,
    /// What makes two requests one event; None: as the provider.
    pub dedup: Option<Dedup>,
    /// Places that are ignored besides those of the provider's scheme.
    pub ignore: Vec<String>,
    /// The secret comes in the provider's handshake.
    pub learn_secret: bool,
    /// Fields of the provider's scheme that this source sets itself.
    pub scheme: Option<serde_json::Map<String, serde_json::Value>>,
}
