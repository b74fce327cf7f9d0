//! Steps of the ledger: who executes one, and with what outcome.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{EffectKey, Time, named::named};

named! {
    /// Where a step stands.
    pub enum StepState {
        Running = "running",
        /// Its holder was lost, and what came of it is not known.
        Unknown = "unknown",
        /// Given back: the next to claim it gets it.
        Released = "released",
        Done = "done",
        Failed = "failed",
    }
}

named! {
    /// How a step ends.
    pub enum StepEnd {
        Done = "done",
        Failed = "failed",
    }
}

named! {
    /// What came of a step whose holder was lost, by whom resolves it.
    pub enum StepOutcome {
        /// It was executed, and this is known.
        Done = "done",
        /// It was executed, and failed for good.
        Failed = "failed",
        /// It may be claimed again.
        NotExecuted = "not-executed",
    }
}

named! {
    /// What becomes of a step whose lease ends before it is completed.
    #[derive(Default)]
    pub enum OnLost {
        /// Nobody runs it again until somebody says what came of it.
        #[default]
        Hold = "hold",
        /// The next to claim it gets it, with the same effect key.
        Retry = "retry",
    }
}

impl From<StepEnd> for StepState {
    fn from(end: StepEnd) -> Self {
        match end {
            StepEnd::Done => Self::Done,
            StepEnd::Failed => Self::Failed,
        }
    }
}

named! {
    /// Why the result of a step that was executed is not kept.
    pub enum NotKeptReason {
        TooLarge = "too-large",
        NotEncodable = "not-encodable",
    }
}

/// The step was executed, and its result could not be kept.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResultNotKept {
    pub reason: NotKeptReason,
    /// At most 1,000 characters.
    pub detail: Option<String>,
}

/// What the caller of a gateway asked for.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct GatewayRequest {
    /// Who the caller is, where the header that tells callers apart is no credential.
    pub caller: Option<String>,
    pub method: String,
    /// Without the query.
    pub path: String,
    /// The step was claimed then, which is just before the first byte was sent.
    pub sent_at: Time,
}

/// A step without its result.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Executions that were begun and not given back.
    pub attempt: i32,
    /// The holder's; null for a step that nobody claimed.
    pub claim_id: Option<String>,
    pub claimed_at: Time,
    pub effect_key: EffectKey,
    pub ended_at: Option<Time>,
    pub fence: i64,
    pub input_hash: Option<String>,
    pub lease_until: Option<Time>,
    pub on_lost: OnLost,
    pub owner: Option<String>,
    /// Of a gateway's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "GatewayRequest")]
    pub request: Option<GatewayRequest>,
    pub run: String,
    pub status: StepState,
    pub step: String,
    pub tenant: Option<String>,
}

/// A step with its result, what its last holder said who did not know the outcome, and the evidence
/// of who resolved it, as they were sent.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WholeStep {
    #[serde(flatten)]
    pub step: Step,
    #[schemars(with = "serde_json::Value")]
    pub result: Option<Box<RawValue>>,
    /// Of a step whose result could not be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ResultNotKept")]
    pub result_not_kept: Option<Box<RawValue>>,
    #[schemars(with = "serde_json::Value")]
    pub error: Option<Box<RawValue>>,
    #[schemars(with = "serde_json::Value")]
    pub evidence: Option<Box<RawValue>>,
}

/// The caller executes the step, until its lease ends.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Granted {
    pub attempt: i32,
    /// As the call had it.
    pub claim_id: String,
    pub effect_key: EffectKey,
    pub fence: i64,
    pub lease_until: Option<Time>,
    pub run: String,
    pub step: String,
}

/// The step has ended before, with this result.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EndedStep {
    pub status: StepState,
    /// As it was sent, byte for byte.
    #[schemars(with = "serde_json::Value")]
    pub result: Box<RawValue>,
    /// Of a step whose result could not be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ResultNotKept")]
    pub result_not_kept: Option<Box<RawValue>>,
    /// As the call had it.
    pub claim_id: Option<String>,
    pub effect_key: EffectKey,
    /// When it was done.
    pub ended_at: Option<Time>,
    pub fence: i64,
    /// By whom.
    pub owner: Option<String>,
    /// When this answer was given, by the database's clock.
    pub replayed_at: Time,
    pub run: String,
    pub step: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Extended {
    pub claim_id: Option<String>,
    pub fence: i64,
    pub lease_until: Time,
    pub run: String,
    pub step: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Settled {
    pub claim_id: Option<String>,
    /// Of a step that was resolved: what its lost holder said, if it said anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "serde_json::Value")]
    pub error: Option<Box<RawValue>>,
    pub fence: i64,
    pub run: String,
    pub status: StepState,
    pub step: String,
}

/// How many steps of a run are in each state.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StepCounts {
    pub running: i64,
    pub unknown: i64,
    pub released: i64,
    pub done: i64,
    pub failed: i64,
}

/// A run with what its steps add up to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    pub run: String,
    pub tenant: Option<String>,
    pub steps: StepCounts,
    /// When its first step was first claimed.
    pub first_at: Time,
    /// When a step of it was last claimed or ended.
    pub last_at: Time,
}

/// A page of runs, by name.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Runs {
    pub items: Vec<Run>,
    /// The `cursor` of the next page: a run's name; null where this is the last.
    pub next: Option<String>,
}
