//! Runs: what is known of their steps, and the single calls about a step.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;
use serde_json::{Value, value::to_raw_value};

use crate::{
    claim::{Ended, Grant, NotKept, Outcome, StepState, Terms},
    error::Error,
    ledger::Ledger,
    occurrences::Occurrences,
    protocol::Protocol,
};

impl Ledger {
    /// The run of this name, 1 to 255 bytes. The service is not asked.
    pub fn run(&self, name: &str) -> Run {
        Run {
            ledger: self.clone(),
            name: name.into(),
            known: Arc::default(),
            occurrences: Arc::default(),
        }
    }
}

/// A set of named steps that are executed once each. Clones share what [`Run::resume`] has read.
///
/// [`Run::step`] and [`Step::execute`](crate::Step::execute) do everything that a step needs. The
/// single calls, [`Run::claim`] and those that take a [`Grant`], are for code that executes in some
/// other way. All of them fail with [`Error::Unavailable`] after the ledger's time to give up, with
/// [`Error::Refused`] if the token, a name or a size is wrong, and with [`Error::Invalid`] if the
/// name of the run or the step is "." or "..".
#[derive(Clone)]
pub struct Run {
    ledger: Ledger,
    name: Arc<str>,
    /// The steps that have ended.
    known: Arc<Mutex<BTreeMap<String, StepState>>>,
    /// Which occurrences of each call were made through this run and its clones.
    pub(crate) occurrences: Occurrences,
}

impl Run {
    pub(crate) fn protocol(&self) -> &Protocol {
        &self.ledger.protocol
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Reads all steps of the run, by name. Those that have ended are then skipped without asking.
    ///
    /// # Errors
    ///
    /// Those of all calls; see [`Run`].
    pub async fn resume(&self) -> Result<BTreeMap<String, StepState>, Error> {
        let found = self.protocol().resume(&self.name).await?;
        let ended = found
            .iter()
            .filter(|(_, state)| matches!(state.status.as_str(), "done" | "failed"));
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = ended
            .map(|(name, state)| (name.clone(), state.clone()))
            .collect();
        Ok(found)
    }

    /// The end of a step, if [`Run::resume`] has read it.
    pub(crate) fn known_end(&self, step: &str, terms: &Terms) -> Result<Option<Ended>, Error> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(state) = known.get(step) else {
            return Ok(None);
        };
        if state.input_hash.is_some()
            && terms.input_hash.is_some()
            && state.input_hash != terms.input_hash
        {
            return Err(Error::InputChanged(step.to_owned()));
        }
        let result = state
            .result
            .clone()
            .map_or_else(|| to_raw_value(&Value::Null), Ok)?;
        Ok(Some(Ended {
            is_failed: state.status == "failed",
            result,
            not_kept: state.not_kept.clone(),
            ended_at: state.ended_at.clone(),
            owner: state.owner.clone(),
            replayed_at: None,
        }))
    }

    /// Extends the lease: it ends `lease` from now.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`] if the step is no longer this grant's, and those of all calls.
    pub async fn heartbeat(&self, grant: &Grant, lease: Duration) -> Result<(), Error> {
        self.protocol()
            .heartbeat(&self.name, grant, lease, None)
            .await
    }

    /// Records the result: the step is done, also if the result is too large to be kept. Then the
    /// answer says why.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`] if the step is no longer this grant's, [`Error::Json`] if the result
    /// can't be written as JSON, and those of all calls.
    pub async fn complete(
        &self,
        grant: &Grant,
        result: &impl Serialize,
    ) -> Result<Option<NotKept>, Error> {
        self.protocol()
            .complete(&self.name, grant, &to_raw_value(result)?, &[])
            .await
    }

    /// Records an error: the step has failed for good.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`] if the step is no longer this grant's, and those of all calls.
    pub async fn fail(&self, grant: &Grant, error: &Value) -> Result<(), Error> {
        self.protocol().fail(&self.name, grant, error, &[]).await
    }

    /// Gives the step back, because nothing was executed: the next claim gets it.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`] if the step is no longer this grant's, and those of all calls.
    pub async fn release(&self, grant: &Grant) -> Result<(), Error> {
        self.protocol().release(&self.name, grant).await
    }

    /// Says that the holder stops without knowing the outcome, and why: any JSON, up to 64 KiB. Under
    /// [`OnLost::Hold`](crate::OnLost::Hold) the step is unknown from now on, and that is its
    /// evidence; under [`OnLost::Retry`](crate::OnLost::Retry) the next claim gets it at once.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`] if the step is no longer this grant's, and those of all calls.
    pub async fn abandon(&self, grant: &Grant, error: &Value) -> Result<(), Error> {
        self.protocol().abandon(&self.name, grant, error).await
    }

    /// Says what became of a step whose outcome is unknown. `fence` is that of
    /// [`Error::OutcomeUnknown`].
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`] if the step has another fence, or was resolved already, and those of
    /// all calls.
    pub async fn resolve(&self, step: &str, fence: i64, outcome: &Outcome) -> Result<(), Error> {
        self.protocol()
            .resolve(&self.name, step, fence, outcome)
            .await
    }
}
