//! What the work of a step gets to know while it runs.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{claim::Grant, error::Error, run::Run};

const NAME_BYTES_MAX: usize = 255;

/// The claim that the work runs under. Clones are of the same claim.
#[derive(Clone)]
pub struct StepContext {
    /// The step's run, for further steps.
    pub run: Run,
    /// The step's name.
    pub step: String,
    /// What this attempt is called.
    pub claim_id: String,
    /// The claim's fence.
    pub fence: i64,
    /// How many executions were begun, this one included.
    pub attempt: i32,
    /// The same for all attempts at the step. Pass it on, as the Idempotency-Key, to the service
    /// that does the effect.
    pub effect_key: String,
    pub(crate) lease: Duration,
    pub(crate) lost: CancellationToken,
    heartbeats: Arc<AtomicU64>,
    leased_from: Arc<Mutex<Instant>>,
    emitted: Arc<Mutex<Vec<Value>>>,
}

impl StepContext {
    pub(crate) fn new(run: Run, grant: &Grant, lease: Duration) -> Self {
        Self {
            run,
            step: grant.step.clone(),
            claim_id: grant.claim_id.clone(),
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

    /// Whether the step is still this claim's. Call it just before an effect.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`] if another claim has the step, or if the lease is over and was not
    /// extended.
    pub fn check(&self) -> Result<(), Error> {
        let leased_from = *self
            .leased_from
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if self.lost.is_cancelled() || leased_from.elapsed() > self.lease {
            Err(self.lost_error())
        } else {
            Ok(())
        }
    }

    /// How often the lease was extended.
    pub fn heartbeats(&self) -> u64 {
        self.heartbeats.load(Ordering::Relaxed)
    }

    /// An event that is recorded with the step's end, in one statement, and relayed like received
    /// ones. Its key is `run/step/number` (`docs/idempotency.md`). What is wrong with it is said
    /// here, while nothing is recorded yet.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] if the data can't be written as JSON, [`Error::Invalid`] for a type that the
    /// service would not take.
    pub fn emit(&self, event_type: &str, data: &impl Serialize) -> Result<(), Error> {
        let is_short = (1..=NAME_BYTES_MAX).contains(&event_type.len());
        if !is_short || event_type.chars().any(char::is_control) {
            return Err(Error::Invalid(format!(
                "{event_type:?} can't be an event's type: 1 to {NAME_BYTES_MAX} bytes without control characters"
            )));
        }
        let event = json!({ "type": event_type, "data": serde_json::to_value(data)? });
        self.emitted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(event);
        Ok(())
    }

    pub(crate) fn emitted(&self) -> Vec<Value> {
        self.emitted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A heartbeat that was sent at this moment has extended the lease.
    pub(crate) fn extended(&self, sent: Instant) {
        *self
            .leased_from
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = sent;
        self.heartbeats.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lost_error(&self) -> Error {
        Error::LeaseLost(format!("step {:?}, fence {}", self.step, self.fence))
    }
}
