//! Verifies requests. `phases` has the order, and each file beside it is a phase. Only this makes a
//! [`VerifiedRequest`](verified::VerifiedRequest).

pub(crate) mod explain;
mod gzip;
mod handshake;
pub mod parts;
mod phases;
mod read;
mod signature;
pub(crate) mod verified;
pub(crate) mod verifier;
