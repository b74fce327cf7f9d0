//! A worker: it sends what is handed over to one destination, within that destination's own
//! concurrency, rate and breaker, so that a slow destination delays no other. It claims nothing.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    chance,
    clock::Clock,
    contract::{AttemptOutcome, EventId},
    delivery::{
        destination::http,
        finisher::{Entry, Finisher},
        outcome::{Failure, HandlerAnswer, Verdict},
        retry::Next,
        target::{BreakerChange, Target},
    },
    handoff::{Handed, Handoff, Lane, Leased},
    ids,
    meters::Meters,
    notices::{Notice, Notices},
    settings::LEASE_MARGIN,
    store::{
        delivery::{Attempt, Finish, Finished},
        link::Db,
    },
    tail::{Tail, TailLine},
};

/// What all destinations of a node share.
pub struct Context {
    pub node: Uuid,
    pub pool: Db,
    /// Connections that only claims use.
    pub claiming: Db,
    pub handoff: Arc<Handoff>,
    pub clock: Clock,
    pub tail: Tail,
    pub meters: Meters,
    pub notices: Notices,
    pub clients: http::Clients,
    pub finisher: Finisher,
    /// The paused destinations, as the database had them at the last poll or this process was told
    /// since.
    pub paused: Arc<ArcSwap<BTreeSet<String>>>,
    /// Notified when something may have become due. Polling would find it anyway.
    pub hint: Arc<Notify>,
    /// Cancelled at the stop: no more claims and no new attempts.
    pub stopping: CancellationToken,
    /// Cancelled to end the attempts under way. Their deliveries are given back.
    pub cut: CancellationToken,
}

impl Context {
    pub fn is_paused(&self, destination: &str) -> bool {
        self.paused.load().contains(destination)
    }
}

pub struct Worker {
    pub context: Arc<Context>,
    pub target: Arc<Target>,
    pub lane: Arc<Lane>,
    pub sends: TaskTracker,
}

impl Worker {
    pub async fn run(
        self,
        mut receiver: mpsc::UnboundedReceiver<Handed>,
        retired: CancellationToken,
    ) {
        let worker = Arc::new(self);
        let slots = Arc::new(Semaphore::new(worker.target.concurrency));
        loop {
            let slot = tokio::select! {
                biased;
                () = worker.context.stopping.cancelled() => break,
                () = retired.cancelled() => break,
                Ok(slot) = slots.clone().acquire_owned() => slot,
            };
            let handed = tokio::select! {
                biased;
                () = worker.context.stopping.cancelled() => break,
                () = retired.cancelled() => break,
                Some(handed) = receiver.recv() => handed,
                else => break,
            };
            // Before the limiter, so that a delivery that has to go back uses up nothing of the
            // rate.
            if worker.is_too_late(&handed) {
                worker.release(handed, 0.0);
                continue;
            }
            if let Some((_, limiter)) = &worker.target.rate {
                tokio::select! {
                    () = worker.context.stopping.cancelled() => { worker.release(handed, 0.0); break },
                    () = limiter.until_ready() => {}
                }
            }
            let worker = worker.clone();
            worker.sends.clone().spawn(async move {
                worker.deliver(handed).await;
                drop(slot);
            });
        }
        worker.lane.set_open(false);
        receiver.close();
        while let Some(handed) = receiver.recv().await {
            worker.release(handed, 0.0);
        }
    }

    /// Gives a delivery back untried.
    fn release(&self, handed: Handed, delay_seconds: f64) {
        let (leased, place) = handed.into_parts();
        let finish = Finish::Release(delay_seconds);
        let finished = Finished {
            id: leased.id,
            key: leased.key,
            epoch: leased.epoch,
            number: leased.attempts,
            finish,
        };
        self.context.finisher.finish(Entry { finished, place });
    }

    /// Whether the lease might end before an attempt that begins now does.
    fn is_too_late(&self, handed: &Handed) -> bool {
        handed.leased().leased_at.elapsed() + self.target.http.timeout + LEASE_MARGIN
            > self.target.lease
    }

    async fn deliver(&self, handed: Handed) {
        if self.is_too_late(&handed) {
            return self.release(handed, 0.0);
        }
        let admitted = if self.context.is_paused(&self.target.name) {
            None
        } else {
            self.target.breaker.admit()
        };
        let Some(_admitted) = admitted else {
            return self.release(
                handed,
                self.target.breaker.open_for.as_secs_f64() * chance::fraction(),
            );
        };
        let (started, started_at) = (Instant::now(), self.context.clock.utc());
        let answer = tokio::select! {
            answer = self.attempt(handed.leased()) => answer,
            // An attempt that the shutdown interrupts does not count as one.
            () = self.context.cut.cancelled() => return self.release(handed, 0.0),
        };
        self.finish(handed, &answer, started_at, started.elapsed());
    }

    async fn attempt(&self, leased: &Leased) -> HandlerAnswer {
        let Some(event) = &leased.event else {
            return HandlerAnswer::failed(Failure::EventGone, "retention has dropped the event");
        };
        self.target
            .http
            .send(
                &self.context.clients,
                leased,
                event,
                self.context.clock.unix_ms().div_euclid(1000),
            )
            .await
    }

    fn finish(
        &self,
        handed: Handed,
        answer: &HandlerAnswer,
        started_at: time::OffsetDateTime,
        latency: Duration,
    ) {
        let (leased, place) = handed.into_parts();
        let number = leased.attempts + 1;
        let verdict = answer.verdict();
        self.lane.note_attempt();
        let failed_to_answer = !matches!(
            answer.status,
            Ok(0..=499) | Err(Failure::EventGone | Failure::Blocked)
        );
        let change = self.target.breaker.record(failed_to_answer);
        let attempt = Attempt {
            id: ids::new(),
            started_at,
            latency_ms: i32::try_from(latency.as_millis()).unwrap_or(i32::MAX),
            status: answer
                .status
                .ok()
                .and_then(|status| i16::try_from(status).ok()),
            error: answer.error(),
            detail: answer.detail.clone(),
            response: (!answer.response.is_empty()).then(|| answer.response.clone()),
        };
        let age = Duration::try_from_secs_f64(leased.age_seconds).unwrap_or_default()
            + leased.leased_at.elapsed();
        let next = self.target.schedule.next(
            number.unsigned_abs(),
            age,
            answer.retry_after,
            chance::fraction(),
        );
        let (outcome, finish) = match (verdict, next) {
            (Verdict::Delivered, _) => (AttemptOutcome::Delivered, Finish::Delivered(attempt)),
            (Verdict::Dead, _) | (Verdict::Retry, Next::Dead) => {
                (AttemptOutcome::Dead, Finish::Dead(attempt))
            }
            (Verdict::Retry, Next::After(delay)) => (
                AttemptOutcome::Retry,
                Finish::Retry(attempt, delay.as_secs_f64()),
            ),
        };
        let arrival = (leased.attempts == 0).then_some(age);
        self.context
            .meters
            .attempt(&self.target.counted_as, outcome, latency, arrival);
        self.report(&leased, answer, outcome, latency);
        self.tell(&leased, answer, outcome, change);
        let finished = Finished {
            id: leased.id,
            key: leased.key,
            epoch: leased.epoch,
            number,
            finish,
        };
        self.context.finisher.finish(Entry { finished, place });
    }

    fn report(
        &self,
        leased: &Leased,
        answer: &HandlerAnswer,
        outcome: AttemptOutcome,
        latency: Duration,
    ) {
        self.context.tail.write(|| TailLine::Attempt {
            at: self.context.clock.utc(),
            event: leased
                .event
                .as_ref()
                .map_or(EventId(Uuid::nil()), |event| event.id),
            delivery: leased.id,
            destination: self.target.name.to_string(),
            number: leased.attempts.unsigned_abs() + 1,
            status: answer.status.ok(),
            outcome,
            error: answer.error().map(str::to_owned),
            latency_ms: u64::try_from(latency.as_millis()).unwrap_or(u64::MAX),
        });
    }

    /// Tells a person of a failed attempt, and of a breaker that opened or closed.
    fn tell(
        &self,
        leased: &Leased,
        answer: &HandlerAnswer,
        outcome: AttemptOutcome,
        change: Option<BreakerChange>,
    ) {
        let (context, target) = (&self.context, &self.target);
        let error = answer.error().unwrap_or_default();
        let notice = match outcome {
            AttemptOutcome::Delivered => None,
            AttemptOutcome::Retry => Some(Notice::Failing),
            AttemptOutcome::Dead => Some(Notice::Died),
        };
        if let Some(notice) = notice {
            let notices = &context.notices;
            notices.note(notice, &target.counted_as, error, &leased.id);
        }
        let destination: &str = &target.name;
        match change {
            Some(BreakerChange::Opened) => {
                let (status, detail) = (answer.status.ok(), answer.detail.as_deref());
                let open_for = target.breaker.open_for;
                tracing::warn!(
                    destination,
                    error,
                    status,
                    detail,
                    held = self.lane.rows(),
                    ?open_for,
                    "the breaker opened: attempts failed in a row, and one at a time is tried now"
                );
            }
            Some(BreakerChange::Closed) => {
                tracing::info!(
                    destination,
                    "the breaker closed: the destination answers again"
                );
            }
            None => {}
        }
    }
}
