//! Sources: the senders of the settings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Time, named::named};

named! {
    /// Where a source's secret comes from.
    pub enum SecretState {
        /// From the settings.
        Set = "set",
        /// From a handshake.
        Learnt = "learnt",
        /// It takes the first that a handshake brings.
        Open = "open",
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    pub name: String,
    pub provider: String,
    /// Where the provider posts to.
    pub url: String,
    /// How many the settings have.
    pub secrets: usize,
    pub secret: SecretState,
    pub learnt_at: Option<Time>,
    pub destinations: Vec<String>,
    pub events_24h: i64,
    /// Of them, those with a mark.
    pub marked_24h: i64,
    pub conflicts: i64,
    /// Of the last day.
    pub last_event_at: Option<Time>,
}

/// The secret that a source has learnt.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct LearntSecret {
    pub name: String,
    pub secret: String,
    pub learnt_at: Option<Time>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Forgotten {
    pub name: String,
    pub forgotten: bool,
}
