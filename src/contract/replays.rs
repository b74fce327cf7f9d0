//! Replays: deliveries that are made once more from stored events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ReplayId, Time, named::named};

named! {
    /// Selects events by the state of their deliveries.
    pub enum ReplayStatus {
        /// Every event, whatever became of it.
        Any = "any",
        /// Dead, and not delivered to the same destination since.
        Dead = "dead",
        Delivered = "delivered",
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Replay {
    pub id: ReplayId,
    /// What was asked for.
    pub filter: Value,
    pub created_at: Time,
    /// Made so far.
    pub deliveries: i64,
    pub done: bool,
    pub ended_at: Option<Time>,
}

/// What a replay would make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DryRun {
    /// Always true.
    pub dry_run: bool,
    pub events: i64,
    /// Events that no route leads anywhere.
    pub unrouted: i64,
    pub deliveries: i64,
    pub destinations: Vec<DryDestination>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DryDestination {
    pub destination: String,
    pub deliveries: i64,
}

/// One page of a replay.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Advanced {
    /// Deliveries of this page.
    pub created: i64,
    /// Of all pages.
    pub deliveries: i64,
    pub done: bool,
}
