//! What the public port answers. The order of the members is the order on the wire.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EventId, named::named};

named! {
    /// What became of a request that was taken.
    pub enum TakenStatus {
        /// Seen for the first time.
        Accepted = "accepted",
        /// The same as the event.
        Duplicate = "duplicate",
        /// Of the event's key, and otherwise not the same.
        Conflict = "conflict",
    }
}

/// The answer to a request that was taken, where its provider does not insist on another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Taken {
    /// Of a request that was split: accepted if any part is, else conflict if any is.
    pub status: TakenStatus,
    /// The event; of a duplicate or a conflict, the first.
    pub event: EventId,
    /// Of a request that was split, how many parts became what. Left out of any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TakenItems")]
    pub items: Option<TakenItems>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TakenItems {
    pub accepted: usize,
    pub duplicate: usize,
    pub conflict: usize,
}

/// The answer to a request that was not taken: problem details (RFC 9457) that tell nobody which
/// check failed. The log of rejections does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refused {
    /// Always "about:blank": the status says all.
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
    pub title: Cow<'static, str>,
    pub status: u16,
}

named! {
    pub enum ReadyStatus {
        Ready = "ready",
        NotReady = "not ready",
    }
}

/// Whether the node takes requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ready {
    /// The node's time minus the database's. Left out where it is within what is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub clock_skew_ms: Option<i64>,
    pub status: ReadyStatus,
}
