//! Finds the steps whose holders were lost, and says so: they become `unknown`, each with an event
//! `step.unknown` of the source `ledger`, which routes may take. It also puts steps into the lists of
//! their states. Every node does this; locked rows are left to whoever has them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Ledger, about::request_of};
use crate::{
    backoff::jittered,
    contract::{DeliveryId, EffectKey, EventId, GatewayRequest, StepState, Time},
    event::{BodyDigest, emitted_key_of, tenants_event_key},
    ids,
    routing::Routes,
    settings::{LEDGER_SOURCE, Settings},
    store::{
        ledger::{self, Emitted, LostStep, StepAddress},
        step::{self, Walk},
    },
};

const INTERVAL: Duration = Duration::from_secs(1);
/// How often the walk goes on that only looks once more.
const LATE_INTERVAL: Duration = Duration::from_secs(10);
/// How long the database must have answered before leases that are over count here. While it or all
/// nodes were away no holder could extend its lease, and now each may do so first.
const CALM: Duration = Duration::from_secs(10);
/// Steps of one statement.
const WALK_ROWS_MAX: i64 = 2000;
const LOST_ROWS_MAX: i64 = 100;
/// The type of the events.
const STEP_UNKNOWN: &str = "step.unknown";

/// What the event of a step says whose holder was lost.
#[derive(Serialize)]
struct UnknownStep<'a> {
    run: &'a str,
    step: &'a str,
    tenant: Option<&'a str>,
    effect_key: EffectKey,
    /// What `resolve` expects.
    fence: i64,
    attempt: i32,
    owner: Option<&'a str>,
    claimed_at: Time,
    /// `abandoned` by its holder, who said `error`, or its `lease-ended`.
    why: &'static str,
    error: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<GatewayRequest>,
}

impl Ledger {
    /// A holder has said that it does not know the outcome: who waits is woken, and so is the sweep.
    pub fn abandoned(&self, place: &StepAddress, state: StepState) {
        self.waiters.wake(place);
        if state == StepState::Unknown {
            self.lost.notify_one();
        }
    }

    /// Sweeps until the node stops: once a second, and at once where a step was abandoned here.
    pub async fn sweep_until_stopped(self: Arc<Self>) {
        let mut sweep = Sweep {
            ledger: &self,
            late_at: None,
            well_since: Instant::now(),
        };
        while !self.stopping.is_cancelled() {
            if let Err(error) = sweep.round().await {
                sweep.well_since = Instant::now();
                tracing::warn!(%error, "steps whose holders were lost could not be looked for");
            }
            tokio::select! {
                () = self.stopping.cancelled() => {}
                () = self.lost.notified() => {}
                () = tokio::time::sleep(jittered(INTERVAL, 0.25)) => {}
            }
        }
    }
}

struct Sweep<'a> {
    ledger: &'a Ledger,
    /// When the late walk last went on.
    late_at: Option<Instant>,
    /// Since when the database has answered each time.
    well_since: Instant,
}

impl Sweep<'_> {
    async fn round(&mut self) -> Result<(), sqlx::Error> {
        let pool = &self.ledger.pool;
        self.walk(Walk::New).await?;
        if self.late_at.is_none_or(|at| at.elapsed() >= LATE_INTERVAL) {
            self.late_at = Some(Instant::now());
            self.walk(Walk::Late).await?;
            step::walk_anew(pool).await?;
        }
        // One round at a time: it may have all steps before it, and nobody waits for it.
        step::walk(pool, Walk::All, WALK_ROWS_MAX).await?;
        while self.tell_lost().await? {}
        Ok(())
    }

    /// Walks to the end.
    async fn walk(&self, walk: Walk) -> Result<(), sqlx::Error> {
        while !self.ledger.stopping.is_cancelled() {
            let walked = step::walk(&self.ledger.pool, walk, WALK_ROWS_MAX).await?;
            tracing::trace!(
                seen = walked.seen,
                put = walked.put,
                "steps were put into lists"
            );
            if walked.seen < WALK_ROWS_MAX {
                break;
            }
        }
        Ok(())
    }

    /// Makes some steps unknown whose holders were lost. Returns whether there may be more.
    async fn tell_lost(&self) -> Result<bool, sqlx::Error> {
        let is_calm = self.well_since.elapsed() >= CALM;
        let lost = ledger::lost(&self.ledger.pool, LOST_ROWS_MAX, is_calm).await?;
        if lost.is_empty() {
            return Ok(false);
        }
        let settings = self.ledger.settings.load();
        let steps: Vec<(&LostStep, Emitted)> = lost
            .iter()
            .map(|step| (step, event_of(&settings, step)))
            .collect();
        let told = ledger::become_unknown(&self.ledger.pool, &steps).await?;
        if told > 0 {
            tracing::warn!(
                steps = told,
                "the outcome of steps is unknown: hookonce ledger list --status unknown"
            );
            self.ledger.hint.notify_one();
        }
        for step in &lost {
            self.ledger.waiters.wake(&step.place);
        }
        // Where nothing changed, others have these rows: they are looked at again later.
        Ok(told > 0 && i64::try_from(lost.len()) == Ok(LOST_ROWS_MAX))
    }
}

fn event_of(settings: &Settings, lost: &LostStep) -> Emitted {
    let error = lost
        .error
        .as_deref()
        .and_then(|error| serde_json::from_str::<&RawValue>(error).ok());
    let claimed_at = lost.claimed_at.into();
    let body = serde_json::to_string(&UnknownStep {
        run: &lost.run,
        step: &lost.place.step,
        tenant: Some(lost.tenant.as_str()).filter(|tenant| !tenant.is_empty()),
        effect_key: lost.id,
        fence: lost.fence,
        attempt: lost.attempt,
        owner: lost.owner.as_deref(),
        claimed_at,
        why: if error.is_some() {
            "abandoned"
        } else {
            "lease-ended"
        },
        error,
        request: request_of(lost.about.as_deref(), claimed_at),
    })
    .expect("texts, numbers and JSON, all of which JSON has");
    let key = format!("{STEP_UNKNOWN}/{}/{}", lost.id, lost.fence);
    let event_key = tenants_event_key(&lost.tenant, key);
    Emitted {
        id: EventId(ids::new()),
        key: emitted_key_of(LEDGER_SOURCE, &lost.tenant, &event_key),
        source: LEDGER_SOURCE.into(),
        event_key,
        event_type: Some(STEP_UNKNOWN.into()),
        digest: BodyDigest::of(body.as_bytes()),
        body,
        window_seconds: settings.retention.keys.as_secs_f64(),
        deliveries: Routes::of(settings, LEDGER_SOURCE)
            .destinations(Some(STEP_UNKNOWN))
            .into_iter()
            .map(|destination| (DeliveryId(ids::new()), destination.clone()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_says_what_resolve_asks_for_and_what_the_holder_said() {
        let settings = crate::settings::load(&crate::settings::Inputs::default())
            .unwrap()
            .settings;
        let lost = |tenant: &str, error: Option<&str>, about: Option<&str>| LostStep {
            place: StepAddress {
                key: crate::event::run_key(tenant, "r"),
                step: "s".into(),
            },
            id: EffectKey(uuid::Uuid::nil()),
            tenant: tenant.into(),
            run: "r".into(),
            fence: 3,
            attempt: 2,
            owner: None,
            claimed_at: time::OffsetDateTime::UNIX_EPOCH,
            error: error.map(str::to_owned),
            about: about.map(str::to_owned),
        };
        let event = event_of(&settings, &lost("a/b", Some(r#"{ "x": 1 }"#), None));
        let body: serde_json::Value = serde_json::from_str(&event.body).unwrap();
        assert_eq!(
            (&body["fence"], &body["why"], &body["error"]["x"]),
            (&3.into(), &"abandoned".into(), &1.into())
        );
        assert!(event.body.contains(r#""error":{ "x": 1 }"#) && body.get("request").is_none());
        assert!(
            event.event_key.starts_with("a%2Fb/step.unknown/0"),
            "{event:?}"
        );
        let about = r#"{"caller":null,"method":"POST","path":"/v1/charges"}"#;
        let event = event_of(&settings, &lost("", None, Some(about)));
        let body: serde_json::Value = serde_json::from_str(&event.body).unwrap();
        assert_eq!(
            (
                &body["why"],
                &body["request"]["path"],
                &body["request"]["sent_at"]
            ),
            (
                &"lease-ended".into(),
                &"/v1/charges".into(),
                &"1970-01-01T00:00:00Z".into()
            )
        );
    }
}
