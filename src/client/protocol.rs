//! The ledger's calls over HTTP, each sent again as it was until it has an answer.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::error::Error;

const BACKOFF_BASE: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How long one call may take: the server's own `call_timeout`, and some.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long one claim waits at the server before it is sent again: proxies cut longer ones off.
const WAIT_MAX: Duration = Duration::from_secs(20);
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What becomes of a step whose holder was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLost {
    /// Nobody gets it until somebody says what happened.
    #[default]
    Hold,
    /// The next one gets it, with the same effect key.
    Retry,
}

/// The right to execute a step, as long as nobody has a higher fence.
#[derive(Clone, Debug)]
pub struct Grant {
    pub step: String,
    pub fence: i64,
    pub attempt: i32,
    /// Stable over all attempts: pass it on as the Idempotency-Key.
    pub effect_key: String,
    /// When the claim was sent: the lease has begun after it.
    pub claimed_at: Instant,
}

/// A step that needs no execution.
#[derive(Clone, Debug)]
pub struct Ended {
    pub is_failed: bool,
    /// As it was recorded, byte for byte; of a failed step its error.
    pub result: Box<RawValue>,
}

#[derive(Clone, Debug)]
pub enum Claim {
    Granted(Grant),
    Ended(Ended),
}

/// What a reconcile hook is asked about: what happened to the effect with this key?
#[derive(Clone, Debug, Deserialize)]
pub struct LostStep {
    pub run: String,
    pub step: String,
    pub fence: i64,
    pub attempt: i32,
    pub effect_key: String,
    pub owner: Option<String>,
    /// RFC 3339.
    pub claimed_at: String,
}

/// What became of a lost step, with the evidence: any JSON that says how you know.
#[derive(Clone, Debug)]
pub enum Outcome {
    Done { result: Value, evidence: Value },
    Failed { error: Value, evidence: Value },
    NotExecuted { evidence: Value },
}

impl Outcome {
    pub fn done(result: &impl Serialize, evidence: impl Into<Value>) -> Result<Self, Error> {
        Ok(Self::Done { result: serde_json::to_value(result)?, evidence: evidence.into() })
    }

    pub fn not_executed(evidence: impl Into<Value>) -> Self {
        Self::NotExecuted { evidence: evidence.into() }
    }
}

/// A step as it is in the ledger.
#[derive(Clone, Debug, Deserialize)]
pub struct StepState {
    pub step: String,
    /// `running`, `done`, `failed`, `released` or `unknown`.
    pub status: String,
    pub result: Option<Box<RawValue>>,
    pub fence: i64,
    pub attempt: i32,
    pub effect_key: String,
    pub owner: Option<String>,
    pub input_hash: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Terms {
    pub lease: Duration,
    pub on_lost: OnLost,
    pub wait: Duration,
    pub input_hash: Option<String>,
}

/// SHA-256 of the input's compact JSON with sorted keys; the same in all clients, as long as its numbers are integers.
pub fn input_hash(input: &impl Serialize) -> Result<String, Error> {
    // A value's objects are sorted maps.
    let text = serde_json::to_value(input)?.to_string();
    Ok(format!("sha256:{}", hex::encode(Sha256::digest(text))))
}

struct Call {
    method: Method,
    path: String,
    body: Option<String>,
    answer_timeout: Duration,
    give_up: Option<Duration>,
}

impl Call {
    fn get(path: String) -> Self {
        Self { method: Method::GET, path, body: None, answer_timeout: ANSWER_TIMEOUT, give_up: None }
    }

    fn post(path: String, body: &impl Serialize) -> Result<Self, Error> {
        Ok(Self { method: Method::POST, body: Some(serde_json::to_string(body)?), ..Self::get(path) })
    }
}

struct Reply {
    status: u16,
    retry_after_seconds: Option<u64>,
    text: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The end of a problem's type; empty where it is none.
    fn kind(&self) -> String {
        let json = if self.status >= 400 { self.json() } else { Value::Null };
        json["type"].as_str().and_then(|kind| kind.rsplit(':').next()).unwrap_or_default().to_owned()
    }

    fn problem(&self, run: &str, step: &str) -> Error {
        let json = self.json();
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        let detail = text("detail").unwrap_or_default();
        match self.kind().as_str() {
            "step-running" => Error::StepRunning {
                step: step.to_owned(),
                owner: text("owner"),
                retry_after_seconds: self.retry_after_seconds.unwrap_or(1),
            },
            "outcome-unknown" => {
                Error::OutcomeUnknown { run: run.to_owned(), step: step.to_owned(), fence: json["fence"].as_i64().unwrap_or_default() }
            }
            "key-leased" => Error::KeyLeased { key: step.to_owned(), retry_after_seconds: self.retry_after_seconds.unwrap_or(1) },
            "input-changed" => Error::InputChanged(step.to_owned()),
            "stale-fence" => Error::LeaseLost(detail),
            kind => Error::Refused { status: self.status, kind: kind.to_owned(), detail },
        }
    }
}

/// A name as one segment of a path. A URL can't carry "." and "..", however they are written.
fn segment(name: &str) -> Result<String, Error> {
    if matches!(name, "." | "..") {
        return Err(Error::Invalid(format!("{name:?} can't be a name: URLs drop it")));
    }
    Ok(utf8_percent_encode(name, UNRESERVED).to_string())
}

fn step_path(run: &str, step: &str) -> Result<String, Error> {
    Ok(format!("/runs/{}/steps/{}", segment(run)?, segment(step)?))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// How the calls are sent.
pub struct Protocol {
    pub http: reqwest::Client,
    /// With `/v1`, without a slash at its end.
    pub base: String,
    pub token: String,
    pub owner: String,
    pub give_up: Duration,
}

impl Protocol {
    /// Sends one call until it has an answer: always the same, so that it is done once however often it arrives.
    async fn ask(&self, call: Call) -> Result<Reply, Error> {
        let until = Instant::now() + call.give_up.unwrap_or(self.give_up);
        let mut ceiling = BACKOFF_BASE;
        loop {
            let (wait, why) = match self.send(&call).await {
                Ok(reply) if !matches!(reply.status, 429 | 502 | 503 | 504) => return Ok(reply),
                Ok(reply) => {
                    (Duration::from_secs(reply.retry_after_seconds.unwrap_or_default()), format!("{} {}", reply.status, reply.kind()))
                }
                Err(error) => (Duration::ZERO, error.to_string()),
            };
            let wait = wait.max(ceiling.mul_f64(rand::random()));
            if Instant::now() + wait > until {
                return Err(Error::Unavailable(why));
            }
            tokio::time::sleep(wait).await;
            ceiling = BACKOFF_MAX.min(ceiling * 2);
        }
    }

    async fn send(&self, call: &Call) -> Result<Reply, reqwest::Error> {
        let url = format!("{}{}", self.base, call.path);
        let mut request = self.http.request(call.method.clone(), url).timeout(call.answer_timeout).bearer_auth(&self.token);
        if let Some(body) = &call.body {
            request = request.header("content-type", "application/json").body(body.clone());
        }
        let response = request.send().await?;
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after_seconds = retry_after.and_then(|value| value.parse().ok());
        Ok(Reply { status: response.status().as_u16(), retry_after_seconds, text: response.text().await? })
    }

    pub async fn claim(&self, run: &str, step: &str, terms: &Terms, claim_id: &str) -> Result<Claim, Error> {
        #[derive(Deserialize)]
        struct Granted {
            fence: i64,
            attempt: i32,
            effect_key: String,
        }
        #[derive(Deserialize)]
        struct Done {
            status: String,
            result: Box<RawValue>,
        }
        let until = Instant::now() + terms.wait;
        loop {
            let claimed_at = Instant::now();
            let wait = until.saturating_duration_since(claimed_at).min(WAIT_MAX);
            let mut body = json!({
                "claim_id": claim_id,
                "owner": self.owner,
                "lease_ms": milliseconds(terms.lease),
                "on_lost": terms.on_lost,
                "wait_ms": u64::try_from(wait.as_millis()).unwrap_or_default(),
            });
            if let Some(hash) = &terms.input_hash {
                body["input_hash"] = hash.as_str().into();
            }
            let call = Call::post(format!("{}/claim", step_path(run, step)?), &body)?;
            let reply = self.ask(Call { answer_timeout: ANSWER_TIMEOUT + wait, ..call }).await?;
            if reply.status == 201 {
                let Granted { fence, attempt, effect_key } = serde_json::from_str(&reply.text)?;
                return Ok(Claim::Granted(Grant { step: step.to_owned(), fence, attempt, effect_key, claimed_at }));
            }
            if reply.status == 200 {
                let Done { status, result } = serde_json::from_str(&reply.text)?;
                return Ok(Claim::Ended(Ended { is_failed: status == "failed", result }));
            }
            let left = until.saturating_duration_since(Instant::now());
            if reply.kind() != "step-running" || left.is_zero() {
                return Err(reply.problem(run, step));
            }
            if claimed_at.elapsed() < wait / 2 {
                // It did not let us wait: too many do.
                tokio::time::sleep(left.min(Duration::from_secs(reply.retry_after_seconds.unwrap_or(1)))).await;
            }
        }
    }

    /// One of the calls that change a step.
    async fn change(&self, run: &str, step: &str, action: &str, body: &impl Serialize, give_up: Option<Duration>) -> Result<(), Error> {
        let call = Call::post(format!("{}/{action}", step_path(run, step)?), body)?;
        let reply = self.ask(Call { give_up, ..call }).await?;
        if reply.status == 200 { Ok(()) } else { Err(reply.problem(run, step)) }
    }

    pub async fn heartbeat(&self, run: &str, grant: &Grant, lease: Duration, give_up: Option<Duration>) -> Result<(), Error> {
        let body = json!({ "fence": grant.fence, "lease_ms": milliseconds(lease) });
        self.change(run, &grant.step, "heartbeat", &body, give_up).await
    }

    pub async fn complete(&self, run: &str, grant: &Grant, result: &RawValue, emit: &[Value]) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Complete<'a> {
            fence: i64,
            result: &'a RawValue,
            emit: &'a [Value],
        }
        self.change(run, &grant.step, "complete", &Complete { fence: grant.fence, result, emit }, None).await
    }

    pub async fn fail(&self, run: &str, grant: &Grant, error: &Value, emit: &[Value]) -> Result<(), Error> {
        // An error of null would read as none.
        let error = if error.is_null() { json!("failed") } else { error.clone() };
        self.change(run, &grant.step, "complete", &json!({ "fence": grant.fence, "error": error, "emit": emit }), None).await
    }

    pub async fn release(&self, run: &str, grant: &Grant) -> Result<(), Error> {
        self.change(run, &grant.step, "release", &json!({ "fence": grant.fence }), None).await
    }

    pub async fn resolve(&self, run: &str, step: &str, fence: i64, outcome: &Outcome) -> Result<(), Error> {
        let (word, result, evidence) = match outcome {
            Outcome::Done { result, evidence } => ("done", Some(result), evidence),
            Outcome::Failed { error, evidence } => ("failed", Some(error), evidence),
            Outcome::NotExecuted { evidence } => ("not-executed", None, evidence),
        };
        let mut body = json!({ "expected_fence": fence, "outcome": word, "evidence": evidence });
        if let Some(result) = result {
            body["result"] = result.clone();
        }
        self.change(run, step, "resolve", &body, None).await
    }

    pub async fn lost(&self, run: &str, step: &str, fence: i64) -> Result<LostStep, Error> {
        let reply = self.ask(Call::get(step_path(run, step)?)).await?;
        if reply.status != 200 {
            return Err(reply.problem(run, step));
        }
        Ok(LostStep { fence, ..serde_json::from_str(&reply.text)? })
    }

    pub async fn resume(&self, run: &str) -> Result<BTreeMap<String, StepState>, Error> {
        #[derive(Deserialize)]
        struct Page {
            items: Vec<StepState>,
            next: Option<String>,
        }
        let path = format!("/runs/{}/steps", segment(run)?);
        let mut found = BTreeMap::new();
        let mut query = String::new();
        loop {
            let reply = self.ask(Call::get(format!("{path}{query}"))).await?;
            if reply.status != 200 {
                return Err(reply.problem(run, ""));
            }
            let page: Page = serde_json::from_str(&reply.text)?;
            found.extend(page.items.into_iter().map(|state| (state.step.clone(), state)));
            match page.next {
                Some(next) => query = format!("?cursor={next}"),
                None => return Ok(found),
            }
        }
    }

    /// The fence where the key is new (0 without a lease), `None` where it was seen.
    pub async fn mark(&self, scope: &str, key: &str, window: Duration, lease: Option<Duration>) -> Result<Option<i64>, Error> {
        // A lost answer must not make our own repeat "seen".
        let mut body = json!({ "key": key, "window": format!("{}ms", milliseconds(window)), "claim_id": Uuid::now_v7() });
        if let Some(lease) = lease {
            body["lease_ms"] = milliseconds(lease).into();
        }
        let reply = self.ask(Call::post(format!("/dedup/{}", segment(scope)?), &body)?).await?;
        if reply.status != 200 {
            return Err(reply.problem(scope, key));
        }
        let json = reply.json();
        Ok((json["status"] == "first").then(|| json["fence"].as_i64().unwrap_or_default()))
    }

    pub async fn mark_done(&self, scope: &str, key: &str, fence: i64) -> Result<(), Error> {
        let path = format!("/dedup/{}/done", segment(scope)?);
        let reply = self.ask(Call::post(path, &json!({ "key": key, "fence": fence }))?).await?;
        if reply.status == 200 { Ok(()) } else { Err(reply.problem(scope, key)) }
    }
}
