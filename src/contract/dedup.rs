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
    /// As the call had it, or made for it.
    pub claim_id: String,
    /// Of a first under a lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub fence: Option<i64>,
    /// Of a key that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Time")]
    pub first_at: Option<Time>,
    pub key: String,
    /// Of a first under a lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Time")]
    pub lease_until: Option<Time>,
    pub scope: String,
    pub status: MarkStatus,
}

named! {
    /// Where a leased key stands after a call of its holder.
    pub enum KeyStatus {
        Leased = "leased",
        /// Free at once.
        Released = "released",
        Done = "done",
    }
}

/// A key after a call of its holder.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HeldKey {
    /// The holder's.
    pub claim_id: String,
    pub fence: i64,
    pub key: String,
    /// Of a key that is leased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Time")]
    pub lease_until: Option<Time>,
    pub scope: String,
    pub status: KeyStatus,
}
