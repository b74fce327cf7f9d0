//! Proof that a request was verified. Only `Verifier::verify` makes one, and the store takes
//! nothing else.

use bytes::Bytes;
use secrecy::SecretString;

use crate::{
    digest::BodyDigest,
    plan::{challenge::ChallengeAnswer, identity::Told},
    spec::Dedup,
};

/// A request whose signature is right, and what was read of it. Only [`Verifier::verify`] makes
/// one.
///
/// [`Verifier::verify`]: crate::Verifier::verify
#[derive(Clone, Debug)]
pub struct VerifiedRequest {
    body: Bytes,
    digest: BodyDigest,
    compared: BodyDigest,
    event_key: Option<String>,
    key_before: Option<String>,
    dedup: Dedup,
    kind: Option<String>,
    event_type: Option<String>,
    type_dropped: Option<&'static str>,
    key_is_signed: bool,
    is_guarded: bool,
    key_is_of_body: bool,
    handshake: Option<Handshake>,
    items: Vec<VerifiedRequest>,
    content_type: Option<&'static str>,
}

/// The result of verifying a request whose body may be known already.
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart at once, never kept"
)]
pub enum Verified<K> {
    /// The request was read.
    New(VerifiedRequest),
    /// The request is right, and its body is this one that was known.
    Known(K),
}

#[derive(Clone, Debug)]
pub(super) struct Handshake {
    pub(crate) answer: ChallengeAnswer,
    /// The source's secret, which came in it.
    pub(crate) learnt: Option<SecretString>,
    /// A URL of the provider's to call.
    pub(crate) visit: Option<String>,
}

impl VerifiedRequest {
    /// The exact bytes that came. For an item, the bytes that it is written in.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The digest of the body as it is read: unpacked, if it came packed.
    pub fn digest(&self) -> &BodyDigest {
        &self.digest
    }

    /// What repeats are compared by: the digest, with what else tells two events apart. If the
    /// request was read anew, the places that the scheme ignores are left out.
    pub fn compared(&self) -> &BodyDigest {
        &self.compared
    }

    /// What the request says of itself, never empty. If that is longer than 255 bytes or has
    /// control characters, its hex SHA-256. None if the request says nothing.
    pub fn event_key(&self) -> Option<&str> {
        self.event_key.as_deref()
    }

    /// The event key as earlier versions made it, if that was another and the verifier looks back.
    pub fn key_before(&self) -> Option<&str> {
        self.key_before.as_deref()
    }

    /// The event type in a header, if that tells events of one unsigned key apart.
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// What makes another request the same event.
    pub fn dedup(&self) -> Dedup {
        self.dedup
    }

    /// What happened, as the provider calls it: a text of at most 255 bytes without control
    /// characters. None if the request does not say.
    pub fn event_type(&self) -> Option<&str> {
        self.event_type.as_deref()
    }

    /// Why the type that the request says is left out: it is no text of at most 255 bytes without
    /// control characters. None if it is not left out.
    pub fn type_dropped(&self) -> Option<&'static str> {
        self.type_dropped
    }

    /// Whether the signature covers each part of the event key.
    pub fn key_is_signed(&self) -> bool {
        self.key_is_signed
    }

    /// Whether the same body under another key is looked at, because the signature covers the body
    /// but neither the key nor a time.
    pub fn is_guarded(&self) -> bool {
        self.is_guarded
    }

    /// Whether the same body always is the same event.
    pub fn key_is_of_body(&self) -> bool {
        self.key_is_of_body
    }

    /// The answer, if this is a handshake: answer this and record nothing.
    pub fn challenge(&self) -> Option<&ChallengeAnswer> {
        self.handshake.as_ref().map(|handshake| &handshake.answer)
    }

    /// The secret that this handshake brought to a source without one. It must be kept before the
    /// handshake is answered.
    pub fn learnt_secret(&self) -> Option<&SecretString> {
        self.handshake.as_ref()?.learnt.as_ref()
    }

    /// The URL that must be called (GET) before this handshake is answered. It is on one of the
    /// provider's hosts.
    pub fn visit(&self) -> Option<&str> {
        self.handshake.as_ref()?.visit.as_deref()
    }

    /// The events that the request was split into, which were verified with it. Empty if it is one
    /// event itself.
    pub fn items(&self) -> &[VerifiedRequest] {
        &self.items
    }

    /// The content type of an item, if it is not the request's own: JSON out of a form or a token.
    pub fn content_type(&self) -> Option<&'static str> {
        self.content_type
    }
}

/// What was read of a request.
pub(super) struct Read {
    /// The digest of the body, and what repeats are compared by.
    pub(crate) digests: (BodyDigest, BodyDigest),
    pub(crate) told: Told,
    pub(crate) key_before: Option<String>,
    pub(crate) key_is_of_body: bool,
    pub(crate) event_type: Option<String>,
    pub(crate) type_dropped: Option<&'static str>,
    pub(crate) handshake: Option<Handshake>,
    pub(crate) items: Vec<VerifiedRequest>,
}

impl Read {
    /// Of a handshake only its answer is read.
    pub(super) fn handshake(handshake: Handshake, body: &[u8]) -> Self {
        let digest = BodyDigest::of(body);
        let told = Told {
            key: None,
            dedup: Dedup::None,
            signed: true,
            guarded: false,
            kind: None,
        };
        Self {
            digests: (digest, digest),
            told,
            key_before: None,
            key_is_of_body: false,
            event_type: None,
            type_dropped: None,
            handshake: Some(handshake),
            items: Vec::new(),
        }
    }
}

/// A request, or a part of one, that was verified.
pub(super) fn accepted(
    body: Bytes,
    read: Read,
    content_type: Option<&'static str>,
) -> VerifiedRequest {
    let Read {
        digests: (digest, compared),
        told,
        key_before,
        key_is_of_body,
        event_type,
        type_dropped,
        handshake,
        items,
    } = read;
    VerifiedRequest {
        body,
        digest,
        compared,
        event_key: told.key,
        key_before,
        dedup: told.dedup,
        kind: told.kind,
        event_type,
        type_dropped,
        key_is_signed: told.signed,
        is_guarded: told.guarded,
        key_is_of_body,
        handshake,
        items,
        content_type,
    }
}
