//! Verifies requests: `phases` has the order, each file beside it a phase. Only what comes out of
//! it is a [`VerifiedRequest`](verified::VerifiedRequest).

pub(crate) mod explain;
mod gzip;
mod handshake;
pub mod parts;
mod phases;
mod read;
mod signature;
pub(crate) mod verified;
pub(crate) mod verifier;
