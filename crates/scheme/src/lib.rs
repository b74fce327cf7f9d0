//! Signature schemes: verify, sign, challenge. Pure: no I/O, no clock. A scheme is data (`config/providers/`); nothing here knows a
//! provider by name.

mod asymmetric;
mod binds;
mod candidates;
mod canonical;
mod catalog;
mod challenge;
#[cfg(test)]
mod code_tests;
mod cursor;
mod cut;
mod digest;
mod doubts;
mod explain;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod glob;
mod gzip;
#[cfg(test)]
mod handshake_tests;
mod identity;
#[cfg(test)]
mod identity_tests;
mod items;
#[cfg(test)]
mod items_tests;
mod json;
mod jws;
mod keys;
#[cfg(test)]
mod keys_tests;
mod mac;
mod multipart;
mod name;
mod nearest;
mod of_source;
pub mod parts;
pub mod period;
mod plan;
mod put;
mod read;
mod sample;
mod secrets;
mod selector;
mod sign;
pub mod spec;
pub mod standard;
mod template;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests_of_all;
mod times;
#[cfg(test)]
mod trap_tests;
mod verified;
mod verify;

use std::borrow::Cow;

use bytes::Bytes;

pub use self::{
    candidates::BASE64,
    catalog::{Catalog, Scheme},
    digest::BodyDigest,
    doubts::doubts,
    explain::Finding,
    keys::{KeySet, KnownKeys, Need},
    nearest::nearest,
    period::Period,
    sample::sample_body,
    selector::is_form,
    sign::{Draft, Signed, generate_secret, sign},
    verified::{Verified, VerifiedRequest},
    verify::Verifier,
};

/// One request as it arrived. Header names are lower-case; a repeated header stands as often as it was sent.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    /// The URL that the provider called, where it is known.
    pub url: Option<&'a str>,
    /// The query that came; None for that of the URL.
    pub query: Option<&'a str>,
    pub headers: &'a [(&'a str, &'a [u8])],
    pub body: &'a Bytes,
}

/// Why a request was refused; `code()` is stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    MissingSignature,
    MalformedSignature,
    NoMatch,
    TimestampMissing,
    TimestampMalformed,
    TimestampTooOld,
    TimestampInFuture,
    UnknownProvider,
    Unsupported,
    /// A header that counts stands more than once.
    MalformedRequest,
}

impl Reason {
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

/// A refusal. The detail is for the rejection log: it names no secret and repeats nothing long of the request.
#[derive(Clone, Debug)]
pub struct Rejection {
    pub reason: Reason,
    pub detail: Cow<'static, str>,
    /// The key that the check lacks: with it the request may be right.
    pub needs: Option<Box<Need>>,
}

impl Rejection {
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, detail: detail.into(), needs: None }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeAnswer {
    pub status: u16,
    /// By lower-case name.
    pub headers: Vec<(String, String)>,
    pub content_type: &'static str,
    pub body: Bytes,
}

/// What is wrong in a scheme or a secret, and under which key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct SchemeError {
    pub key: String,
    pub message: String,
}

impl SchemeError {
    fn new(key: &str, message: &str) -> Self {
        Self { key: key.into(), message: message.into() }
    }

    /// The same, seen from the table around it.
    fn within(self, table: &str) -> Self {
        let key = match self.key.as_str() {
            "" => table.into(),
            key => format!("{table}.{key}"),
        };
        Self { key, ..self }
    }
}
