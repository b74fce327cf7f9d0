//! What the inbox takes: verified requests, and nothing else. The type shows it: only a
//! verification makes a `VerifiedRequest`.

use std::sync::Arc;

use bytes::Bytes;
use hookonce_scheme::VerifiedRequest;
use uuid::Uuid;

use crate::event::{BodyDigest, Key, Mark};

/// A verified request on its way into the inbox.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub id: Uuid,
    /// The id as text. Empty if the request has a key.
    pub id_text: String,
    pub key: Key,
    /// Set if requests with the same body under another key are looked for.
    pub guard: Option<Guard>,
    /// The key that earlier versions recorded the event under, if that was another.
    pub key_before: Option<Key>,
    pub mark: Option<Mark>,
    pub source: Arc<str>,
    pub window_seconds: f64,
    /// A JSON array of [name, value] pairs.
    pub headers: String,
    pub request: VerifiedRequest,
    /// The request that the event is a part of, if that was split.
    pub original: Option<Arc<Original>>,
}

impl NewEvent {
    /// The key that identifies the event, or its own id if the request has none.
    pub fn event_key(&self) -> &str {
        self.request.event_key().unwrap_or(&self.id_text)
    }
}

/// The second key of an event, made from its body.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    pub body_key: Key,
    /// If the body is known: true does not record the event, false records it with a mark.
    pub holds: bool,
}

/// An event that was recorded.
pub struct NewRow {
    pub id: Uuid,
    pub mark: Option<Mark>,
}

/// The body of a request that was split into several events.
#[derive(Debug)]
pub struct Original {
    pub id: Uuid,
    pub body: Bytes,
    pub digest: BodyDigest,
    pub items: i32,
}
