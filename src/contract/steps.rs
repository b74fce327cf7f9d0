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

/// A step without its result.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Executions that were begun and not given back.
    pub attempt: i32,
    pub claimed_at: Time,
    pub effect_key: EffectKey,
    pub ended_at: Option<Time>,
    pub fence: i64,
    pub input_hash: Option<String>,
    pub lease_until: Option<Time>,
    pub on_lost: OnLost,
    pub owner: Option<String>,
    pub run: String,
    pub status: StepState,
    pub step: String,
    pub tenant: Option<String>,
}

/// A step with its result, and the evidence of who resolved it, as they were sent.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WholeStep {
    #[serde(flatten)]
    pub step: Step,
    #[schemars(with = "serde_json::Value")]
    pub result: Option<Box<RawValue>>,
    #[schemars(with = "serde_json::Value")]
    pub evidence: Option<Box<RawValue>>,
}

/// The caller executes the step, until its lease ends.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Granted {
    pub attempt: i32,
    pub effect_key: EffectKey,
    pub fence: i64,
    pub lease_until: Option<Time>,
}

/// The step has ended before, with this result.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EndedStep {
    pub status: StepState,
    /// As it was sent, byte for byte.
    #[schemars(with = "serde_json::Value")]
    pub result: Box<RawValue>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Extended {
    pub fence: i64,
    pub lease_until: Time,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Settled {
    pub fence: i64,
    pub status: StepState,
}
