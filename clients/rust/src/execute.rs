//! Executing a step: claim, beat while the work runs, and tell how it ended. What is told while
//! nobody waits any longer is the matter of `holding`.

use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::to_raw_value;
use tokio_util::sync::CancellationToken;

use crate::{
    claim::{
        Claim, Ended, Grant, LostStep, NotKept, OnLost, Outcome, Terms, input_hash, new_claim_id,
    },
    context::StepContext,
    error::{Error, WorkError},
    holding::{Asking, End, Held, chain_of},
    run::Run,
};

const LEASE: Duration = Duration::from_secs(30);

type Hook =
    Box<dyn Fn(LostStep) -> Pin<Box<dyn Future<Output = Option<Outcome>> + Send>> + Send + Sync>;

impl Run {
    /// A step of the run, by its name of 1 to 255 bytes. The service is not asked before
    /// [`Step::execute`].
    pub fn step(&self, name: &str) -> Step {
        let terms = Terms {
            lease: LEASE,
            on_lost: OnLost::Hold,
            wait: LEASE,
            input_hash: None,
        };
        Step {
            run: self.clone(),
            name: name.to_owned(),
            terms,
            hook: None,
        }
    }

    /// Claims a step and does no more, for code that executes in some other way: nobody sends
    /// heartbeats for it. `claim_id` names this attempt, and the same id gets the same grant again;
    /// `None` makes a new one.
    ///
    /// # Errors
    ///
    /// [`Error::StepRunning`], [`Error::OutcomeUnknown`], [`Error::InputChanged`], and those of all
    /// calls; see [`Run`].
    pub async fn claim(&self, step: &Step, claim_id: Option<&str>) -> Result<Claim, Error> {
        let id = claim_id.map_or_else(new_claim_id, str::to_owned);
        self.protocol()
            .claim(self.name(), &step.name, &step.terms, &id)
            .await
    }
}

/// A step, and how it is to be executed.
#[must_use = "it does nothing until executed"]
pub struct Step {
    run: Run,
    pub(crate) name: String,
    terms: Terms,
    hook: Option<Hook>,
}

/// How a step came to its result.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepOutcome<T> {
    /// The result: what JSON makes of it, the first time as every time after.
    pub result: T,
    /// When the service gave this result out again, by the database's clock, as RFC 3339 writes it.
    /// `None`: it was executed just now.
    pub replayed_at: Option<String>,
    /// When the step was done. `None`: just now.
    pub ended_at: Option<String>,
    /// Who did it. `None`: this call.
    pub owner: Option<String>,
    /// Why the result is not kept: whoever comes later gets [`Error::ResultNotKept`].
    pub not_kept: Option<NotKept>,
    /// Of a replay, what happened in words that a person or a model understands.
    pub message: Option<String>,
}

impl Step {
    /// How long the step stays this holder's without a heartbeat. One is sent at each third of it
    /// for as long as the work runs. Default: 30 seconds; the service takes up to
    /// `ledger.lease_max`.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.terms.lease = lease;
        self
    }

    /// What happens to the step if its holder is lost. Default: [`OnLost::Hold`].
    pub fn on_lost(mut self, on_lost: OnLost) -> Self {
        self.terms.on_lost = on_lost;
        self
    }

    /// How long to wait while another holder executes. Default: 30 seconds.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.terms.wait = wait;
        self
    }

    /// The work's input. The service keeps its hash, and refuses the step with another input.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] if the input can't be written as JSON.
    pub fn input(mut self, input: &impl Serialize) -> Result<Self, Error> {
        self.terms.input_hash = Some(input_hash(input)?);
        Ok(self)
    }

    /// A hook that is asked what became of the step when its holder was lost. It says `None` if it
    /// can't tell. What it says is recorded.
    pub fn reconcile<F>(mut self, hook: impl Fn(LostStep) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<Outcome>> + Send + 'static,
    {
        self.hook = Some(Box::new(move |lost| Box::pin(hook(lost))));
        self
    }

    /// Executes the work, if nobody has, and returns its result. The result is what JSON makes of
    /// it, the first time as every time after.
    ///
    /// Work that loses its lease is dropped. An error of the work's own leaves open what happened:
    /// under [`OnLost::Hold`] the step is then unknown, under [`OnLost::Retry`] the next claim gets
    /// it. Dropping this future does the same at once, unless the result is on its way already: it
    /// is recorded then. [`Step::execute_detached`] goes on instead.
    ///
    /// A result that can't be written as JSON, or is larger than the service keeps, is returned
    /// here and not kept. The step is done all the same.
    ///
    /// # Errors
    ///
    /// - [`Error::StepFailed`]: the work failed for good, now or earlier.
    /// - [`Error::NotExecuted`]: the work did nothing, and the step was given back.
    /// - [`Error::Work`]: the work ended with an error of its own.
    /// - [`Error::ResultNotKept`]: the step was done earlier, and its result is not there.
    /// - [`Error::LeaseLost`]: another claim has the step; nothing was recorded.
    /// - [`Error::StepRunning`]: another holder executes, and did not end within the wait.
    /// - [`Error::OutcomeUnknown`]: a holder was lost, and no hook said what came of it.
    /// - [`Error::InputChanged`], [`Error::Json`], and those of all calls; see [`Run`].
    pub async fn execute<T, F>(self, work: impl FnOnce(StepContext) -> F) -> Result<T, Error>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, WorkError>>,
    {
        let known = self.run.known_end(&self.name, &self.terms)?;
        let outcome = match known {
            Some(ended) => replayed(ended, "step")?,
            None => self.outcome(work).await?,
        };
        Ok(outcome.result)
    }

    /// Like [`Step::execute`], in a task of its own: whoever drops this future ends nothing, and
    /// the result is recorded.
    ///
    /// # Errors
    ///
    /// Those of [`Step::execute`].
    pub async fn execute_detached<T, F, W>(self, work: W) -> Result<T, Error>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Future<Output = Result<T, WorkError>> + Send + 'static,
        W: FnOnce(StepContext) -> F + Send + 'static,
    {
        let ended = tokio::spawn(self.execute(work)).await;
        ended.unwrap_or_else(|ended| Err(Error::Work(Box::new(ended))))
    }

    /// Like [`Step::execute`], and says whether the result is a replay, of when and by whom. It
    /// always asks the service, also for a step that [`Run::resume`] has read.
    ///
    /// # Errors
    ///
    /// Those of [`Step::execute`].
    pub async fn outcome<T, F>(
        self,
        work: impl FnOnce(StepContext) -> F,
    ) -> Result<StepOutcome<T>, Error>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, WorkError>>,
    {
        match self.begin().await? {
            Claim::Granted(grant) => self.perform(grant, work).await,
            Claim::Ended(ended) => replayed(ended, "step"),
        }
    }

    /// Does the work under this grant, and tells how it ended.
    pub(crate) async fn perform<T, F>(
        &self,
        grant: Grant,
        work: impl FnOnce(StepContext) -> F,
    ) -> Result<StepOutcome<T>, Error>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, WorkError>>,
    {
        let context = StepContext::new(self.run.clone(), &grant, self.terms.lease);
        let held = Held::new(&self.run, &grant);
        let over = CancellationToken::new();
        // The beats end also when this future is dropped.
        let _stop = over.clone().drop_guard();
        let beats = tokio::spawn(beat(grant.clone(), context.clone(), over.clone()));
        let ended = tokio::select! {
            ended = work(context.clone()) => ended,
            () = context.lost.cancelled() => {
                held.over();
                return Err(context.lost_error());
            }
        };
        let (end, told) = match ended {
            Ok(result) => match to_raw_value(&result) {
                Ok(json) => (End::Done(json), Ok(result)),
                Err(error) => {
                    let not_kept = NotKept::new("not-encodable", &chain_of(&error));
                    (End::NotKept(not_kept), Ok(result))
                }
            },
            Err(WorkError::Failed(error)) => {
                (End::Failed(error.clone()), Err(Error::StepFailed(error)))
            }
            Err(WorkError::NotExecuted(why)) => (End::NotExecuted, Err(Error::NotExecuted(why))),
            Err(WorkError::Unknown(error)) => {
                (End::Unknown(chain_of(&*error)), Err(Error::Work(error)))
            }
        };
        if matches!(end, End::NotExecuted | End::Unknown(_)) {
            // No beat may follow what is told now. The join fails only if the task has panicked,
            // and so ended.
            over.cancel();
            let _ = beats.await;
        }
        let kept = held.end(end, context.emitted()).await?;
        let result = told?;
        Ok(StepOutcome {
            result: match &kept.json {
                Some(json) => serde_json::from_str(json.get()).unwrap_or(result),
                None => result,
            },
            replayed_at: None,
            ended_at: None,
            owner: None,
            not_kept: kept.not_kept,
            message: None,
        })
    }

    /// Claims the step. If its outcome is unknown, asks the hook and records what it says.
    pub(crate) async fn begin(&self) -> Result<Claim, Error> {
        let (protocol, run) = (self.run.protocol(), self.run.name());
        loop {
            let claim_id = new_claim_id();
            let asking = Asking::new(&self.run, &self.name, &self.terms, &claim_id);
            let claimed = protocol
                .claim(run, &self.name, &self.terms, &claim_id)
                .await;
            asking.answered();
            let (Err(Error::OutcomeUnknown { fence, .. }), Some(hook)) = (&claimed, &self.hook)
            else {
                return claimed;
            };
            let Some(outcome) = hook(protocol.lost(run, &self.name, *fence).await?).await else {
                return claimed;
            };
            match protocol.resolve(run, &self.name, *fence, &outcome).await {
                // If another caller has resolved it meanwhile, the next claim tells.
                Ok(()) | Err(Error::LeaseLost(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// What a step that ended earlier comes to. `what` it was: "step" or "call".
pub(crate) fn replayed<T: DeserializeOwned>(
    ended: Ended,
    what: &str,
) -> Result<StepOutcome<T>, Error> {
    if ended.is_failed {
        return Err(Error::StepFailed(serde_json::from_str(ended.result.get())?));
    }
    let message = ended.message(what);
    if let Some(NotKept { reason, .. }) = ended.not_kept {
        return Err(Error::ResultNotKept {
            reason,
            ended_at: ended.ended_at,
            owner: ended.owner,
            message,
        });
    }
    Ok(StepOutcome {
        result: serde_json::from_str(ended.result.get())?,
        replayed_at: ended.replayed_at,
        ended_at: ended.ended_at,
        owner: ended.owner,
        not_kept: None,
        message: Some(message),
    })
}

/// Beats at a third of the lease, until the work is over or the lease is lost.
async fn beat(grant: Grant, context: StepContext, over: CancellationToken) {
    let run = &context.run;
    let interval = context.lease / 3;
    let mut last = grant.claimed_at;
    loop {
        tokio::select! {
            () = over.cancelled() => return,
            () = tokio::time::sleep(interval.saturating_sub(last.elapsed())) => {}
        }
        last = Instant::now();
        match run
            .protocol()
            .heartbeat(run.name(), &grant, context.lease, Some(interval))
            .await
        {
            Ok(()) => context.extended(last),
            Err(Error::LeaseLost(_)) => return context.lost.cancel(),
            // The next beat may get through.
            Err(_) => {}
        }
    }
}
