//! Conflicts: requests that contradict an event, so they are kept and not relayed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{ConflictId, EventId, Header, Time, named::named};

named! {
    pub enum ConflictKind {
        /// Another body under the key of an event.
        OtherBody = "other_body",
        /// The body of an event under another id, which is not signed.
        SameBodyNewId = "same_body_new_id",
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Conflict {
    pub id: ConflictId,
    /// The event that came first.
    pub event: EventId,
    pub kind: ConflictKind,
    pub source: String,
    pub event_key: String,
    pub event_type: Option<String>,
    pub received_at: Time,
    /// SHA-256 in hex, of what repeats are compared by.
    pub body_digest: String,
    pub body_bytes: i32,
    /// The event that it was made into.
    pub relayed_as: Option<EventId>,
}

/// How many conflicts a source has, and how many of them nobody has relayed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ConflictCount {
    pub source: String,
    pub conflicts: i64,
    pub not_relayed: i64,
}

/// A page of conflicts, newest first, and how many there are.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Conflicts {
    pub items: Vec<Conflict>,
    /// The `cursor` of the next page; null where this is the last.
    pub next: Option<Uuid>,
    pub counts: Vec<ConflictCount>,
}

/// A conflict with what differs from the event that came first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WholeConflict {
    pub id: ConflictId,
    pub event: EventId,
    pub kind: ConflictKind,
    pub source: String,
    pub event_key: String,
    pub event_type: Option<String>,
    pub received_at: Time,
    /// Null where the first event is past its retention.
    pub first_received_at: Option<Time>,
    pub relayed_as: Option<EventId>,
    pub headers: Vec<Header>,
    pub differences: Differences,
    /// Left out where the body is no UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub body: Option<String>,
    /// Of a body that is no UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub body_base64: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Differences {
    pub headers: Vec<HeaderDifference>,
    pub body: Vec<BodyDifference>,
}

/// A header that one has and the other has not, or has otherwise. Of one that comes several times
/// the values are a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeaderDifference {
    pub name: String,
    pub first: Value,
    pub this: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum BodyDifference {
    /// In JSON: where, by JSON Pointer (RFC 6901), and what stands there in each.
    Place {
        path: String,
        first: Value,
        this: Value,
    },
    /// In anything else: the byte from which they differ, and the sizes of both.
    Byte {
        byte: usize,
        first_bytes: usize,
        these_bytes: usize,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RelayedConflict {
    pub id: ConflictId,
    /// The event that it is now.
    pub event: EventId,
    pub destinations: Vec<String>,
}
