//! What is said about a step: the terms of a claim, what a claim brings, what became of a lost
//! step. The words are those of the ledger's HTTP calls (`docs/idempotency.md`). Nothing here
//! sends.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::error::Error;

const DETAIL_CHARS_MAX: usize = 1000;

/// What happens to a step whose holder was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLost {
    /// The step is given to nobody until somebody says what happened: at most one execution.
    #[default]
    Hold,
    /// The next claim gets the step, under the same effect key: at least one execution.
    Retry,
}

/// The right to execute a step. It holds as long as no claim of the step has a higher fence.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The step's name.
    pub step: String,
    /// What this attempt is called.
    pub claim_id: String,
    /// The claim's fence: 1 for the first, and higher with each takeover.
    pub fence: i64,
    /// How many executions were begun, this one included. A step that was given back is not
    /// counted.
    pub attempt: i32,
    /// The same for all attempts at the step. Pass it on as the Idempotency-Key of the effect.
    pub effect_key: String,
    /// When the claim was sent. The lease begins later, so it ends no earlier than this plus its
    /// length.
    pub claimed_at: Instant,
}

impl Grant {
    /// What a call under this grant is about: run, step and claim.
    pub(crate) fn of<'a>(&'a self, run: &'a str) -> (&'a str, &'a str, Option<&'a str>) {
        (run, &self.step, Some(&self.claim_id))
    }
}

/// A step that needs no execution.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Whether the step failed for good.
    pub is_failed: bool,
    /// The result, byte for byte as it was recorded; null if it was not kept. If the step failed,
    /// its error.
    pub result: Box<RawValue>,
    /// Why the result was not kept, if it was not.
    pub not_kept: Option<NotKept>,
    /// When the step ended, as RFC 3339 writes it, by the database's clock.
    pub ended_at: Option<String>,
    /// Who executed it.
    pub owner: Option<String>,
    /// When the service said so, by the database's clock.
    pub replayed_at: Option<String>,
}

/// Why the result of a step that was done is not there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NotKept {
    /// `too-large` or `not-encodable`.
    pub reason: String,
    /// More about it, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl NotKept {
    /// The detail is cut to what the service takes.
    pub(crate) fn new(reason: &str, detail: &str) -> Self {
        Self {
            reason: reason.to_owned(),
            detail: Some(detail.chars().take(DETAIL_CHARS_MAX).collect()),
        }
    }
}

impl Ended {
    /// What to say of it, in words. `what` it was: "step" or "call".
    pub(crate) fn message(&self, what: &str) -> String {
        let at = self.ended_at.as_deref();
        let at = at.map_or_else(String::new, |at| format!(" at {at}"));
        let by = self.owner.as_deref();
        let by = by.map_or_else(String::new, |owner| format!(" by {owner}"));
        let done = format!("Not executed again: this same {what} was done{at}{by}");
        match &self.not_kept {
            None => format!("{done}; this is its result."),
            Some(NotKept { reason, detail }) => {
                let detail = detail.as_deref();
                let detail = detail.map_or_else(String::new, |detail| format!(": {detail}"));
                format!("{done}; its result was not kept ({reason}{detail}).")
            }
        }
    }
}

/// What a claim brings.
#[derive(Clone, Debug)]
pub enum Claim {
    /// The step is the caller's to execute.
    Granted(Grant),
    /// The step has ended earlier.
    Ended(Ended),
}

/// A step whose holder was lost. A reconcile hook says what happened to the effect with its key.
#[derive(Clone, Debug, Deserialize)]
pub struct LostStep {
    /// The run's name.
    pub run: String,
    /// The step's name.
    pub step: String,
    /// The fence of the lost holder's claim.
    pub fence: i64,
    /// How many executions were begun, the lost one included.
    pub attempt: i32,
    /// The same for all attempts at the step.
    pub effect_key: String,
    /// What the lost holder called itself.
    pub owner: Option<String>,
    /// When the lost holder claimed the step, as RFC 3339 writes it.
    pub claimed_at: String,
}

/// What became of a lost step. The evidence is any JSON that says how this is known.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The work was done.
    Done {
        /// What the step returns from now on.
        result: Value,
        /// How this is known.
        evidence: Value,
    },
    /// The work failed for good.
    Failed {
        /// The error that the step has from now on.
        error: Value,
        /// How this is known.
        evidence: Value,
    },
    /// The work did nothing: the next claim executes it.
    NotExecuted {
        /// How this is known.
        evidence: Value,
    },
}

impl Outcome {
    /// The work was done, with this result.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] if the result can't be written as JSON.
    pub fn done(result: &impl Serialize, evidence: impl Into<Value>) -> Result<Self, Error> {
        Ok(Self::Done {
            result: serde_json::to_value(result)?,
            evidence: evidence.into(),
        })
    }

    /// The work did nothing.
    pub fn not_executed(evidence: impl Into<Value>) -> Self {
        Self::NotExecuted {
            evidence: evidence.into(),
        }
    }

    /// The body of the call that resolves the step, where it still has this fence.
    pub(crate) fn body(&self, expected_fence: i64) -> Value {
        let (word, result, evidence) = match self {
            Self::Done { result, evidence } => ("done", Some(result), evidence),
            Self::Failed { error, evidence } => ("failed", Some(error), evidence),
            Self::NotExecuted { evidence } => ("not-executed", None, evidence),
        };
        let mut body =
            json!({ "expected_fence": expected_fence, "outcome": word, "evidence": evidence });
        if let Some(result) = result {
            body["result"] = result.clone();
        }
        body
    }
}

/// A step as it is in the ledger.
#[derive(Clone, Debug, Deserialize)]
pub struct StepState {
    /// The step's name.
    pub step: String,
    /// `running`, `done`, `failed`, `released` or `unknown`.
    pub status: String,
    /// The result, byte for byte as it was recorded. If the step failed, its error.
    pub result: Option<Box<RawValue>>,
    /// The last claim's fence.
    pub fence: i64,
    /// How many executions were begun.
    pub attempt: i32,
    /// The same for all attempts at the step.
    pub effect_key: String,
    /// What the last holder calls itself.
    pub owner: Option<String>,
    /// When the step ended, as RFC 3339 writes it.
    pub ended_at: Option<String>,
    /// Why the result was not kept, if it was not.
    #[serde(rename = "result_not_kept", default)]
    pub not_kept: Option<NotKept>,
    /// The input's hash, if the claim gave one; see [`input_hash`].
    pub input_hash: Option<String>,
}

/// How a step is claimed.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) lease: Duration,
    pub(crate) on_lost: OnLost,
    /// How long the claim waits while another holder executes.
    pub(crate) wait: Duration,
    pub(crate) input_hash: Option<String>,
}

/// Names one attempt, so that the service knows its calls again.
#[expect(clippy::disallowed_methods, reason = "any id that is new will do")]
pub(crate) fn new_claim_id() -> String {
    Uuid::now_v7().to_string()
}

/// `sha256:` and, in hex, the SHA-256 of the input's compact JSON with sorted keys.
/// All clients compute the same hash if the input's numbers are integers.
///
/// ```
/// let hash = hookonce_client::input_hash(&serde_json::json!({ "to": "a", "amount": [1, "ü"] }))?;
/// assert_eq!(hash, "sha256:b991fe79fd563b145b5f118f26493203dc5a78a8988ab13b43eb2c186867746a");
/// # Ok::<(), hookonce_client::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Json`] if the input can't be written as JSON.
pub fn input_hash(input: &impl Serialize) -> Result<String, Error> {
    let mut value = serde_json::to_value(input)?;
    // Keys are sorted already, except where some crate has turned on serde_json's `preserve_order`.
    value.sort_all_objects();
    Ok(format!(
        "sha256:{}",
        hex::encode(Sha256::digest(value.to_string()))
    ))
}
