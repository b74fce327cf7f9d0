//! Events: requests that were received and verified, each once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Conflict, Delivery, EventId, Header, Time, named::named};

named! {
    /// Why a handler may want to look at an event twice.
    pub enum Mark {
        /// The same signed body came before, under another id that is not signed.
        SameBody = "same-body",
        /// Another body came before under the same event key.
        OtherBody = "other-body",
    }
}

named! {
    /// What became of a request.
    pub enum RequestStatus {
        New = "new",
        Duplicate = "duplicate",
        Conflict = "conflict",
        Rejected = "rejected",
        Handshake = "handshake",
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    pub id: EventId,
    pub source: String,
    pub event_type: Option<String>,
    pub event_key: String,
    pub received_at: Time,
    pub body_bytes: i32,
    pub mark: Option<Mark>,
}

/// An event with its deliveries and conflicts, of each some two hundred at most.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WholeEvent {
    pub id: EventId,
    pub source: String,
    pub event_type: Option<String>,
    pub event_key: String,
    pub received_at: Time,
    pub headers: Vec<Header>,
    /// SHA-256 in hex.
    pub body_digest: String,
    pub body_bytes: usize,
    pub mark: Option<Mark>,
    pub conflicts: Vec<Conflict>,
    pub deliveries: Vec<Delivery>,
    /// Why it has no type though its request says one; left out where that is not so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub type_dropped: Option<String>,
    /// The request that it is a part of; left out where it is the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Original")]
    pub original: Option<Original>,
    /// Left out where the body is no UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub body: Option<String>,
    /// Of a body that is no UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub body_base64: Option<String>,
}

/// A request that was split into several events.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Original {
    /// Events that it was split into.
    pub items: i32,
    pub body_bytes: usize,
    /// SHA-256 in hex.
    pub body_digest: String,
}
