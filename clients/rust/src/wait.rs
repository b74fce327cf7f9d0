//! Steps that wait for a webhook: an approval, a payment, a job's callback.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    error::Error,
    protocol::{Arrival, WAIT_MAX},
    run::Run,
};

/// How long to wait before asking again where the service did not let the call wait.
const PAUSE: Duration = Duration::from_secs(1);

/// The event that a step waits for: the first of its source that fits.
#[derive(Clone, Debug)]
#[must_use = "it is nothing until waited for"]
pub struct Awaited {
    step: Option<String>,
    source: String,
    terms: serde_json::Map<String, Value>,
}

impl Awaited {
    /// An event of this source. At least one of type, key and value has to be given.
    pub fn from(source: &str) -> Self {
        Self {
            step: None,
            source: source.to_owned(),
            terms: serde_json::Map::new(),
        }
    }

    /// Of this type.
    pub fn event_type(self, event_type: &str) -> Self {
        self.with("type", event_type.into())
    }

    /// With this event key.
    pub fn key(self, key: &str) -> Self {
        self.with("key", key.into())
    }

    /// With this value at a place: `body:/data/object/id` is a JSON pointer (RFC 6901) into the
    /// body.
    pub fn value(self, place: &str, value: &str) -> Self {
        self.with("match", json!({ "place": place, "value": value }))
    }

    /// The step's name, 1 to 255 bytes. Default: one made of what is waited for, so that a run waits
    /// for it once.
    pub fn step(mut self, name: &str) -> Self {
        self.step = Some(name.to_owned());
        self
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.terms.insert(name.to_owned(), value);
        self
    }

    fn name(&self) -> Result<String, Error> {
        if let Some(name) = &self.step {
            return Ok(name.clone());
        }
        let digest = Sha256::digest(serde_json_canonicalizer::to_vec(&self.terms)?);
        Ok(format!("wait:{}:{}", self.source, hex::encode(digest)))
    }
}

/// An event that a step has waited for.
#[derive(Clone, Debug, Deserialize)]
pub struct Arrived {
    /// The event's id.
    pub event: String,
    /// The source that received it.
    pub source: String,
    /// The provider's type of event, if it has one.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// What makes two requests of the source one event.
    pub key: String,
    /// When it came, as RFC 3339 writes it.
    pub received_at: String,
    /// The body's JSON; `{"base64": …}` for a body that is none.
    pub body: Value,
}

impl Run {
    /// Waits for an event, which ends the step: also one that came before, within its retention. The
    /// same event is given to whoever asks again, after any restart. The time counts from the first
    /// call. `None`: it was over before the event came, and stays so.
    ///
    /// # Errors
    ///
    /// Those of all calls; see [`Run`].
    pub async fn wait_for(
        &self,
        awaited: &Awaited,
        timeout: Duration,
    ) -> Result<Option<Arrived>, Error> {
        let step = awaited.name()?;
        let mut body = Value::Object(awaited.terms.clone());
        body["source"] = awaited.source.as_str().into();
        body["timeout_ms"] = milliseconds(timeout).into();
        body["wait_ms"] = milliseconds(WAIT_MAX).into();
        loop {
            let asked = std::time::Instant::now();
            let arrival = self
                .protocol()
                .wait(self.name(), &step, &body, WAIT_MAX)
                .await?;
            match arrival {
                Some(Arrival { status, result }) if status == "done" => {
                    return Ok(Some(serde_json::from_value(result)?));
                }
                Some(Arrival { result, .. }) if result["error"] == "timed-out" => return Ok(None),
                Some(Arrival { result, .. }) => return Err(Error::StepFailed(result)),
                None if asked.elapsed() < PAUSE => tokio::time::sleep(PAUSE).await,
                None => {}
            }
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
