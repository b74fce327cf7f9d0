//! Executing a step: claim, beat while the work runs, and tell how it ended.

use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use tokio_util::sync::CancellationToken;

use crate::{
    claim::{Claim, Ended, Grant, LostStep, OnLost, Outcome, Terms, input_hash, new_claim_id},
    context::StepContext,
    error::{Error, WorkError},
    run::Run,
};

const LEASE: Duration = Duration::from_secs(30);
/// With this lease a holder that gives up leaves the step: the next claim need not wait.
const ABANDON_LEASE: Duration = Duration::from_millis(1);
const ABANDON_GIVE_UP: Duration = Duration::from_secs(1);

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
    name: String,
    terms: Terms,
    hook: Option<Hook>,
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
    /// it.
    ///
    /// # Errors
    ///
    /// - [`Error::StepFailed`]: the work failed for good, now or earlier.
    /// - [`Error::NotExecuted`]: the work did nothing, and the step was given back.
    /// - [`Error::Work`]: the work ended with an error of its own.
    /// - [`Error::LeaseLost`]: another claim has the step; nothing was recorded.
    /// - [`Error::StepRunning`]: another holder executes, and did not end within the wait.
    /// - [`Error::OutcomeUnknown`]: a holder was lost, and no hook said what came of it.
    /// - [`Error::InputChanged`], [`Error::Json`], and those of all calls; see [`Run`].
    pub async fn execute<T, F>(self, work: impl FnOnce(StepContext) -> F) -> Result<T, Error>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, WorkError>>,
    {
        let grant = match self.begin().await? {
            Claim::Granted(grant) => grant,
            Claim::Ended(Ended {
                is_failed: true,
                result,
            }) => return Err(Error::StepFailed(serde_json::from_str(result.get())?)),
            Claim::Ended(Ended { result, .. }) => return Ok(serde_json::from_str(result.get())?),
        };
        let context = StepContext::new(self.run.clone(), &grant, self.terms.lease);
        let over = CancellationToken::new();
        // The beats end also when this future is dropped.
        let _stop = over.clone().drop_guard();
        let beats = tokio::spawn(beat(grant.clone(), context.clone(), over.clone()));
        let ended = tokio::select! {
            ended = work(context.clone()) => ended.and_then(|result| Ok(to_raw_value(&result)?)),
            () = context.lost.cancelled() => return Err(context.lost_error()),
        };
        if !matches!(ended, Ok(_) | Err(WorkError::Failed(_))) {
            // No beat may follow what is told now. The join fails only if the task has panicked,
            // and so ended.
            over.cancel();
            let _ = beats.await;
        }
        let result = self.tell(&grant, ended, &context.emitted()).await?;
        Ok(serde_json::from_str(result.get())?)
    }

    /// Claims the step. If its outcome is unknown, asks the hook and records what it says.
    async fn begin(&self) -> Result<Claim, Error> {
        if let Some(ended) = self.run.known_end(&self.name, &self.terms)? {
            return Ok(Claim::Ended(ended));
        }
        let (protocol, run) = (self.run.protocol(), self.run.name());
        loop {
            let claimed = protocol
                .claim(run, &self.name, &self.terms, &new_claim_id())
                .await;
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

    /// Tells the ledger how the work ended.
    async fn tell(
        &self,
        grant: &Grant,
        ended: Result<Box<RawValue>, WorkError>,
        emit: &[Value],
    ) -> Result<Box<RawValue>, Error> {
        let (protocol, run) = (self.run.protocol(), self.run.name());
        match ended {
            Ok(result) => {
                protocol.complete(run, grant, &result, emit).await?;
                Ok(result)
            }
            Err(WorkError::Failed(error)) => {
                protocol.fail(run, grant, &error, emit).await?;
                Err(Error::StepFailed(error))
            }
            Err(WorkError::NotExecuted(why)) => {
                // If the service does not hear this, the lease ends all the same.
                let _ = protocol.release(run, grant).await;
                Err(Error::NotExecuted(why))
            }
            Err(WorkError::Unknown(error)) => {
                // This ends the lease, so the next claim need not wait; if it is not heard, it
                // waits.
                let _ = protocol
                    .heartbeat(run, grant, ABANDON_LEASE, Some(ABANDON_GIVE_UP))
                    .await;
                Err(Error::Work(error))
            }
        }
    }
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
