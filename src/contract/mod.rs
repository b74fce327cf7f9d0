//! The API's answers and states as types, each defined once. The store reads them, the service
//! sends them, and its description, the tail and the command line show them. Here are only shapes:
//! nothing asks a database or knows HTTP.
//!
//! A member is never renamed. A member that is null is not left out, unless its doc says so.

mod conflicts;
mod dedup;
mod deliveries;
mod destinations;
mod events;
mod ids;
mod named;
mod node;
mod problem;
mod public;
mod rejections;
mod replays;
mod sources;
mod steps;
mod tokens;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::{
    conflicts::{
        BodyDifference, Conflict, ConflictCount, ConflictKind, Conflicts, Differences,
        HeaderDifference, RelayedConflict, WholeConflict,
    },
    dedup::{HeldKey, KeyStatus, MarkStatus, Marked},
    deliveries::{Attempt, AttemptOutcome, Delivery, DeliveryState, WholeDelivery},
    destinations::{AttemptCounts, BreakerState, Destination, DestinationState, Paused},
    events::{Event, Mark, Original, RequestStatus, WholeEvent},
    ids::{ConflictId, DeliveryId, EffectKey, EventId, RejectionId, ReplayId, Time, TokenId},
    node::{Database, Pruned, Status},
    problem::{GatewayProblem, Problem, StripeError, URN},
    public::{Ready, ReadyStatus, Refused, Taken, TakenItems, TakenStatus},
    rejections::{
        Check, Diagnosis, DiagnosisCode, Explained, Rejection, RejectionCount, Rejections,
    },
    replays::{Advanced, DryDestination, DryRun, Replay, ReplayStatus},
    sources::{Forgotten, LearntSecret, SecretState, Source, SourceCounts},
    steps::{
        EndedStep, Extended, GatewayRequest, Granted, NotKeptReason, OnLost, ResultNotKept, Run,
        Runs, Settled, Step, StepCounts, StepEnd, StepOutcome, StepState, WholeStep,
    },
    tokens::{NewToken, OwnToken, Scope, Token},
};

/// A page of a list, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PageOf{T}")]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The `cursor` of the next page; null where this is the last.
    pub next: Option<Uuid>,
}

/// A header of a request: its name and its value, each byte of which is one character.
pub type Header = (String, String);

/// Bytes for JSON: a text if they are UTF-8, or else base64.
pub fn text_or_base64(bytes: Vec<u8>) -> (Option<String>, Option<String>) {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    match String::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(BASE64_STANDARD.encode(error.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_not_text_is_base64() {
        assert_eq!(text_or_base64(b"{}".to_vec()), (Some("{}".into()), None));
        assert_eq!(text_or_base64(vec![0xff]), (None, Some("/w==".into())));
    }
}
