//! Signature schemes: verify, sign, challenge. Pure: no I/O, no clock.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use secrecy::SecretString;

use crate::{
    event::BodyDigest,
    settings::{SchemeSpec, Source},
};

/// One request as it arrived. Header names are lower-case; a repeated header stands as often as it was sent.
pub struct Request<'a> {
    pub method: &'a str,
    /// The URL that the provider called, where it is known.
    pub url: Option<&'a str>,
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
    MalformedRequest,
}

impl Reason {
    pub fn code(self) -> &'static str {
        todo!()
    }
}

#[derive(Clone, Debug)]
pub struct Rejection {
    pub reason: Reason,
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeAnswer {
    pub content_type: &'static str,
    pub body: Bytes,
}

/// Proof that a request was verified: only `Verifier::verify` makes one, and the store takes nothing else.
#[derive(Clone, Debug)]
pub struct VerifiedRequest {
    _private: (),
}

impl VerifiedRequest {
    pub fn body(&self) -> &Bytes {
        todo!()
    }
    pub fn digest(&self) -> &BodyDigest {
        todo!()
    }
    /// Never empty: where the request has none, the hex SHA-256 of the body.
    pub fn event_key(&self) -> &str {
        todo!()
    }
    pub fn event_type(&self) -> Option<&str> {
        todo!()
    }
    /// Whether the signature covers the event key (always where the body's digest is the key).
    pub fn key_is_signed(&self) -> bool {
        todo!()
    }
    /// Set where this is a handshake: answer this, record nothing.
    pub fn challenge(&self) -> Option<&ChallengeAnswer> {
        todo!()
    }
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{key}: {message}")]
pub struct SchemeError {
    pub key: String,
    pub message: String,
}

pub struct Scheme {
    pub name: String,
    pub spec: SchemeSpec,
}

pub struct Catalog {
    schemes: BTreeMap<String, Arc<Scheme>>,
}

impl Catalog {
    /// The built-in schemes and the user's own (`[providers.NAME]`), all errors together.
    pub fn new(_own: &BTreeMap<String, SchemeSpec>) -> Result<Self, Vec<SchemeError>> {
        todo!()
    }
    pub fn get(&self, name: &str) -> Option<&Arc<Scheme>> {
        self.schemes.get(name)
    }
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Scheme>> {
        self.schemes.values()
    }
}

pub struct Verifier {
    _scheme: Arc<Scheme>,
}

impl Verifier {
    /// `key` and scheme fields of the source override the scheme's own.
    pub fn new(_catalog: &Catalog, _source: &Source, _secrets: &[SecretString]) -> Result<Self, Vec<SchemeError>> {
        todo!()
    }
    pub fn scheme(&self) -> &Scheme {
        todo!()
    }
    /// The header that is itself the secret (a shared token), lower-case.
    pub fn secret_header(&self) -> Option<&str> {
        todo!()
    }
    pub fn verify(&self, _request: &Request<'_>, _now_unix_ms: i64) -> Result<VerifiedRequest, Rejection> {
        todo!()
    }
}

pub mod standard {
    //! Signs as Standard Webhooks does.
    pub fn sign(_secret: &secrecy::SecretString, _id: &str, _unix_seconds: i64, _body: &[u8]) -> Result<String, super::SchemeError> {
        todo!()
    }
}
