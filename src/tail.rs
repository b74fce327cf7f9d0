//! The live tail: what happens to requests and deliveries, as it happens. Nothing waits for a
//! reader and nothing is kept. A reader that is too slow misses lines and is told how many.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::broadcast;

pub use crate::contract::RequestStatus;
use crate::contract::{AttemptOutcome, DeliveryId, EventId};

/// One line of the tail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum TailLine {
    Request {
        #[serde(with = "time::serde::rfc3339")]
        at: OffsetDateTime,
        source: String,
        event_type: Option<String>,
        event_key: Option<String>,
        status: RequestStatus,
        /// A stable code: why the request was rejected, or `type_dropped` if it was accepted but
        /// its type is left out.
        reason: Option<String>,
        ack_ms: f64,
        /// The event; for a duplicate or a conflict, the first one.
        event: Option<EventId>,
    },
    Attempt {
        #[serde(with = "time::serde::rfc3339")]
        at: OffsetDateTime,
        event: EventId,
        delivery: DeliveryId,
        destination: String,
        number: u32,
        /// The HTTP status, if there was an answer.
        status: Option<u16>,
        outcome: AttemptOutcome,
        /// A stable class of error.
        error: Option<String>,
        latency_ms: u64,
    },
}

/// The place where lines are written. It is cheap to clone. Without a reader, writing costs one
/// atomic load.
#[derive(Clone, Debug)]
pub struct Tail(broadcast::Sender<Arc<TailLine>>);

impl Tail {
    /// `lines_max` is how many lines a reader may be behind before it misses some.
    pub fn new(lines_max: usize) -> Self {
        Self(broadcast::Sender::new(lines_max))
    }

    /// Writes the line that `line` makes. It is made only if somebody reads.
    pub fn write(&self, line: impl FnOnce() -> TailLine) {
        if self.is_read() {
            // Sending fails only if the last reader left meanwhile.
            let _ = self.0.send(Arc::new(line()));
        }
    }

    pub fn is_read(&self) -> bool {
        self.0.receiver_count() > 0
    }

    pub fn read(&self) -> broadcast::Receiver<Arc<TailLine>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> TailLine {
        TailLine::Request {
            at: OffsetDateTime::UNIX_EPOCH,
            source: "stripe".into(),
            event_type: Some("invoice.paid".into()),
            event_key: Some("evt_1".into()),
            status: RequestStatus::New,
            reason: None,
            ack_ms: 1.5,
            event: Some(EventId(uuid::Uuid::nil())),
        }
    }

    #[test]
    fn a_line_is_made_only_for_a_reader() {
        let tail = Tail::new(4);
        tail.write(|| panic!("nobody reads"));
        let mut reader = tail.read();
        tail.write(line);
        assert_eq!(*reader.try_recv().unwrap(), line());
    }

    #[test]
    fn lines_name_their_kind() {
        let text = serde_json::to_string(&line()).unwrap();
        assert!(
            text.starts_with(r#"{"kind":"request","at":"1970-01-01T00:00:00Z","#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<TailLine>(&text).unwrap(), line());
    }
}
