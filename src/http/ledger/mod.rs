//! The ledger over HTTP: `/v1/runs/{run}/steps/{step}/…` and `/v1/dedup/{scope}`, on the admin port and on a port of its own. Here are the
//! routes and what the handlers share; what decides is `store::ledger` and `store::dedup`.

pub(super) mod calls;
pub(super) mod dedup;
mod emit;
pub mod kept;
pub(super) mod read;

use std::{future::Future, sync::Arc, time::Duration};

use actix_web::{Scope, middleware::from_fn, web};
use arc_swap::ArcSwap;
use schemars::JsonSchema;
use serde::Deserialize;
use sqlx::PgConnection;
use tokio::{sync::Notify, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

pub use read::step_json;

use super::{
    api, auth,
    batcher::{BatchError, Batcher, BatcherOptions, Statement},
    error::ApiError,
    tokens::Grant,
    waiters::Waiters,
};
use crate::{
    event::{GATEWAY_TENANT, TypeGlob, run_key},
    settings::Settings,
    store::{
        dedup::{Mark, NewMark},
        ledger::{Claim, Completion, Fenced, NewClaim, Place},
        link::{Db, Dialer},
    },
};

const NAME_BYTES_MAX: usize = 255;

/// `/v1` on the admin port. The application needs `web::Data` of `AdminState` and `Ledger`.
pub fn configure(config: &mut web::ServiceConfig, call_bytes_max: usize) {
    config.service(routes(web::scope("/v1"), call_bytes_max).wrap(from_fn(auth::ledger)).wrap(api::headers()));
}

/// `/v1` on a port of its own.
pub fn configure_alone(config: &mut web::ServiceConfig, call_bytes_max: usize) {
    config.service(routes(web::scope("/v1"), call_bytes_max).wrap(from_fn(auth::ledger_alone)).wrap(api::headers()));
}

fn routes(scope: Scope, call_bytes_max: usize) -> Scope {
    let step = |action: &str| api::at(&format!("/runs/{{run}}/steps/{{step}}/{action}"));
    api::with_errors(scope)
        .app_data(api::json_config(call_bytes_max))
        .service(api::at("/runs/{run}/steps").route(web::get().to(read::run)))
        .service(api::at("/runs/{run}/steps/{step}").route(web::get().to(read::step)))
        .service(step("claim").route(web::post().to(calls::claim)))
        .service(step("heartbeat").route(web::post().to(calls::heartbeat)))
        .service(step("complete").route(web::post().to(calls::complete)))
        .service(step("release").route(web::post().to(calls::release)))
        .service(step("resolve").route(web::post().to(calls::resolve)))
        .service(api::at("/dedup/{scope}").route(web::post().to(dedup::mark)))
        .service(api::at("/dedup/{scope}/done").route(web::post().to(dedup::done)))
        .default_service(web::to(api::no_such_path))
}

#[derive(Clone)]
struct Claims;

impl Statement for Claims {
    type Item = NewClaim;
    type Answer = Claim;

    fn bytes(claim: &NewClaim) -> usize {
        claim.place.step.len() + claim.run.len() + claim.claim_id.len()
    }

    async fn run(&self, connection: &mut PgConnection, claims: &[&NewClaim]) -> Result<Vec<Option<Claim>>, sqlx::Error> {
        crate::store::ledger::claim(connection, claims).await
    }
}

#[derive(Clone)]
struct Completions;

impl Statement for Completions {
    type Item = Completion;
    type Answer = Fenced<()>;

    fn bytes(completion: &Completion) -> usize {
        completion.result.len() + completion.emit.iter().map(|event| event.body.len()).sum::<usize>()
    }

    async fn run(&self, connection: &mut PgConnection, completions: &[&Completion]) -> Result<Vec<Option<Fenced<()>>>, sqlx::Error> {
        crate::store::ledger::complete(connection, completions).await
    }
}

#[derive(Clone)]
struct Marks;

impl Statement for Marks {
    type Item = NewMark;
    type Answer = Mark;

    fn bytes(mark: &NewMark) -> usize {
        mark.claim_id.len()
    }

    async fn run(&self, connection: &mut PgConnection, marks: &[&NewMark]) -> Result<Vec<Option<Mark>>, sqlx::Error> {
        crate::store::dedup::mark(connection, marks).await
    }
}

/// What the ledger's handlers share.
pub struct Ledger {
    pool: Db,
    settings: Arc<ArcSwap<Settings>>,
    claims: Batcher<Claims>,
    completions: Batcher<Completions>,
    marks: Batcher<Marks>,
    pub waiters: Arc<Waiters>,
    /// Tells this process's relay that something may be due.
    hint: Arc<Notify>,
    /// Cancelled when the node stops: nobody waits any longer.
    stopping: CancellationToken,
}

impl Ledger {
    /// Starts the writers; they end, all answered, after `close`.
    pub fn start(
        dialer: &Dialer,
        pool: Db,
        settings: &Arc<ArcSwap<Settings>>,
        hint: Arc<Notify>,
        stopping: CancellationToken,
    ) -> (Self, Vec<JoinHandle<()>>) {
        let own = &settings.load().ledger;
        let options = BatcherOptions {
            rows_max: own.queue_rows_max,
            bytes_max: own.queue_bytes_max.bytes(),
            batch_rows_max: own.batch_rows_max,
            writers: own.batch_connections,
            timeout: own.call_timeout.0,
            write_timeout: settings.load().database.write_timeout.0,
        };
        let (claims, mut writers) = Batcher::start(&Claims, dialer, &options);
        let (completions, more) = Batcher::start(&Completions, dialer, &options);
        writers.extend(more);
        let (marks, more) = Batcher::start(&Marks, dialer, &options);
        writers.extend(more);
        let waiters = Arc::new(Waiters::new(own.waiters_max));
        (Self { pool, settings: settings.clone(), claims, completions, marks, waiters, hint, stopping }, writers)
    }

    /// No more calls.
    pub fn close(&self) {
        self.claims.close();
        self.completions.close();
        self.marks.close();
    }

    /// Has a claim decided. Where another executes the step it asks again whenever something happened to it, until the time is over or the
    /// answer is wanted no longer.
    pub async fn claim(&self, claim: &NewClaim, wait: Duration, is_wanted: impl Fn() -> bool) -> Result<Claim, BatchError> {
        let mut decided = self.claims.decide(claim.clone()).await?;
        if !matches!(decided, Claim::Running(_)) || wait.is_zero() {
            return Ok(decided);
        }
        let until = Instant::now() + wait;
        let Some(seat) = self.waiters.enter(&claim.place) else { return Ok(decided) };
        loop {
            // Listening begins before the question: what happens between the two is not missed.
            let woken = seat.woken();
            tokio::pin!(woken);
            woken.as_mut().enable();
            if !is_wanted() {
                return Ok(decided);
            }
            decided = self.claims.decide(claim.clone()).await?;
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

    /// The longest that anybody may wait for a step.
    pub fn wait_max(&self) -> Duration {
        self.settings.load().ledger.wait_max.0
    }

    /// Records a result and wakes who waits for it.
    pub async fn complete(&self, completion: Completion) -> Result<Fenced<()>, BatchError> {
        let place = completion.place.clone();
        let fenced = self.completions.decide(completion).await?;
        self.waiters.wake(&place);
        Ok(fenced)
    }

    /// How long a step of this run is kept, in seconds.
    fn keep_seconds(&self, tenant: &str, run: &str) -> f64 {
        let settings = self.settings.load();
        if let Some(gateway) = tenant.strip_prefix(GATEWAY_TENANT).and_then(|name| settings.gateways.get(name)) {
            return gateway.keep.as_secs_f64() + gateway.expired_keep.as_secs_f64();
        }
        let fits = |scope: &&crate::settings::LedgerScope| {
            scope.tenant.as_deref().is_none_or(|of| of == tenant)
                && scope.run.as_deref().is_none_or(|pattern| TypeGlob::new(pattern).matches(run))
        };
        settings.ledger.scopes.iter().find(fits).map_or(settings.ledger.keep, |scope| scope.keep).as_secs_f64()
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantQuery {
    tenant: Option<String>,
}

/// Whose steps a call is about: the token's tenant. A token without one has steps of its own; one that may read everything may name a tenant.
fn tenant_of(grant: &Grant, asked: Option<String>) -> Result<Arc<str>, ApiError> {
    match (&grant.tenant, asked) {
        (Some(own), Some(asked)) if **own != *asked => Err(ApiError::OtherTenant("the token is for another tenant")),
        (Some(own), _) => Ok(own.clone()),
        (None, Some(_)) if !grant.read => {
            Err(ApiError::OtherTenant("a token of scope ledger has the tenant that it was made for, or none"))
        }
        (None, Some(asked)) => Ok(asked.into()),
        (None, None) => Ok("".into()),
    }
}

/// A name of the caller's choosing: any text without control characters.
fn name(what: &str, text: &str) -> Result<Arc<str>, ApiError> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(ApiError::InvalidParameter(format!("{what}: 1 to {NAME_BYTES_MAX} bytes without control characters")));
    }
    Ok(text.into())
}

/// The run and the place of a step's URL, for this tenant.
fn place_of(tenant: &str, path: &(String, String)) -> Result<(Arc<str>, Place), ApiError> {
    let (run, step) = (name("run", &path.0)?, name("step", &path.1)?);
    let key = run_key(tenant, &run);
    Ok((run, Place { key, step }))
}

/// A lease in seconds, from the milliseconds that were asked for.
fn lease_seconds(ledger: &Ledger, lease_ms: u64) -> Result<f64, ApiError> {
    let max_ms = ledger.settings.load().ledger.lease_max.as_millis();
    if lease_ms == 0 || u128::from(lease_ms) > max_ms {
        return Err(ApiError::InvalidParameter(format!("lease_ms: {lease_ms} is not between 1 and {max_ms} (ledger.lease_max)")));
    }
    Ok(std::time::Duration::from_millis(lease_ms).as_secs_f64())
}

/// Runs what talks to the database apart from the request: a client that goes away cancels nothing half-begun.
async fn apart<T: Send + 'static>(work: impl Future<Output = Result<T, sqlx::Error>> + Send + 'static) -> Result<T, ApiError> {
    match tokio::spawn(work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(ApiError::Unavailable(sqlx::Error::WorkerCrashed)),
    }
}
