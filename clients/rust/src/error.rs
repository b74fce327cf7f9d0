//! What can go wrong, each by its own name. The names are those of the clients in other languages.

use serde_json::Value;

/// Why a call or a step has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service did not answer, or only with 429, 502, 503 or 504, until the client gave up.
    /// Whether the last call was done is not known; the same call may be sent again.
    #[error("hookonce can't be reached: {0}")]
    Unavailable(String),
    /// The service refused the call. Trying again does not help: a token, a name or a size is
    /// wrong.
    #[error("{status} {kind}: {detail}")]
    Refused {
        /// The answer's HTTP status.
        status: u16,
        /// The last part of the problem's `type` (RFC 9457, section 3.1.1); empty if it has none.
        kind: String,
        /// What the service said about this call, for people.
        detail: String,
    },
    /// Another holder is executing the step, and did not end within
    /// [`Step::wait`](crate::Step::wait).
    #[error("step {step:?} is being executed by {}", owner.as_deref().unwrap_or("another"))]
    StepRunning {
        /// The step's name.
        step: String,
        /// What the holder calls itself.
        owner: Option<String>,
        /// How long to wait before asking again, in seconds.
        retry_after_seconds: u64,
    },
    /// The step's holder was lost, and nobody knows whether the work was done.
    /// Find out, then tell [`Run::resolve`](crate::Run::resolve), with this fence.
    #[error("the outcome of step {step:?} of run {run:?} is not known (fence {fence})")]
    OutcomeUnknown {
        /// The run's name.
        run: String,
        /// The step's name.
        step: String,
        /// The fence of the lost holder's claim.
        fence: i64,
        /// What the lost holder called itself.
        owner: Option<String>,
        /// What the holder said when it stopped without knowing the outcome.
        evidence: Option<Value>,
    },
    /// The step was done, earlier, and its result could not be kept. It is not executed again.
    #[error("{message}")]
    ResultNotKept {
        /// Why: `too-large` or `not-encodable`.
        reason: String,
        /// When the step was done, as RFC 3339 writes it.
        ended_at: Option<String>,
        /// By whom.
        owner: Option<String>,
        /// All of it in words, for people and models.
        message: String,
    },
    /// The same call was made before, and [`Repeat::Ask`](crate::Repeat::Ask) refuses a repeat.
    /// Nothing was executed now.
    #[error("{message}")]
    RepeatRefused {
        /// The tool's name.
        tool: String,
        /// What it was called with.
        arguments: Value,
        /// The first call's result; null if it was not kept.
        result: Value,
        /// When the first call was done, as RFC 3339 writes it.
        ended_at: Option<String>,
        /// By whom.
        owner: Option<String>,
        /// All of it in words, and what to do, for people and models.
        message: String,
    },
    /// The step of this name was claimed before with another input: a step is one piece of work.
    #[error("step {0:?} was claimed before with another input")]
    InputChanged(String),
    /// The step, or the key, is no longer this holder's: stop the work, and record nothing.
    #[error("the lease was lost: {0}")]
    LeaseLost(String),
    /// The step has failed for good, now or earlier. This is the error that was recorded.
    #[error("the step failed: {0}")]
    StepFailed(Value),
    /// The work did nothing, and the step was given back: the next claim executes it.
    #[error("not executed: {0}")]
    NotExecuted(String),
    /// Another consumer is handling the key. Neither handle it nor acknowledge the message.
    #[error("key {key:?} is being handled by another")]
    KeyLeased {
        /// The key.
        key: String,
        /// How long to wait before asking again, in seconds.
        retry_after_seconds: u64,
    },
    /// hookonce did not sign this request for this handler, or signed it too long ago.
    ///
    /// The code is stable: `malformed_request` (no `webhook-id`), `timestamp_missing`,
    /// `timestamp_malformed`, `timestamp_too_old`, `timestamp_in_future`, `missing_signature`,
    /// `malformed_signature` or `no_match`.
    #[error("the relayed request is refused: {0}")]
    VerificationFailed(&'static str),
    /// The work ended with an error of its own. Whether it did anything is not known.
    #[error("the work failed, and whether it did anything is not known")]
    Work(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A value can't be written as JSON, or what was recorded has another shape than expected.
    #[error("a result is no JSON, or another one than expected")]
    Json(#[from] serde_json::Error),
    /// A name, a URL, a secret or a setting that can't be used.
    #[error("{0}")]
    Invalid(String),
}

/// How work ends without a result. By `?`, any other error becomes [`WorkError::Unknown`].
#[derive(Debug)]
pub enum WorkError {
    /// The work has failed for good. The error is recorded, and given to all who come later.
    Failed(Value),
    /// Nothing was done, for this reason. The step is given back at once.
    NotExecuted(String),
    /// Whether anything was done is not known.
    Unknown(Box<dyn std::error::Error + Send + Sync>),
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for WorkError {
    fn from(error: E) -> Self {
        Self::Unknown(Box::new(error))
    }
}
