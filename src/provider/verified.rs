//! Proof that a request was verified: only `Verifier::verify` makes one, and the store takes nothing else.

use bytes::Bytes;
use secrecy::SecretString;

use super::{ChallengeAnswer, Request};
use crate::event::BodyDigest;

#[derive(Clone, Debug)]
pub struct VerifiedRequest {
    body: Bytes,
    digest: BodyDigest,
    event_key: String,
    event_type: Option<String>,
    key_is_signed: bool,
    key_is_of_body: bool,
    handshake: Option<Handshake>,
    items: Vec<VerifiedRequest>,
    content_type: Option<&'static str>,
}

/// What verifying came to, where a body may be known already.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once, never kept")]
pub enum Verified<K> {
    New(VerifiedRequest),
    Known(K),
}

#[derive(Clone, Debug)]
pub(super) struct Handshake {
    pub answer: ChallengeAnswer,
    /// The source's secret, which came in it.
    pub learnt: Option<SecretString>,
    /// A URL of the provider's to call.
    pub visit: Option<String>,
}

impl VerifiedRequest {
    /// The exact bytes that came; of an item those that it stands in.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    pub fn digest(&self) -> &BodyDigest {
        &self.digest
    }

    /// Never empty: where the request has none, the hex SHA-256 of the body; where it is longer than 255 bytes or has control
    /// characters, the hex SHA-256 of itself.
    pub fn event_key(&self) -> &str {
        &self.event_key
    }

    pub fn event_type(&self) -> Option<&str> {
        self.event_type.as_deref()
    }

    /// Whether the signature covers the event key (always where the body's digest is the key).
    pub fn key_is_signed(&self) -> bool {
        self.key_is_signed
    }

    /// Whether the same body always is the same event.
    pub fn key_is_of_body(&self) -> bool {
        self.key_is_of_body
    }

    /// Set where this is a handshake: answer this, record nothing.
    pub fn challenge(&self) -> Option<&ChallengeAnswer> {
        self.handshake.as_ref().map(|handshake| &handshake.answer)
    }

    /// The secret of the source, where this handshake brought one to a source without: to be kept before it is answered.
    pub fn learnt_secret(&self) -> Option<&SecretString> {
        self.handshake.as_ref()?.learnt.as_ref()
    }

    /// What is to be called (GET) before this handshake is answered; it is on one of the provider's hosts.
    pub fn visit(&self) -> Option<&str> {
        self.handshake.as_ref()?.visit.as_deref()
    }

    /// The events that the request was split into; none where it is one event itself. They were verified with it.
    pub fn items(&self) -> &[VerifiedRequest] {
        &self.items
    }

    /// What an item is, where it is not of the request's own content type: JSON out of a form or a token.
    pub fn content_type(&self) -> Option<&'static str> {
        self.content_type
    }
}

/// The key, with whether the signature covers it; and the type.
pub(super) type KeyAndType = (Option<(String, bool)>, Option<String>);

/// What was read of a request.
#[derive(Default)]
pub(super) struct Read {
    pub key: Option<(String, bool)>,
    pub key_is_of_body: bool,
    pub event_type: Option<String>,
    pub handshake: Option<Handshake>,
    pub items: Vec<VerifiedRequest>,
}

impl Read {
    pub fn handshake(handshake: Handshake) -> Self {
        Self { handshake: Some(handshake), ..Self::default() }
    }
}

/// `digest` is that of the body as it is read: unpacked, where it came packed.
pub(super) fn accepted(request: &Request<'_>, digest: BodyDigest, read: Read) -> VerifiedRequest {
    whole(request.body.clone(), digest, read)
}

/// A part of a request that was verified.
pub(super) fn item(body: Bytes, read: Read, content_type: Option<&'static str>) -> VerifiedRequest {
    let digest = BodyDigest::of(&body);
    VerifiedRequest { content_type, ..whole(body, digest, read) }
}

fn whole(body: Bytes, digest: BodyDigest, read: Read) -> VerifiedRequest {
    let Read { key, key_is_of_body, event_type, handshake, items } = read;
    let (event_key, key_is_signed) = key.unwrap_or_else(|| (hex::encode(digest.0), true));
    VerifiedRequest { body, digest, event_key, event_type, key_is_signed, key_is_of_body, handshake, items, content_type: None }
}
