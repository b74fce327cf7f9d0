//! A handler of relayed events that does each event's work once: verify, claim by the event's id, work, complete. It knows no web framework:
//! headers and body in, status, headers and body out.

use std::{future::Future, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    error::{Error, WorkError},
    execute::StepContext,
    protocol::OnLost,
    run::Ledger,
    webhook::{RelayedEvent, Verifier},
};

const UNKNOWN_RETRY_SECONDS: u64 = 60;

/// What to answer hookonce with.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Answer {
    fn new(status: u16, said: &str) -> Self {
        Self { status, headers: vec![("content-type", "application/json".into())], body: json!({ "status": said }).to_string() }
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

/// Handles relayed events for one destination. Each event is a run `{name}:{event id}` with a step `handle`; the context's run takes further
/// steps.
#[derive(Clone)]
pub struct Handler {
    ledger: Ledger,
    verifier: Verifier,
    name: String,
    lease: Duration,
    on_lost: OnLost,
}

impl Handler {
    /// With the destination's `signing_secret`, or several while rotating.
    pub fn new(ledger: Ledger, secrets: &[&str]) -> Result<Self, Error> {
        Ok(Self::with_verifier(ledger, Verifier::new(secrets)?))
    }

    pub fn with_verifier(ledger: Ledger, verifier: Verifier) -> Self {
        Self { ledger, verifier, name: "webhook".into(), lease: Duration::from_secs(30), on_lost: OnLost::Retry }
    }

    /// What the runs' names begin with. Default: `webhook`.
    pub fn name(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    pub fn lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }

    /// Default: retry: a handler that died is called again with the same effect key. Under hold a lost event waits, answered 503, until
    /// somebody resolves it.
    pub fn on_lost(self, on_lost: OnLost) -> Self {
        Self { on_lost, ..self }
    }

    /// `body` is the exact bytes that came. An error of the work's own comes back as one: answer 500, and hookonce tries again.
    pub async fn handle<N, V, T, F>(
        &self,
        headers: impl IntoIterator<Item = (N, V)>,
        body: Vec<u8>,
        work: impl FnOnce(StepContext, RelayedEvent) -> F,
    ) -> Result<Answer, Error>
    where
        N: AsRef<str>,
        V: AsRef<[u8]>,
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, WorkError>>,
    {
        let event = match self.verifier.verify(headers, body) {
            Ok(event) => event,
            Err(error) => return answer_to(error),
        };
        let run = self.ledger.run(&format!("{}:{}", self.name, event.id));
        let step = run.step("handle").lease(self.lease).on_lost(self.on_lost).wait(Duration::ZERO);
        match step.execute(|context| work(context, event)).await {
            Ok(_) => Ok(Answer::new(200, "done")),
            Err(error) => answer_to(error),
        }
    }
}

/// What makes hookonce do the right thing next.
fn answer_to(error: Error) -> Result<Answer, Error> {
    match error {
        Error::VerificationFailed(_) => Ok(Answer::new(401, "refused")),
        Error::StepFailed(_) => Ok(Answer::new(422, "failed").with("hookonce-retry", "no")),
        Error::OutcomeUnknown { .. } => Ok(Answer::new(503, "unknown").with("retry-after", UNKNOWN_RETRY_SECONDS)),
        Error::StepRunning { retry_after_seconds, .. } => Ok(Answer::new(503, "running").with("retry-after", retry_after_seconds)),
        Error::NotExecuted(_) | Error::LeaseLost(_) | Error::Unavailable(_) => Ok(Answer::new(503, "not-done").with("retry-after", 1)),
        error => Err(error),
    }
}
