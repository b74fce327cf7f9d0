//! Why a call was refused: problem details, RFC 9457.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{EffectKey, StepState, Time};

/// What `type` begins with; a code that does not change follows.
pub const URN: &str = "urn:hookonce:problem:";

/// A refusal of the admin API or the ledger. Members that it has no use for are left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// As the call of the ledger had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub claim_id: Option<String>,
    /// Of outcome-unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Time")]
    pub claimed_at: Option<Time>,
    /// For people: it may change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub detail: Option<String>,
    /// Of outcome-unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "EffectKey")]
    pub effect_key: Option<EffectKey>,
    /// Of outcome-unknown: what the holder said that did not know the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "serde_json::Value")]
    pub error: Option<Box<RawValue>>,
    /// Of step-running, outcome-unknown and stale-fence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub fence: Option<i64>,
    /// Of a call of dedup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub key: Option<String>,
    /// Of too-large: bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub limit: Option<usize>,
    /// Of step-running and outcome-unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub owner: Option<Option<String>>,
    /// Of a call about a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub run: Option<String>,
    /// Of a call of dedup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub scope: Option<String>,
    /// Of too-large, where it is known: bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub size: Option<usize>,
    pub status: u16,
    /// Of a call about a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub step: Option<String>,
    /// Of stale-fence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "StepState")]
    pub step_status: Option<StepState>,
    pub title: String,
    /// For programs: it does not change.
    #[serde(rename = "type")]
    #[schemars(regex(pattern = "^urn:hookonce:problem:"))]
    pub kind: String,
}

/// A refusal of a gateway, in its own name. Members that it has no use for are left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct GatewayProblem {
    /// Of body-not-retained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u64>")]
    pub body_bytes: Option<Option<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub detail: Option<String>,
    pub error: StripeError,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub fence: Option<i64>,
    /// Of outcome-unknown: what `ledger resolve` asks for, with step and fence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub run: Option<String>,
    /// To Stripe's own libraries 400 in place of 409, 410 and 422, but for in-progress.
    pub status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub step: Option<String>,
    pub title: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// Of body-not-retained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u16")]
    pub upstream_status: Option<u16>,
}

/// A gateway's refusal once more, as Stripe's API would say it: its libraries take an answer for an
/// error only if it has this.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct StripeError {
    /// The end of the problem's type with `_` for `-`; of in-progress `idempotency_key_in_use`.
    pub code: String,
    /// For people: the problem's detail.
    pub message: String,
    /// `idempotency_error`, `invalid_request_error` or `api_error`.
    #[serde(rename = "type")]
    pub kind: String,
}
