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
    /// What came within the last sixty minutes.
    pub last_hour: SourceCounts,
    /// What came within the last 24 hours.
    pub last_day: SourceCounts,
    /// How many were accepted in the same sixty minutes of the seven days before, on average over
    /// the days that had any.
    pub usual_hour: f64,
}

/// Requests, and parts of batched ones, by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SourceCounts {
    pub accepted: i64,
    pub duplicate: i64,
    pub conflict: i64,
    pub handshake: i64,
    pub rejected: i64,
    /// Refused for want of room.
    pub busy: i64,
    /// Refused because the database, or the provider's key, was not to be had.
    pub unavailable: i64,
}

impl SourceCounts {
    /// The count of a word; None if there is no such word.
    pub fn of(&mut self, word: &str) -> Option<&mut i64> {
        Some(match word {
            "accepted" => &mut self.accepted,
            "duplicate" => &mut self.duplicate,
            "conflict" => &mut self.conflict,
            "handshake" => &mut self.handshake,
            "rejected" => &mut self.rejected,
            "busy" => &mut self.busy,
            "unavailable" => &mut self.unavailable,
            _ => return None,
        })
    }
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
