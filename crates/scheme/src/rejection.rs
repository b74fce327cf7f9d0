//! Why a request is refused, in words for logs and in codes for machines.

use std::borrow::Cow;

use secrecy::SecretString;

use crate::{request::Repeated, spec::KeyFormat};

/// Why a request was refused; [`code`](Self::code) is stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// There is nothing where the provider puts its signature, or a part of what is signed is
    /// missing.
    MissingSignature,
    /// The signature does not have the provider's form.
    MalformedSignature,
    /// No secret makes this signature, or something else that must hold does not.
    NoMatch,
    /// The request does not say when it was signed.
    TimestampMissing,
    /// The request says when it was signed in a way that can't be read.
    TimestampMalformed,
    /// It was signed longer ago than the scheme tolerates.
    TimestampTooOld,
    /// It was signed later than now by more than the scheme tolerates.
    TimestampInFuture,
    /// No scheme has this name. No verifier says this, but whoever builds one does.
    UnknownProvider,
    /// What the check needs is not here: the URL, or a key that the provider publishes.
    Unsupported,
    /// A header that counts is repeated, or the body can't be unpacked.
    MalformedRequest,
}

impl Reason {
    /// The name of the reason in answers, logs and metrics: in small letters, with underscores.
    pub fn code(self) -> &'static str {
        match self {
            Self::MissingSignature => "missing_signature",
            Self::MalformedSignature => "malformed_signature",
            Self::NoMatch => "no_match",
            Self::TimestampMissing => "timestamp_missing",
            Self::TimestampMalformed => "timestamp_malformed",
            Self::TimestampTooOld => "timestamp_too_old",
            Self::TimestampInFuture => "timestamp_in_future",
            Self::UnknownProvider => "unknown_provider",
            Self::Unsupported => "unsupported",
            Self::MalformedRequest => "malformed_request",
        }
    }
}

/// A refusal.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// The kind of refusal.
    pub reason: Reason,
    /// For the rejection log: it names no secret and repeats nothing long of the request.
    pub detail: Cow<'static, str>,
    /// The key that the check lacks. With it the request may be right.
    pub needs: Option<Box<Need>>,
}

impl Rejection {
    /// A refusal that no key would mend.
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            needs: None,
        }
    }

    /// A refusal for want of this key.
    pub(crate) fn lacking(need: Need) -> Self {
        let detail = format!("needs the provider's key from {}", need.url);
        Self {
            needs: Some(Box::new(need)),
            ..Self::new(Reason::Unsupported, detail)
        }
    }
}

impl From<Repeated> for Rejection {
    fn from(Repeated(name): Repeated) -> Self {
        Self::new(
            Reason::MalformedRequest,
            format!("{name} stands more than once"),
        )
    }
}

/// A key that a check needs and does not have.
#[derive(Clone, Debug)]
pub struct Need {
    /// Names the answer among those that are known.
    pub id: String,
    /// Where the provider publishes it: https, on one of the hosts that the scheme names.
    pub url: String,
    /// What the answer is to be read as.
    pub format: KeyFormat,
    /// A JSON text to post, if the provider wants one. It has credentials.
    pub post: Option<SecretString>,
    /// Keys are there, and none is the right one.
    pub is_refresh: bool,
}
