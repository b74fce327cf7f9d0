//! Webhook signature schemes as data: verify requests, sign them, answer handshakes, tell events
//! apart. Pure: no I/O, no clock. A scheme is data (`config/providers/`); nothing here knows a
//! provider by name.
//!
//! The folders are phases, each built on those before it: `locate` finds things in a request,
//! `keys` makes keys of secrets, `plan` compiles a scheme, `verify` and `sign` run it.

#![warn(missing_docs, unreachable_pub)]

mod compiler;
mod digest;
mod encoding;
mod error;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod glob;
mod keys;
mod library;
mod locate;
mod name;
mod nearest;
pub mod period;
mod plan;
mod rejection;
mod request;
mod sign;
pub mod spec;
#[cfg(test)]
mod tests;
mod verify;

pub use self::{
    digest::BodyDigest,
    encoding::{BASE64, push_escaped},
    error::SchemeError,
    keys::key_set::{KeySet, KnownKeys},
    nearest::{near, nearest},
    period::Period,
    plan::{
        catalog::{Catalog, Scheme},
        challenge::ChallengeAnswer,
        doubts::doubts,
        ignored::Ignored,
    },
    rejection::{Need, Reason, Rejection},
    request::{Request, is_form},
    sign::{
        draft::{Draft, Signed},
        replace::{IdPlace, Replaced, id_headers, renew, replace_id, replace_type},
        sample::sample_body,
        samples::{Made, Sample, Samples, Scenario, Story},
        secret::generate_secret,
        sender::sign,
        standard,
    },
    verify::{
        explain::Finding,
        parts,
        verified::{Verified, VerifiedRequest},
        verifier::Verifier,
    },
};
