//! The node and its database.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    pub version: String,
    pub sources: usize,
    pub destinations: usize,
    /// Destinations that are paused, as far as this node knows.
    pub paused: Vec<String>,
    /// The newest migration.
    pub schema_version: Option<i64>,
    pub database: Database,
}

/// The state of the database. Counts of big tables are the planner's estimates.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Database {
    pub server_version: String,
    pub database: String,
    pub size_bytes: i64,
    pub events_estimate: i64,
    pub keys_estimate: i64,
    pub open_deliveries: i64,
    pub partitions: i64,
    pub oldest_event_at: Option<Time>,
    pub oldest_open_delivery_at: Option<Time>,
}

/// What a pruning did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pruned {
    /// Partitions that were dropped.
    pub partitions: Vec<String>,
    /// Partitions past their time that open deliveries still need.
    pub held: Vec<String>,
    pub keys: u64,
    pub conflicts: u64,
    #[serde(default)]
    pub steps: u64,
    #[serde(default)]
    pub dedup_keys: u64,
    /// Hours of counts.
    #[serde(default)]
    pub counts: u64,
}
