//! A handler of relayed events that does each event's work once: verify, claim by the event's id,
//! work, complete. It knows no web framework: headers and body in; status, headers and body out.

use std::{future::Future, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    claim::OnLost,
    context::StepContext,
    error::{Error, WorkError},
    ledger::Ledger,
    webhook::{RelayedEvent, Verifier},
};

const LEASE: Duration = Duration::from_secs(30);
const UNKNOWN_RETRY_SECONDS: u64 = 60;

/// What to answer hookonce with. It does the right thing next (`docs/handlers.md`, "Answers").
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Names, in lower case, and values.
    pub headers: Vec<(&'static str, String)>,
    /// JSON: `{"status": …}`, with `done`, `refused`, `failed`, `unknown`, `running` or `not-done`.
    pub body: String,
}

impl Answer {
    fn new(status: u16, said: &str) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json".into())],
            body: json!({ "status": said }).to_string(),
        }
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

/// Handles the relayed events of one destination. Each event is a run `{name}:{event id}` with a
/// step `handle`. Further steps of the work belong to [`StepContext::run`].
#[derive(Clone)]
pub struct Handler {
    ledger: Ledger,
    verifier: Verifier,
    name: String,
    lease: Duration,
    on_lost: OnLost,
}

impl Handler {
    /// With the destination's `signing_secret`, or several while it is rotated.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] as [`Verifier::new`] has it.
    pub fn new(ledger: Ledger, secrets: &[&str]) -> Result<Self, Error> {
        Ok(Self::with_verifier(ledger, Verifier::new(secrets)?))
    }

    /// With a verifier of one's own.
    pub fn with_verifier(ledger: Ledger, verifier: Verifier) -> Self {
        Self {
            ledger,
            verifier,
            name: "webhook".into(),
            lease: LEASE,
            on_lost: OnLost::Retry,
        }
    }

    /// What the runs' names begin with. Two destinations that do different work for one event need
    /// different names. Default: `webhook`.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self
        }
    }

    /// The lease of each event's step; see [`Step::lease`](crate::Step::lease). Default: 30
    /// seconds.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }

    /// What happens to an event whose handler was lost. Default: [`OnLost::Retry`], so the work is
    /// called again with the same effect key. Under [`OnLost::Hold`] the event is answered 503
    /// until somebody resolves its step.
    #[must_use]
    pub fn on_lost(self, on_lost: OnLost) -> Self {
        Self { on_lost, ..self }
    }

    /// Verifies a request and does its work, if it was not done before. `body` must be the exact
    /// bytes that came. Answer with what this returns:
    ///
    /// | Status | Because | hookonce then |
    /// |---|---|---|
    /// | 200 | the work is done, now or earlier | ends the delivery |
    /// | 401 | the request is not verified | tries again |
    /// | 422, `hookonce-retry: no` | the work failed for good | ends the delivery as dead |
    /// | 503, `retry-after` | another is at it, or the outcome is not known, or nothing was done | tries again |
    ///
    /// # Errors
    ///
    /// [`Error::Work`] if the work ended with an error of its own, and what [`Error::Refused`],
    /// [`Error::InputChanged`], [`Error::Json`] and [`Error::Invalid`] stand for. Answer 500:
    /// hookonce tries again.
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
        let step = run
            .step("handle")
            .lease(self.lease)
            .on_lost(self.on_lost)
            .wait(Duration::ZERO);
        match step.execute(|context| work(context, event)).await {
            Ok(_) => Ok(Answer::new(200, "done")),
            Err(error) => answer_to(error),
        }
    }
}

/// The answer after which hookonce does the right thing; the error itself if it is the caller's to
/// see.
fn answer_to(error: Error) -> Result<Answer, Error> {
    match error {
        Error::VerificationFailed(_) => Ok(Answer::new(401, "refused")),
        Error::StepFailed(_) => Ok(Answer::new(422, "failed").with("hookonce-retry", "no")),
        Error::OutcomeUnknown { .. } => {
            Ok(Answer::new(503, "unknown").with("retry-after", UNKNOWN_RETRY_SECONDS))
        }
        Error::StepRunning {
            retry_after_seconds,
            ..
        } => Ok(Answer::new(503, "running").with("retry-after", retry_after_seconds)),
        Error::NotExecuted(_) | Error::LeaseLost(_) | Error::Unavailable(_) => {
            Ok(Answer::new(503, "not-done").with("retry-after", 1))
        }
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn each_end_has_the_answer_that_hookonce_understands() {
        let running = Error::StepRunning {
            step: "s".into(),
            owner: None,
            retry_after_seconds: 7,
        };
        let unknown = Error::OutcomeUnknown {
            run: "r".into(),
            step: "s".into(),
            fence: 1,
            owner: None,
            evidence: None,
        };
        for (error, status, header) in [
            (Error::VerificationFailed("no_match"), 401, None),
            (
                Error::StepFailed(Value::Null),
                422,
                Some(("hookonce-retry", "no")),
            ),
            (running, 503, Some(("retry-after", "7"))),
            (unknown, 503, Some(("retry-after", "60"))),
            (
                Error::NotExecuted("no".into()),
                503,
                Some(("retry-after", "1")),
            ),
            (
                Error::LeaseLost("l".into()),
                503,
                Some(("retry-after", "1")),
            ),
            (
                Error::Unavailable("u".into()),
                503,
                Some(("retry-after", "1")),
            ),
        ] {
            let answer = answer_to(error).unwrap();
            let said = answer
                .headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .nth(1);
            assert_eq!((answer.status, said), (status, header), "{answer:?}");
        }
        assert!(matches!(
            answer_to(Error::Work("boom".into())),
            Err(Error::Work(_))
        ));
    }
}
