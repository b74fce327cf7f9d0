//! What the inbox takes: a verified request, and only such.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    event::{BodyDigest, Key, Mark},
    provider::VerifiedRequest,
};

/// A verified request on its way into the inbox.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub id: Uuid,
    /// The id as text; empty where the request has a key.
    pub id_text: String,
    pub key: Key,
    /// Set where the same body under another key is looked at.
    pub guard: Option<Guard>,
    /// The key that earlier versions recorded it under, where that was another.
    pub key_before: Option<Key>,
    pub mark: Option<Mark>,
    pub source: Arc<str>,
    pub window_seconds: f64,
    /// A JSON array of [name, value] pairs.
    pub headers: String,
    pub request: VerifiedRequest,
    /// The request that it is a part of, where that was split.
    pub original: Option<Arc<Original>>,
}

impl NewEvent {
    /// What the event is told by; its own id where the request says nothing.
    pub fn event_key(&self) -> &str {
        self.request.event_key().unwrap_or(&self.id_text)
    }
}

/// The second key of an event, made of its body.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    pub body_key: Key,
    /// The event is not recorded where the body is known; else it is, with a mark.
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
