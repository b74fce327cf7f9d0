//! Destinations: where events go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::named::named;

/// One of the settings, or one that deliveries alone name: a replay's URL, or one that was
/// configured once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Destination {
    pub name: String,
    /// Null where it is configured no more.
    pub url: Option<String>,
    pub configured: bool,
    pub paused: bool,
    pub pending: i64,
    pub leased: i64,
    /// Of the last day's.
    pub delivered_24h: i64,
    pub dead_24h: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Paused {
    pub name: String,
    pub paused: bool,
    /// False where it was so before.
    pub changed: bool,
}

named! {
    /// Whether a breaker lets attempts through.
    pub enum BreakerState {
        Closed = "closed",
        /// One attempt at a time, to see whether the destination is well again.
        Probing = "probing",
        Open = "open",
    }
}
