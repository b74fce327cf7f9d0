//! What makes two requests one event, as it is written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What makes two requests of a source the same event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dedup {
    /// The event key.
    Key,
    /// The digest of the body, with the event type where that stands in a header.
    Body,
    /// Nothing: each request is an event of its own.
    None,
}

/// What a scheme says of its event key.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct IdentitySpec {
    /// What the key's parts name together; none where nothing makes two requests the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Named>,
    /// Whether they stay the same when the provider sends an event again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stays: Option<Stability>,
    /// The page or library that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// What was looked at, and what was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

impl IdentitySpec {
    /// Whether it is established that two requests with one key are one event.
    pub(crate) fn is_established(&self) -> bool {
        matches!(self.names, Some(Named::Delivery | Named::Event))
            && self.stays == Some(Stability::Stated)
    }
}

/// What an event key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Named {
    /// One event on its way to one endpoint, however often it is tried.
    Delivery,
    /// One event, to whichever endpoint.
    Event,
    /// What somebody did: several events may come of it. No key alone.
    Action,
    /// What something was done to. No key alone.
    Object,
}

/// How it is known that a key stays the same when an event is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stability {
    /// A source that was read says so.
    Stated,
    /// Remembered, not read again.
    Recalled,
    /// Not established.
    Unknown,
}
