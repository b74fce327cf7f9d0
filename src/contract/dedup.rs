//! Keys that consumers have marked as seen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Time, named::named};

named! {
    pub enum MarkStatus {
        /// Nobody had brought the key: handle it.
        First = "first",
        /// It was handled, or is taken as handled.
        Seen = "seen",
    }
}

/// Whether a key is new.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Marked {
    /// Of a first under a lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub fence: Option<i64>,
    /// Of a key that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Time")]
    pub first_at: Option<Time>,
    /// Of a first under a lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Time")]
    pub lease_until: Option<Time>,
    pub status: MarkStatus,
}

named! {
    pub enum Done {
        Done = "done",
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DedupDone {
    pub status: Done,
}
