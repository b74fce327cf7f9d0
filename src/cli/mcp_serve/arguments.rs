//! The arguments of the tools. Their docs are what the model reads of each, and their types refuse
//! what is out of bounds.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::contract::{DeliveryId, EventId, RejectionId, ReplayStatus, StepOutcome, StepState};

/// A whole number from MIN to MAX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u32")]
pub struct Within<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Within<MIN, MAX> {
    pub fn get(self) -> u32 {
        self.0
    }

    pub fn or(given: Option<Self>, default: u32) -> u32 {
        given.map_or(default, Self::get)
    }
}

impl<const MIN: u32, const MAX: u32> TryFrom<u64> for Within<MIN, MAX> {
    type Error = String;

    fn try_from(given: u64) -> Result<Self, String> {
        u32::try_from(given)
            .ok()
            .filter(|given| (MIN..=MAX).contains(given))
            .map(Self)
            .ok_or_else(|| format!("{given} is not between {MIN} and {MAX}"))
    }
}

impl<const MIN: u32, const MAX: u32> From<Within<MIN, MAX>> for u32 {
    fn from(within: Within<MIN, MAX>) -> Self {
        within.0
    }
}

impl<const MIN: u32, const MAX: u32> JsonSchema for Within<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Within".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// Rows of a list.
pub type Rows = Within<1, 100>;
/// Bytes of a body that are shown.
pub type ShownBytes = Within<0, 16_384>;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindEvents {
    /// The id that hookonce gave the event: a UUID
    pub id: Option<EventId>,
    /// The provider's own key of the event, whole, such as "evt_1Q…" or a delivery's GUID. It finds
    /// the event for as long as hookonce remembers the key
    pub key: Option<String>,
    /// The name of a source, as get_status lists them
    pub source: Option<String>,
    /// A type, or a pattern such as "invoice.*"
    pub r#type: Option<String>,
    /// Received since: RFC 3339, a date, or how long ago ("2h", "30d")
    pub since: Option<String>,
    /// Received before: written as since
    pub until: Option<String>,
    /// At most so many, newest first; 20 if not given
    pub limit: Option<Rows>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetEvent {
    /// The id that hookonce gave the event; find_events finds it by the provider's key
    pub id: EventId,
    /// Show so many bytes of the body; none if not given
    pub body_bytes: Option<ShownBytes>,
    /// Show the request's headers
    #[serde(default)]
    pub headers: bool,
    /// Show so many bytes of what handlers answered to each attempt; none if not given
    pub response_bytes: Option<ShownBytes>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetDelivery {
    /// The delivery's id: a UUID
    pub id: DeliveryId,
    /// Show so many bytes of what the handler answered to each attempt; none if not given
    pub response_bytes: Option<ShownBytes>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitForEvent {
    /// The name of a source
    pub source: Option<String>,
    /// A type, or a pattern such as "invoice.*"
    pub r#type: Option<String>,
    /// The provider's own key of the event, whole
    pub key: Option<String>,
    /// Give up after so many seconds; 60 if not given
    pub timeout_s: Option<Within<1, 300>>,
    /// Events that came up to so many seconds before this call count too; 30 if not given
    pub look_back_s: Option<Within<0, 3600>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListRejections {
    /// The name of a source
    pub source: Option<String>,
    /// A stable code, such as "no_match" or "timestamp_too_old"
    pub reason: Option<String>,
    /// Refused since: RFC 3339, a date, or how long ago ("2h", "30d")
    pub since: Option<String>,
    /// Refused before: written as since
    pub until: Option<String>,
    /// At most so many, newest first; 20 if not given
    pub limit: Option<Rows>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRejection {
    /// The rejection's id, as list_rejections gives it
    pub id: RejectionId,
    /// Show so many bytes of the beginning of the body; none if not given
    pub body_bytes: Option<ShownBytes>,
    /// Show the request's headers, with what is secret in them masked
    #[serde(default)]
    pub headers: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListIssues {
    /// Failures of so many hours back; 24 if not given
    pub hours: Option<Within<1, 720>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListSteps {
    pub run: Option<String>,
    /// "unknown" are those that wait for a person
    pub status: Option<StepState>,
    pub tenant: Option<String>,
    /// Claimed since: RFC 3339, a date, or how long ago ("2h", "30d")
    pub since: Option<String>,
    /// At most so many, newest first; 20 if not given
    pub limit: Option<Rows>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetStep {
    pub run: String,
    pub step: String,
    pub tenant: Option<String>,
    /// Show so many bytes of its result, of what its lost holder said, and of the evidence of who
    /// resolved it; none if not given
    pub result_bytes: Option<ShownBytes>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveStep {
    pub run: String,
    pub step: String,
    pub tenant: Option<String>,
    /// The step's fence as get_step has just shown it: the call does nothing if it has changed
    pub expected_fence: i64,
    pub outcome: StepOutcome,
    /// How it is known, for others to read later: what was looked at, where, and what it said
    pub evidence: String,
    /// The step's result, any JSON; of done and failed
    pub result: Option<Value>,
}

/// What to replay. At least one of ids, source, type, since, until and status is needed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayFilter {
    /// These events, at most 100
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub ids: Option<Vec<EventId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// A type, or a pattern such as "invoice.*"
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    /// Received since: RFC 3339, a date, or how long ago ("2h", "30d")
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Received before: written as since
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Only where a delivery ended so
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ReplayStatus>,
    /// The name of a configured destination, instead of where the routes send them
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Events at most, the oldest first; 100 if not given
    #[serde(default = "replay_limit")]
    pub limit: Within<1, 1000>,
}

fn replay_limit() -> Within<1, 1000> {
    Within(100)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_out_of_bounds_are_refused() {
        let rows = |value: Value| serde_json::from_value::<Rows>(value).map(Rows::get);
        assert_eq!(rows(json!(1)).ok(), Some(1));
        assert_eq!(rows(json!(100)).ok(), Some(100));
        for wrong in [
            json!(0),
            json!(101),
            json!(-1),
            json!(1.5),
            json!("5"),
            json!(u64::MAX),
        ] {
            assert!(rows(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
