//! Why a call was refused: problem details, RFC 9457.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StepState;

/// What `type` begins with; a code that does not change follows.
pub const URN: &str = "urn:hookonce:problem:";

/// A refusal of the admin API or the ledger. Members that it has no use for are left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// For people: it may change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub detail: Option<String>,
    /// Of step-running, outcome-unknown and stale-fence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub fence: Option<i64>,
    /// Of step-running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub owner: Option<Option<String>>,
    pub status: u16,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub fence: Option<i64>,
    /// Of outcome-unknown: what `ledger resolve` asks for, with step and fence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub run: Option<String>,
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
