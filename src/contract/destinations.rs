//! Destinations: where events go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Time, named::named};

/// One of the settings, or one that deliveries alone name: a replay's URL, or one that was
/// configured once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    pub state: DestinationState,
    /// When the breaker lets the next attempt through, where it is open on this node.
    pub open_until: Option<Time>,
    pub oldest_open_at: Option<Time>,
    /// When the oldest delivery was recorded that has failed and is still open.
    pub failing_since: Option<Time>,
    /// When the next of those is tried again.
    pub next_retry_at: Option<Time>,
    /// The class of the error of one's last attempt.
    pub last_error: Option<String>,
    /// Its HTTP status, where there was an answer.
    pub last_status: Option<i16>,
    /// Attempts within the last sixty minutes.
    pub last_hour: AttemptCounts,
    /// Attempts within the last 24 hours.
    pub last_day: AttemptCounts,
    /// How many were delivered in the same sixty minutes of the seven days before, on average over
    /// the days that had any.
    pub usual_hour: f64,
}

named! {
    /// How a destination is.
    #[derive(Default)]
    pub enum DestinationState {
        /// No open delivery has failed.
        #[default]
        Ok = "ok",
        /// One has, and is tried again.
        Failing = "failing",
        /// The breaker of this node is open.
        Open = "open",
        /// An operator has paused it.
        Paused = "paused",
    }
}

/// Attempts by their result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptCounts {
    pub delivered: i64,
    pub retry: i64,
    pub dead: i64,
}

impl AttemptCounts {
    /// The count of a word; None if there is no such word.
    pub fn of(&mut self, word: &str) -> Option<&mut i64> {
        Some(match word {
            "delivered" => &mut self.delivered,
            "retry" => &mut self.retry,
            "dead" => &mut self.dead,
            _ => return None,
        })
    }
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
