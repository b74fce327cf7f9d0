//! The live tail: one line per request and per attempt, for whoever listens. Lines that nobody takes in time are dropped, never waited for.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use uuid::Uuid;

/// How many lines a slow listener may be behind.
const LINES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestStatus {
    New,
    Duplicate,
    Conflict,
    Rejected,
    Handshake,
}

/// One line. Times are Unix milliseconds, lengths of time milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum TailLine {
    Request {
        at: i64,
        source: String,
        event_type: Option<String>,
        event_key: Option<String>,
        status: RequestStatus,
        /// The stable code of why it was refused.
        reason: Option<String>,
        ack_ms: f64,
        event: Option<Uuid>,
    },
    Attempt {
        at: i64,
        event: Uuid,
        delivery: Uuid,
        destination: String,
        number: i32,
        /// The handler's HTTP status, where it answered.
        status: Option<i16>,
        /// `delivered`, `retry` or `dead`.
        outcome: String,
        error: Option<String>,
        latency_ms: i32,
    },
}

#[derive(Clone, Debug)]
pub struct Tail(broadcast::Sender<Arc<TailLine>>);

impl Default for Tail {
    fn default() -> Self {
        Self(broadcast::channel(LINES_MAX).0)
    }
}

impl Tail {
    /// Makes the line only where somebody listens.
    pub fn send(&self, line: impl FnOnce() -> TailLine) {
        if self.0.receiver_count() > 0 {
            let _ = self.0.send(Arc::new(line()));
        }
    }

    pub fn listen(&self) -> broadcast::Receiver<Arc<TailLine>> {
        self.0.subscribe()
    }
}
