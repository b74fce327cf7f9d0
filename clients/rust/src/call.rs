//! Tool calls by what they are: the step is the tool and its arguments within the run, so that a
//! model that plans a call twice does it once. Executing a step is `execute`'s business.

use std::{future::Future, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Number, Value};
use sha2::{Digest as _, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    claim::{Claim, Ended, LostStep, OnLost, Outcome},
    context::StepContext,
    error::{Error, WorkError},
    execute::{Step, StepOutcome, replayed},
    occurrences::Taken,
    run::Run,
};

const TOOL_BYTES_MAX: usize = 150;
const OCCURRENCES_MAX: u32 = 10_000;

/// What a call means that was made before, in this run, of the same tool with the same arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repeat {
    /// It is the same call: the first one's result is its result.
    #[default]
    Once,
    /// It is refused, with what the first one did: [`Error::RepeatRefused`].
    Ask,
    /// It is wanted: the n-th call through this [`Run`] is the n-th occurrence, so that the same plan
    /// meets the same steps after a restart. A call that has come to no end is made again under its
    /// own number.
    Numbered,
    /// It is the same call while the first one ended less than this ago, by the database's clock;
    /// after that it is another.
    After(Duration),
}

/// The name of the step that a call is: `call:`, the tool, and in hex the SHA-256 of the arguments'
/// canonical JSON (RFC 8785). `occurrence`, from 2, is behind it after a `#`. All clients make the
/// same name.
///
/// ```
/// let step = hookonce_client::step_of_call("charge", &serde_json::json!({ "amount": 500.0, "customer": "cus_1" }), 2)?;
/// assert_eq!(step, "call:charge:08c36bbe871cce0aa38bcc0705d73aba738c37f6277bf785bb4488dd4433c368#2");
/// # Ok::<(), hookonce_client::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Json`] if the arguments can't be written as JSON. [`Error::Invalid`] for a tool's name
/// that is empty, longer than 150 bytes or has control characters, and for integers that a double
/// does not hold exactly: RFC 8785 would make one call of two.
pub fn step_of_call(
    tool: &str,
    arguments: &impl Serialize,
    occurrence: u32,
) -> Result<String, Error> {
    if tool.is_empty() || tool.len() > TOOL_BYTES_MAX || tool.chars().any(char::is_control) {
        return Err(Error::Invalid(format!(
            "{tool:?} can't be a tool's name: 1 to {TOOL_BYTES_MAX} bytes without control characters"
        )));
    }
    let arguments = serde_json::to_value(arguments)?;
    check_numbers(&arguments)?;
    let canonical = serde_json_canonicalizer::to_vec(&arguments)?;
    let digest = hex::encode(Sha256::digest(canonical));
    Ok(match occurrence {
        0 | 1 => format!("call:{tool}:{digest}"),
        n => format!("call:{tool}:{digest}#{n}"),
    })
}

fn check_numbers(value: &Value) -> Result<(), Error> {
    match value {
        Value::Number(number) if !is_exact(number) => Err(Error::Invalid(format!(
            "{number} is larger than JSON's numbers are exact (RFC 8785, section 3.2.2.3): write it as text"
        ))),
        Value::Array(items) => items.iter().try_for_each(check_numbers),
        Value::Object(members) => members.values().try_for_each(check_numbers),
        _ => Ok(()),
    }
}

/// Whether a double holds the number as it is.
fn is_exact(number: &Number) -> bool {
    let wide = number
        .as_u64()
        .map(i128::from)
        .or_else(|| number.as_i64().map(i128::from));
    wide.is_none_or(|integer| (integer as f64) as i128 == integer)
}

impl Run {
    /// A call of a tool, which is a step of the run by what it is: the tool's name, of 1 to 150
    /// bytes, and its arguments. The service is not asked before [`Call::execute`].
    ///
    /// # Errors
    ///
    /// Those of [`step_of_call`].
    pub fn call(
        &self,
        tool: &str,
        arguments: &impl Serialize,
        repeat: Repeat,
    ) -> Result<Call, Error> {
        let name = step_of_call(tool, arguments, 1)?;
        Ok(Call {
            run: self.clone(),
            tool: tool.to_owned(),
            arguments: serde_json::to_value(arguments)?,
            repeat,
            step: self.step(&name),
            name,
        })
    }
}

/// A call of a tool, and how it is to be executed.
#[must_use = "it does nothing until executed"]
pub struct Call {
    run: Run,
    tool: String,
    arguments: Value,
    repeat: Repeat,
    /// The first occurrence's.
    name: String,
    step: Step,
}

impl Call {
    /// See [`Step::lease`].
    pub fn lease(mut self, lease: Duration) -> Self {
        self.step = self.step.lease(lease);
        self
    }

    /// See [`Step::on_lost`].
    pub fn on_lost(mut self, on_lost: OnLost) -> Self {
        self.step = self.step.on_lost(on_lost);
        self
    }

    /// See [`Step::wait`].
    pub fn wait(mut self, wait: Duration) -> Self {
        self.step = self.step.wait(wait);
        self
    }

    /// See [`Step::reconcile`].
    pub fn reconcile<F>(mut self, hook: impl Fn(LostStep) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<Outcome>> + Send + 'static,
    {
        self.step = self.step.reconcile(hook);
        self
    }

    /// Executes the call, or gives the result that it had before, as [`Repeat`] says. Of a replay,
    /// [`StepOutcome::message`] is what to tell the model.
    ///
    /// # Errors
    ///
    /// [`Error::RepeatRefused`] under [`Repeat::Ask`], and those of [`Step::execute`].
    pub async fn execute<T, F>(
        mut self,
        work: impl FnOnce(StepContext) -> F,
    ) -> Result<StepOutcome<T>, Error>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, WorkError>>,
    {
        // Every call counts as one, however its repeats are taken.
        let mut taken = Taken::of(&self.run.occurrences, &self.name);
        let ended = match self.repeat {
            Repeat::Once => self.first(work, false).await,
            Repeat::Ask => self.first(work, true).await,
            Repeat::Numbered => {
                self.step.name = self.occurrence(taken.number);
                self.first(work, false).await
            }
            Repeat::After(time) => self.after(time, work).await,
        };
        taken.has_ended = matches!(
            ended,
            Ok(_)
                | Err(Error::StepFailed(_)
                    | Error::ResultNotKept { .. }
                    | Error::RepeatRefused { .. })
        );
        ended
    }

    async fn first<T, F>(
        &self,
        work: impl FnOnce(StepContext) -> F,
        asks: bool,
    ) -> Result<StepOutcome<T>, Error>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, WorkError>>,
    {
        match self.step.begin().await? {
            Claim::Granted(grant) => self.step.perform(grant, work).await,
            Claim::Ended(ended) if asks && !ended.is_failed => Err(self.refusal(&ended)?),
            Claim::Ended(ended) => replayed(ended, "call"),
        }
    }

    fn refusal(&self, ended: &Ended) -> Result<Error, Error> {
        let done = ended.message("call");
        Ok(Error::RepeatRefused {
            tool: self.tool.clone(),
            arguments: self.arguments.clone(),
            result: serde_json::from_str(ended.result.get())?,
            ended_at: ended.ended_at.clone(),
            owner: ended.owner.clone(),
            message: format!(
                "{done} To take that result, call again with repeat \"once\"; to do it again, with \"numbered\"."
            ),
        })
    }

    async fn after<T, F>(
        &mut self,
        time: Duration,
        work: impl FnOnce(StepContext) -> F,
    ) -> Result<StepOutcome<T>, Error>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, WorkError>>,
    {
        for occurrence in 1..=OCCURRENCES_MAX {
            self.step.name = self.occurrence(occurrence);
            match self.step.begin().await? {
                Claim::Granted(grant) => return self.step.perform(grant, work).await,
                Claim::Ended(ended) if age(&ended)? < time => return replayed(ended, "call"),
                Claim::Ended(_) => {}
            }
        }
        Err(Error::Invalid(format!(
            "{} was called {OCCURRENCES_MAX} times with these arguments in one run",
            self.tool
        )))
    }

    fn occurrence(&self, number: u32) -> String {
        match number {
            0 | 1 => self.name.clone(),
            n => format!("{}#{n}", self.name),
        }
    }
}

/// How long before its answer the step had ended, by the database's clock.
fn age(ended: &Ended) -> Result<Duration, Error> {
    let time = |text: &Option<String>| {
        let text = text.as_deref().unwrap_or_default();
        OffsetDateTime::parse(text, &Rfc3339).map_err(|error| {
            Error::Invalid(format!(
                "the service gave no time of the step's end: {error}"
            ))
        })
    };
    let age = time(&ended.replayed_at)? - time(&ended.ended_at)?;
    Ok(age.try_into().unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tools_and_numbers_that_can_t_be_named_are_refused() {
        let long = "t".repeat(TOOL_BYTES_MAX + 1);
        for tool in ["", "a\nb", &long] {
            assert!(matches!(
                step_of_call(tool, &json!({}), 1),
                Err(Error::Invalid(_))
            ));
        }
        assert!(
            step_of_call(&long[1..], &json!({}), OCCURRENCES_MAX)
                .unwrap()
                .len()
                <= 255
        );
        let number = |number: u64| step_of_call("t", &json!([{ "n": number }]), 1);
        assert!(number(1 << 53).is_ok() && number(1 << 63).is_ok());
        assert!(
            matches!(number((1 << 53) + 1), Err(Error::Invalid(why)) if why.contains("9007199254740993"))
        );
        assert!(number(u64::MAX).is_err());
    }

    #[test]
    fn the_age_of_an_end_is_by_the_services_clock() {
        let ended = |ended_at: &str, replayed_at: &str| Ended {
            is_failed: false,
            result: serde_json::value::to_raw_value(&1).unwrap(),
            not_kept: None,
            ended_at: Some(ended_at.into()),
            owner: None,
            replayed_at: Some(replayed_at.into()),
        };
        let age_of = |from: &str, to: &str| age(&ended(from, to));
        assert_eq!(
            age_of("2026-11-27T10:00:00Z", "2026-11-27T12:00:00.25+01:00").unwrap(),
            Duration::from_millis(3_600_250)
        );
        assert_eq!(
            age_of("2026-11-27T10:00:01Z", "2026-11-27T10:00:00Z").unwrap(),
            Duration::ZERO
        );
        assert!(age_of("", "2026-11-27T10:00:00Z").is_err());
    }
}
