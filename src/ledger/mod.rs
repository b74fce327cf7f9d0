//! The ledger: steps are claimed, completed and waited for, and keys are marked. Calls that come
//! together are written by one statement. It knows no HTTP, and its faces, `http::ledger` and
//! `gateway`, decide who may do what.

mod about;
pub mod kept;
mod statements;
mod sweep;
pub mod waiters;

pub use about::{About, request_of};

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::{
    statements::{Claims, Completions, Marks},
    waiters::Waiters,
};
use crate::{
    event::{GATEWAY_TENANT, TypeGlob},
    group_commit::{CommitError, GroupCommit, Options},
    meters::Meters,
    settings::Settings,
    store::{
        dedup::{Mark, NewMark},
        ledger::{Claim, Completion, Fenced, NewClaim},
        link::{Db, Dialer},
    },
};

/// Claims, completions and marks, for every face.
pub struct Ledger {
    pub pool: Db,
    pub settings: Arc<ArcSwap<Settings>>,
    claims: GroupCommit<Claims>,
    completions: GroupCommit<Completions>,
    marks: GroupCommit<Marks>,
    /// How long a call waits for its decision.
    timeout: Duration,
    pub waiters: Arc<Waiters>,
    /// Tells this process's relay that deliveries may be due.
    pub hint: Arc<Notify>,
    /// Wakes the sweep: a step was abandoned here.
    lost: Notify,
    /// Cancelled when the node stops, and then nobody waits for a step any longer.
    stopping: CancellationToken,
}

impl Ledger {
    /// Has to be called on the runtime that the writers are to run on.
    pub fn new(
        dialer: &Dialer,
        pool: Db,
        settings: &Arc<ArcSwap<Settings>>,
        meters: Meters,
        hint: Arc<Notify>,
        stopping: CancellationToken,
    ) -> Self {
        let loaded = settings.load();
        let own = &loaded.ledger;
        let options = |name| Options {
            name,
            meters: meters.clone(),
            rows_max: own.queue_rows_max,
            bytes_max: own.queue_bytes_max.bytes(),
            batch_rows_max: own.batch_rows_max,
            batch_bytes_max: usize::MAX,
            writers: own.batch_connections,
            linger: Duration::ZERO,
            write_timeout: loaded.database.write_timeout.0,
            tries_max: u32::MAX,
        };
        let runtime = Handle::current();
        let (timeout, waiters) = (own.call_timeout.0, Arc::new(Waiters::new(own.waiters_max)));
        Self {
            claims: GroupCommit::new(
                Claims,
                dialer.clone(),
                Some(runtime.clone()),
                options("claims"),
            ),
            completions: GroupCommit::new(
                Completions,
                dialer.clone(),
                Some(runtime.clone()),
                options("completions"),
            ),
            marks: GroupCommit::new(Marks, dialer.clone(), Some(runtime), options("marks")),
            timeout,
            pool,
            settings: settings.clone(),
            waiters,
            hint,
            lost: Notify::new(),
            stopping,
        }
    }

    /// Refuses new calls, and returns when those that wait are decided.
    pub async fn close(&self) {
        tokio::join!(
            self.claims.close(),
            self.completions.close(),
            self.marks.close()
        );
    }

    /// Marks a key, and says whether this was the first time.
    pub async fn mark(&self, mark: NewMark) -> Result<Mark, CommitError> {
        self.marks.decide(mark, self.timeout).await
    }

    /// Decides a claim. If another executes the step, asks again whenever something happened to it,
    /// until the time is over or the caller no longer wants the answer.
    pub async fn claim(
        &self,
        claim: &NewClaim,
        wait: Duration,
        is_wanted: impl Fn() -> bool,
    ) -> Result<Claim, CommitError> {
        let mut decided = self.claims.decide(claim.clone(), self.timeout).await?;
        if !matches!(decided, Claim::Running(_)) || wait.is_zero() {
            return Ok(decided);
        }
        let until = Instant::now() + wait;
        let Some(seat) = self.waiters.enter(&claim.place) else {
            return Ok(decided);
        };
        loop {
            // Listening begins before the question, so that no event between the two is missed.
            let woken = seat.woken();
            tokio::pin!(woken);
            woken.as_mut().enable();
            if !is_wanted() {
                return Ok(decided);
            }
            decided = self.claims.decide(claim.clone(), self.timeout).await?;
            if !matches!(decided, Claim::Running(_)) {
                return Ok(decided);
            }
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep_until(until) => return Ok(decided),
                () = self.stopping.cancelled() => return Ok(decided),
            }
        }
    }

    /// How many claims wait for a step that another executes.
    pub fn waiting(&self) -> watch::Receiver<usize> {
        self.waiters.waiting()
    }

    /// The longest time that a call may wait for a step.
    pub fn wait_max(&self) -> Duration {
        self.settings.load().ledger.wait_max.0
    }

    /// Records a result, wakes those who wait for it, and returns the holder's claim id.
    pub async fn complete(&self, completion: Completion) -> Result<Fenced<String>, CommitError> {
        let place = completion.place.clone();
        let fenced = self.completions.decide(completion, self.timeout).await?;
        self.waiters.wake(&place);
        Ok(fenced)
    }

    /// How long a step of this run is kept, in seconds.
    pub fn keep_seconds(&self, tenant: &str, run: &str) -> f64 {
        let settings = self.settings.load();
        if let Some(gateway) = tenant
            .strip_prefix(GATEWAY_TENANT)
            .and_then(|name| settings.gateways.get(name))
        {
            return gateway.keep.as_secs_f64() + gateway.expired_keep.as_secs_f64();
        }
        let fits = |scope: &&crate::settings::LedgerScope| {
            scope.tenant.as_deref().is_none_or(|of| of == tenant)
                && scope
                    .run
                    .as_deref()
                    .is_none_or(|pattern| TypeGlob::new(pattern).matches(run))
        };
        settings
            .ledger
            .scopes
            .iter()
            .find(fits)
            .map_or(settings.ledger.keep, |scope| scope.keep)
            .as_secs_f64()
    }
}
