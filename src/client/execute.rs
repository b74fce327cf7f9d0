//! Executing a step: claim, beat while the work runs, and tell how it ended.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    error::{Error, WorkError},
    protocol::{Claim, Ended, Grant, LostStep, OnLost, Outcome, Terms, input_hash},
    run::Run,
};

const LEASE: Duration = Duration::from_secs(30);
const ABANDON_LEASE: Duration = Duration::from_millis(1);
const ABANDON_GIVE_UP: Duration = Duration::from_secs(1);

type Hook = Box<dyn Fn(LostStep) -> Pin<Box<dyn Future<Output = Option<Outcome>> + Send>> + Send + Sync>;

/// A step, and how it is to be executed.
#[must_use = "it does nothing until executed"]
pub struct Step {
    run: Run,
    pub(super) name: String,
    pub(super) terms: Terms,
    hook: Option<Hook>,
}

impl Step {
    pub(super) fn new(run: Run, name: &str) -> Self {
        let terms = Terms { lease: LEASE, on_lost: OnLost::Hold, wait: LEASE, input_hash: None };
        Self { run, name: name.to_owned(), terms, hook: None }
    }

    /// Extended at a third of it for as long as the work runs. Default: 30 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.terms.lease = lease;
        self
    }

    /// Default: hold.
    pub fn on_lost(mut self, on_lost: OnLost) -> Self {
        self.terms.on_lost = on_lost;
        self
    }

    /// How long to wait while another executes. Default: 30 s.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.terms.wait = wait;
        self
    }

    /// A step that comes again with another input is refused.
    pub fn input(mut self, input: &impl Serialize) -> Result<Self, Error> {
        self.terms.input_hash = Some(input_hash(input)?);
        Ok(self)
    }

    /// Asked what became of the step when its holder was lost; `None` where it can't tell.
    pub fn reconcile<F>(mut self, hook: impl Fn(LostStep) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<Outcome>> + Send + 'static,
    {
        self.hook = Some(Box::new(move |lost| Box::pin(hook(lost))));
        self
    }

    /// Executes the work where nobody has, and gives its result, as JSON has it, the first time as every time after.
    ///
    /// Work that loses its lease is dropped. An error of its own leaves open what happened: the lease ends, and the step is unknown, or under
    /// `Retry` the next one's.
    pub async fn execute<T, F>(self, work: impl FnOnce(StepContext) -> F) -> Result<T, Error>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, WorkError>>,
    {
        let grant = match self.begin().await? {
            Claim::Granted(grant) => grant,
            Claim::Ended(Ended { is_failed: true, result }) => return Err(Error::StepFailed(serde_json::from_str(result.get())?)),
            Claim::Ended(Ended { result, .. }) => return Ok(serde_json::from_str(result.get())?),
        };
        let context = StepContext::new(self.run.clone(), &grant, self.terms.lease);
        let over = CancellationToken::new();
        // Also where this future is dropped.
        let _stop = over.clone().drop_guard();
        let beats = tokio::spawn(beat(self.run.clone(), grant.clone(), context.clone(), over.clone()));
        let ended = tokio::select! {
            ended = work(context.clone()) => ended.and_then(|result| Ok(to_raw_value(&result)?)),
            () = context.lost.cancelled() => return Err(context.lost_error()),
        };
        if !matches!(ended, Ok(_) | Err(WorkError::Failed(_))) {
            // No beat may come after what is told now. It ends in panic alone, and then has ended.
            over.cancel();
            let _ = beats.await;
        }
        let result = self.tell(&grant, ended, &context.emitted()).await?;
        Ok(serde_json::from_str(result.get())?)
    }

    /// Claims. Where the outcome is unknown, asks the hook and records what it says.
    async fn begin(&self) -> Result<Claim, Error> {
        if let Some(ended) = self.run.known_end(&self.name, &self.terms)? {
            return Ok(Claim::Ended(ended));
        }
        let (protocol, run) = (&self.run.ledger.protocol, &self.run.name);
        loop {
            let claimed = protocol.claim(run, &self.name, &self.terms, &Uuid::now_v7().to_string()).await;
            let (Err(Error::OutcomeUnknown { fence, .. }), Some(hook)) = (&claimed, &self.hook) else { return claimed };
            let Some(outcome) = hook(protocol.lost(run, &self.name, *fence).await?).await else { return claimed };
            match protocol.resolve(run, &self.name, *fence, &outcome).await {
                // Where another has resolved it meanwhile, the next claim tells.
                Ok(()) | Err(Error::LeaseLost(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Tells the ledger how the work ended.
    async fn tell(&self, grant: &Grant, ended: Result<Box<RawValue>, WorkError>, emit: &[Value]) -> Result<Box<RawValue>, Error> {
        let (protocol, run) = (&self.run.ledger.protocol, &self.run.name);
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
                // Where this is not heard, the lease ends all the same.
                let _ = protocol.release(run, grant).await;
                Err(Error::NotExecuted(why))
            }
            Err(WorkError::Unknown(error)) => {
                // Whoever asks next is not kept waiting for the lease; where this is not heard, they are.
                let _ = protocol.heartbeat(run, grant, ABANDON_LEASE, Some(ABANDON_GIVE_UP)).await;
                Err(Error::Work(error))
            }
        }
    }
}

/// Beats at a third of the lease, until the work is over or the lease is lost.
async fn beat(run: Run, grant: Grant, context: StepContext, over: CancellationToken) {
    let interval = context.lease / 3;
    let mut last = grant.claimed_at;
    loop {
        tokio::select! {
            () = over.cancelled() => return,
            () = tokio::time::sleep(interval.saturating_sub(last.elapsed())) => {}
        }
        last = Instant::now();
        match run.ledger.protocol.heartbeat(&run.name, &grant, context.lease, Some(interval)).await {
            Ok(()) => context.extended(last),
            Err(Error::LeaseLost(_)) => return context.lost.cancel(),
            // The next beat may get through.
            Err(_) => {}
        }
    }
}

/// What the work gets to know: pass `effect_key` on to whoever is to do something, as their Idempotency-Key.
#[derive(Clone)]
pub struct StepContext {
    pub run: Run,
    pub step: String,
    pub fence: i64,
    pub attempt: i32,
    /// Stable over all attempts at the step.
    pub effect_key: String,
    lease: Duration,
    lost: CancellationToken,
    heartbeats: Arc<AtomicU64>,
    leased_from: Arc<Mutex<Instant>>,
    emitted: Arc<Mutex<Vec<Value>>>,
}

impl StepContext {
    fn new(run: Run, grant: &Grant, lease: Duration) -> Self {
        Self {
            run,
            step: grant.step.clone(),
            fence: grant.fence,
            attempt: grant.attempt,
            effect_key: grant.effect_key.clone(),
            lease,
            lost: CancellationToken::new(),
            heartbeats: Arc::default(),
            leased_from: Arc::new(Mutex::new(grant.claimed_at)),
            emitted: Arc::default(),
        }
    }

    /// `LeaseLost` where the step is lost, or its lease has run out unextended: ask just before an effect.
    pub fn check(&self) -> Result<(), Error> {
        let leased_from = *self.leased_from.lock().unwrap_or_else(PoisonError::into_inner);
        if self.lost.is_cancelled() || leased_from.elapsed() > self.lease { Err(self.lost_error()) } else { Ok(()) }
    }

    /// How often the lease was extended.
    pub fn heartbeats(&self) -> u64 {
        self.heartbeats.load(Ordering::Relaxed)
    }

    /// An event that is written with the result, in one statement, and relayed like received ones.
    pub fn emit(&self, event_type: &str, data: &impl Serialize) -> Result<(), Error> {
        let event = json!({ "type": event_type, "data": serde_json::to_value(data)? });
        self.emitted.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        Ok(())
    }

    fn emitted(&self) -> Vec<Value> {
        self.emitted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn extended(&self, sent: Instant) {
        *self.leased_from.lock().unwrap_or_else(PoisonError::into_inner) = sent;
        self.heartbeats.fetch_add(1, Ordering::Relaxed);
    }

    fn lost_error(&self) -> Error {
        Error::LeaseLost(format!("step {:?}, fence {}", self.step, self.fence))
    }
}
