//! Deliveries: an event on its way to a destination, and the attempts that were made.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DeliveryId, EventId, ReplayId, Time, named::named};

named! {
    /// Where a delivery stands.
    pub enum DeliveryState {
        /// Due now or later.
        Pending = "pending",
        /// Pending, and its destination is paused.
        Paused = "paused",
        /// A node is trying it.
        Leased = "leased",
        Delivered = "delivered",
        Dead = "dead",
        Cancelled = "cancelled",
    }
}

named! {
    /// What one attempt came to.
    pub enum AttemptOutcome {
        Delivered = "delivered",
        /// It is tried again later.
        Retry = "retry",
        /// It was the last.
        Dead = "dead",
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Delivery {
    pub id: DeliveryId,
    pub event: EventId,
    pub source: String,
    pub destination: String,
    pub state: DeliveryState,
    /// Made so far.
    pub attempts: i32,
    /// The replay that made it.
    pub replay: Option<ReplayId>,
    pub created_at: Time,
    /// Null where it has ended.
    pub due_at: Option<Time>,
    pub ended_at: Option<Time>,
}

/// A delivery with its attempts, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WholeDelivery {
    pub id: DeliveryId,
    pub event: EventId,
    pub source: String,
    pub destination: String,
    pub state: DeliveryState,
    pub attempts: Vec<Attempt>,
    pub replay: Option<ReplayId>,
    pub created_at: Time,
    pub due_at: Option<Time>,
    pub ended_at: Option<Time>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    pub number: i32,
    pub started_at: Time,
    pub latency_ms: i32,
    pub outcome: AttemptOutcome,
    /// The HTTP status, where there was an answer.
    pub status: Option<i16>,
    /// A stable class of error; null where the handler took it.
    pub error: Option<String>,
    pub detail: Option<String>,
    /// The first bytes of the answer's body. Left out where there is none, where it is no UTF-8,
    /// or where the token may not see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub response: Option<String>,
    /// Of a body that is no UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub response_base64: Option<String>,
}
