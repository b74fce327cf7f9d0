//! The ledger's calls, one function each (`docs/idempotency.md` and the service's OpenAPI
//! document). How a call is sent again is the transport's business.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use crate::{
    claim::{Claim, Ended, Grant, LostStep, Outcome, StepState, Terms, new_claim_id},
    error::Error,
    transport::{Call, Transport, segment},
};

/// How long one claim waits at the service before it is sent again: proxies cut longer calls off.
const WAIT_MAX: Duration = Duration::from_secs(20);

fn step_path(run: &str, step: &str) -> Result<String, Error> {
    Ok(format!("/runs/{}/steps/{}", segment(run)?, segment(step)?))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

/// The calls, as one owner.
pub(crate) struct Protocol {
    pub(crate) transport: Transport,
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
            result: Box<RawValue>,
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
                    fence,
                    attempt,
                    effect_key,
                    claimed_at,
                }));
            }
            if reply.status == 200 {
                let Done { status, result } = serde_json::from_str(&reply.text)?;
                return Ok(Claim::Ended(Ended {
                    is_failed: status == "failed",
                    result,
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
        Ok(Call::post(format!("{}/claim", step_path(run, step)?), &body)?.waiting(wait))
    }

    /// One of the calls that change a step.
    async fn change(
        &self,
        run: &str,
        step: &str,
        action: &str,
        body: &impl Serialize,
        give_up: Option<Duration>,
    ) -> Result<(), Error> {
        let call = Call::post(format!("{}/{action}", step_path(run, step)?), body)?;
        let reply = self.transport.ask(call.giving_up(give_up)).await?;
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
        let body = json!({ "fence": grant.fence, "lease_ms": milliseconds(lease) });
        self.change(run, &grant.step, "heartbeat", &body, give_up)
            .await
    }

    pub(crate) async fn complete(
        &self,
        run: &str,
        grant: &Grant,
        result: &RawValue,
        emit: &[Value],
    ) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Complete<'a> {
            fence: i64,
            result: &'a RawValue,
            emit: &'a [Value],
        }
        self.change(
            run,
            &grant.step,
            "complete",
            &Complete {
                fence: grant.fence,
                result,
                emit,
            },
            None,
        )
        .await
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
        self.change(
            run,
            &grant.step,
            "complete",
            &json!({ "fence": grant.fence, "error": error, "emit": emit }),
            None,
        )
        .await
    }

    pub(crate) async fn release(&self, run: &str, grant: &Grant) -> Result<(), Error> {
        self.change(
            run,
            &grant.step,
            "release",
            &json!({ "fence": grant.fence }),
            None,
        )
        .await
    }

    pub(crate) async fn resolve(
        &self,
        run: &str,
        step: &str,
        fence: i64,
        outcome: &Outcome,
    ) -> Result<(), Error> {
        self.change(run, step, "resolve", &outcome.body(fence), None)
            .await
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
        let mut body = json!({ "key": key, "window": format!("{}ms", milliseconds(window)), "claim_id": new_claim_id() });
        if let Some(lease) = lease {
            body["lease_ms"] = milliseconds(lease).into();
        }
        let reply = self
            .transport
            .ask(Call::post(format!("/dedup/{}", segment(scope)?), &body)?)
            .await?;
        if reply.status != 200 {
            return Err(reply.problem(scope, key));
        }
        let json = reply.json();
        Ok((json["status"] == "first").then(|| json["fence"].as_i64().unwrap_or_default()))
    }

    pub(crate) async fn mark_done(&self, scope: &str, key: &str, fence: i64) -> Result<(), Error> {
        let path = format!("/dedup/{}/done", segment(scope)?);
        let reply = self
            .transport
            .ask(Call::post(path, &json!({ "key": key, "fence": fence }))?)
            .await?;
        if reply.status == 200 {
            Ok(())
        } else {
            Err(reply.problem(scope, key))
        }
    }
}
