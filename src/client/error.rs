//! What can go wrong, each by its own name.

use serde_json::Value;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answered, or 503 and 429 alone, for as long as the client was told to try. Whether the last call was done is not known.
    #[error("hookonce can't be reached: {0}")]
    Unavailable(String),
    /// The call was answered with a problem that trying again does not cure: a token, a name, a size.
    #[error("{status} {kind}: {detail}")]
    Refused { status: u16, kind: String, detail: String },
    /// Another is executing the step, and did not end within the wait.
    #[error("step {step:?} is being executed by {}", owner.as_deref().unwrap_or("another"))]
    StepRunning { step: String, owner: Option<String>, retry_after_seconds: u64 },
    /// Who executed the step was lost, and nobody knows what came of it: find out, then resolve it with this fence.
    #[error("the outcome of step {step:?} of run {run:?} is not known (fence {fence})")]
    OutcomeUnknown { run: String, step: String, fence: i64 },
    /// The step was claimed before with another input: a step is one piece of work.
    #[error("step {0:?} was claimed before with another input")]
    InputChanged(String),
    /// The step, or the key, is no longer this holder's: stop, and record nothing.
    #[error("the lease was lost: {0}")]
    LeaseLost(String),
    /// The step has failed for good, and this is the error that was recorded.
    #[error("the step failed: {0}")]
    StepFailed(Value),
    /// The work did nothing, and the step was given back.
    #[error("not executed: {0}")]
    NotExecuted(String),
    /// Another is handling the key: neither handle it nor acknowledge the message.
    #[error("key {key:?} is being handled by another")]
    KeyLeased { key: String, retry_after_seconds: u64 },
    /// The request is not one that hookonce signed for this handler, or is too old: a stable code.
    #[error("the relayed request is refused: {0}")]
    VerificationFailed(&'static str),
    /// The work's own error: what happened is not known.
    #[error("the work failed, and whether it did anything is not known")]
    Work(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("a result is no JSON, or another one than expected")]
    Json(#[from] serde_json::Error),
    /// A name or a setting that can't be used.
    #[error("{0}")]
    Invalid(String),
}

/// How work ends that has no result. Any other error becomes `Unknown` by `?`.
#[derive(Debug)]
pub enum WorkError {
    /// For good: this is recorded, and given to all who come later.
    Failed(Value),
    /// Nothing was done: the step is given back at once.
    NotExecuted(String),
    /// What happened is not known.
    Unknown(Box<dyn std::error::Error + Send + Sync>),
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for WorkError {
    fn from(error: E) -> Self {
        Self::Unknown(Box::new(error))
    }
}
