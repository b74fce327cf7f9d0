//! The ledger's calls, one function each (`docs/idempotency.md` and the service's OpenAPI
//! document). How a call is sent again is the transport's business.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use crate::{
    claim::{Claim, Ended, Grant, LostStep, NotKept, Outcome, StepState, Terms, new_claim_id},
    error::Error,
    transport::{Call, Transport, segment},
};

/// How long one claim waits at the service before it is sent again: proxies cut longer calls off.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(20);
/// How long a holder that stops tries to say so. If it is not heard, its lease ends all the same.
const ABANDON_GIVE_UP: Duration = Duration::from_secs(5);

fn step_path(run: &str, step: &str) -> Result<String, Error> {
    Ok(format!("/runs/{}/steps/{}", segment(run)?, segment(step)?))
}

fn null() -> Result<Box<RawValue>, serde_json::Error> {
    to_raw_value(&Value::Null)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

/// The end of a wait for an event.
#[derive(Deserialize)]
pub(crate) struct Arrival {
    pub(crate) status: String,
    pub(crate) result: Value,
}

/// The calls, as one owner.
pub(crate) struct Protocol {
    pub(crate) transport: Arc<Transport>,
    /// What this process calls itself.
    pub(crate) owner: String,
}

impl Protocol {
    /// Claims a step. `claim_id` names this attempt: the same id gets the same grant again.
    pub(crate) async fn claim(
        &self,
        run: &str,
        step: &str,
        terms: &Terms,
        claim_id: &str,
    ) -> Result<Claim, Error> {
        #[derive(Deserialize)]
        struct Granted {
            fence: i64,
            attempt: i32,
            effect_key: String,
        }
        #[derive(Deserialize)]
        struct Done {
            status: String,
            result: Option<Box<RawValue>>,
            result_not_kept: Option<NotKept>,
            ended_at: Option<String>,
            owner: Option<String>,
            replayed_at: Option<String>,
        }
        let until = Instant::now() + terms.wait;
        loop {
            let claimed_at = Instant::now();
            let wait = until.saturating_duration_since(claimed_at).min(WAIT_MAX);
            let call = self.claim_call(run, step, terms, claim_id, wait)?;
            let reply = self.transport.ask(call).await?;
            if reply.status == 201 {
                let Granted {
                    fence,
                    attempt,
                    effect_key,
                } = serde_json::from_str(&reply.text)?;
                return Ok(Claim::Granted(Grant {
                    step: step.to_owned(),
                    claim_id: claim_id.to_owned(),
                    fence,
                    attempt,
                    effect_key,
                    claimed_at,
                }));
            }
            if reply.status == 200 {
                let done: Done = serde_json::from_str(&reply.text)?;
                return Ok(Claim::Ended(Ended {
                    is_failed: done.status == "failed",
                    result: done.result.map_or_else(null, Ok)?,
                    not_kept: done.result_not_kept,
                    ended_at: done.ended_at,
                    owner: done.owner,
                    replayed_at: done.replayed_at,
                }));
            }
            let left = until.saturating_duration_since(Instant::now());
            if reply.kind() != "step-running" || left.is_zero() {
                return Err(reply.problem(run, step));
            }
            if claimed_at.elapsed() < wait / 2 {
                // The service did not let this claim wait, because too many others do.
                tokio::time::sleep(
                    left.min(Duration::from_secs(reply.retry_after_seconds.unwrap_or(1))),
                )
                .await;
            }
        }
    }

    fn claim_call(
        &self,
        run: &str,
        step: &str,
        terms: &Terms,
        claim_id: &str,
        wait: Duration,
    ) -> Result<Call, Error> {
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
        Ok(call
            .waiting(wait)
            .about("run", run)
            .about("step", step)
            .about("claim_id", claim_id))
    }

    /// One of the calls that change a step.
    async fn change(
        &self,
        (run, step, claim_id): (&str, &str, Option<&str>),
        action: &str,
        body: &impl Serialize,
        give_up: Option<Duration>,
    ) -> Result<(), Error> {
        let path = format!("{}/{action}", step_path(run, step)?);
        let mut call = Call::post(path, body)?
            .giving_up(give_up)
            .about("run", run)
            .about("step", step);
        if let Some(claim_id) = claim_id {
            call = call.about("claim_id", claim_id);
        }
        let reply = self.transport.ask(call).await?;
        if reply.status == 200 {
            Ok(())
        } else {
            Err(reply.problem(run, step))
        }
    }

    pub(crate) async fn heartbeat(
        &self,
        run: &str,
        grant: &Grant,
        lease: Duration,
        give_up: Option<Duration>,
    ) -> Result<(), Error> {
        let body = json!({
            "fence": grant.fence,
            "claim_id": grant.claim_id,
            "lease_ms": milliseconds(lease),
        });
        self.change(grant.of(run), "heartbeat", &body, give_up)
            .await
    }

    /// Records the result. One that the service finds too large is left away, for the work is done:
    /// the answer says so.
    pub(crate) async fn complete(
        &self,
        run: &str,
        grant: &Grant,
        result: &RawValue,
        emit: &[Value],
    ) -> Result<Option<NotKept>, Error> {
        #[derive(Serialize)]
        struct Complete<'a> {
            fence: i64,
            claim_id: &'a str,
            result: &'a RawValue,
            emit: &'a [Value],
        }
        let body = Complete {
            fence: grant.fence,
            claim_id: &grant.claim_id,
            result,
            emit,
        };
        match self.change(grant.of(run), "complete", &body, None).await {
            Ok(()) => Ok(None),
            Err(Error::Refused {
                status: 413,
                detail,
                ..
            }) => {
                let not_kept = NotKept::new("too-large", &detail);
                self.complete_without(run, grant, &not_kept, emit).await?;
                Ok(Some(not_kept))
            }
            Err(error) => Err(error),
        }
    }

    /// Records that the work is done, without its result.
    pub(crate) async fn complete_without(
        &self,
        run: &str,
        grant: &Grant,
        not_kept: &NotKept,
        emit: &[Value],
    ) -> Result<(), Error> {
        let body = json!({
            "fence": grant.fence,
            "claim_id": grant.claim_id,
            "result_not_kept": not_kept,
            "emit": emit,
        });
        self.change(grant.of(run), "complete", &body, None).await
    }

    pub(crate) async fn fail(
        &self,
        run: &str,
        grant: &Grant,
        error: &Value,
        emit: &[Value],
    ) -> Result<(), Error> {
        // The service reads an error of null as no error.
        let error = if error.is_null() {
            json!("failed")
        } else {
            error.clone()
        };
        let body = json!({
            "fence": grant.fence,
            "claim_id": grant.claim_id,
            "error": error,
            "emit": emit,
        });
        self.change(grant.of(run), "complete", &body, None).await
    }

    pub(crate) async fn release(&self, run: &str, grant: &Grant) -> Result<(), Error> {
        let body = json!({ "fence": grant.fence, "claim_id": grant.claim_id });
        self.change(grant.of(run), "release", &body, None).await
    }

    /// Says that the holder stops without knowing the outcome, and why.
    pub(crate) async fn abandon(
        &self,
        run: &str,
        grant: &Grant,
        error: &Value,
    ) -> Result<(), Error> {
        let body = json!({ "fence": grant.fence, "claim_id": grant.claim_id, "error": error });
        self.change(grant.of(run), "abandon", &body, Some(ABANDON_GIVE_UP))
            .await
    }

    pub(crate) async fn resolve(
        &self,
        run: &str,
        step: &str,
        fence: i64,
        outcome: &Outcome,
    ) -> Result<(), Error> {
        let body = outcome.body(fence);
        self.change((run, step, None), "resolve", &body, None).await
    }

    /// Asks once for an event. `None`: it has not come yet.
    pub(crate) async fn wait(
        &self,
        run: &str,
        step: &str,
        body: &Value,
        wait: Duration,
    ) -> Result<Option<Arrival>, Error> {
        let call = Call::post(format!("{}/wait", step_path(run, step)?), body)?
            .waiting(wait)
            .about("run", run)
            .about("step", step);
        let reply = self.transport.ask(call).await?;
        match reply.status {
            200 => Ok(Some(serde_json::from_str(&reply.text)?)),
            _ if reply.kind() == "step-waiting" => Ok(None),
            _ => Err(reply.problem(run, step)),
        }
    }

    /// Reads a lost step. `fence` is the one that the caller was told of.
    pub(crate) async fn lost(&self, run: &str, step: &str, fence: i64) -> Result<LostStep, Error> {
        let reply = self.transport.ask(Call::get(step_path(run, step)?)).await?;
        if reply.status != 200 {
            return Err(reply.problem(run, step));
        }
        Ok(LostStep {
            fence,
            ..serde_json::from_str(&reply.text)?
        })
    }

    /// Reads all steps of a run, page by page.
    pub(crate) async fn resume(&self, run: &str) -> Result<BTreeMap<String, StepState>, Error> {
        #[derive(Deserialize)]
        struct Page {
            items: Vec<StepState>,
            next: Option<String>,
        }
        let path = format!("/runs/{}/steps", segment(run)?);
        let mut found = BTreeMap::new();
        let mut query = String::new();
        loop {
            let reply = self
                .transport
                .ask(Call::get(format!("{path}{query}")))
                .await?;
            if reply.status != 200 {
                return Err(reply.problem(run, ""));
            }
            let page: Page = serde_json::from_str(&reply.text)?;
            found.extend(
                page.items
                    .into_iter()
                    .map(|state| (state.step.clone(), state)),
            );
            match page.next {
                Some(next) => query = format!("?cursor={next}"),
                None => return Ok(found),
            }
        }
    }

    /// The fence if the key is new (0 without a lease), `None` if it was seen.
    pub(crate) async fn mark(
        &self,
        scope: &str,
        key: &str,
        window: Duration,
        lease: Option<Duration>,
    ) -> Result<Option<i64>, Error> {
        // By the claim's id, the service knows the call again whose answer was lost: it is still
        // the first.
        let claim_id = new_claim_id();
        let mut body = json!({
            "key": key,
            "window": format!("{}ms", milliseconds(window)),
            "claim_id": claim_id,
        });
        if let Some(lease) = lease {
            body["lease_ms"] = milliseconds(lease).into();
        }
        let call = Call::post(format!("/dedup/{}", segment(scope)?), &body)?;
        let reply = self
            .transport
            .ask(call.about("scope", scope).about("key", key))
            .await?;
        if reply.status != 200 {
            return Err(reply.problem(scope, key));
        }
        let json = reply.json();
        Ok((json["status"] == "first").then(|| json["fence"].as_i64().unwrap_or_default()))
    }

    /// One of the calls that change a key under a lease.
    async fn change_mark(
        &self,
        (scope, key): (&str, &str),
        action: &str,
        body: &Value,
        give_up: Option<Duration>,
    ) -> Result<(), Error> {
        let call = Call::post(format!("/dedup/{}/{action}", segment(scope)?), body)?
            .giving_up(give_up)
            .about("scope", scope)
            .about("key", key);
        let reply = self.transport.ask(call).await?;
        if reply.status == 200 {
            Ok(())
        } else {
            Err(reply.problem(scope, key))
        }
    }

    pub(crate) async fn mark_done(&self, scope: &str, key: &str, fence: i64) -> Result<(), Error> {
        let body = json!({ "key": key, "fence": fence });
        self.change_mark((scope, key), "done", &body, None).await
    }

    pub(crate) async fn mark_heartbeat(
        &self,
        scope: &str,
        key: &str,
        fence: i64,
        lease: Duration,
        give_up: Option<Duration>,
    ) -> Result<(), Error> {
        let body = json!({ "key": key, "fence": fence, "lease_ms": milliseconds(lease) });
        self.change_mark((scope, key), "heartbeat", &body, give_up)
            .await
    }

    pub(crate) async fn mark_release(
        &self,
        scope: &str,
        key: &str,
        fence: i64,
    ) -> Result<(), Error> {
        let body = json!({ "key": key, "fence": fence });
        self.change_mark((scope, key), "release", &body, Some(ABANDON_GIVE_UP))
            .await
    }
}
