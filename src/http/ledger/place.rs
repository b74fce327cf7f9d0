//! The parameters of a call of the ledger: whose step, of which run, for how long.

use std::{future::Future, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    event::run_key,
    http::{
        error::{About, ApiError},
        tokens::Grant,
    },
    ledger::Ledger,
    store::ledger::{Fenced, StepAddress},
};

const NAME_BYTES_MAX: usize = 255;
const LEASE_MS: u64 = 30_000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantQuery {
    pub tenant: Option<String>,
}

/// Whose steps a call is about: those of the token's tenant. A token without a tenant has steps of
/// its own, and if it may read everything it may name a tenant.
pub fn tenant_of(grant: &Grant, asked: Option<String>) -> Result<Arc<str>, ApiError> {
    match (&grant.tenant, asked) {
        (Some(own), Some(asked)) if **own != *asked => {
            Err(ApiError::OtherTenant("the token is for another tenant"))
        }
        (Some(own), _) => Ok(own.clone()),
        (None, Some(_)) if !grant.read => Err(ApiError::OtherTenant(
            "a token of scope ledger has the tenant that it was made for, or none",
        )),
        (None, Some(asked)) => Ok(asked.into()),
        (None, None) => Ok("".into()),
    }
}

/// A name that the caller chose: any text without control characters.
pub fn name(what: &str, text: &str) -> Result<Arc<str>, ApiError> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(ApiError::InvalidParameter(format!(
            "{what}: 1 to {NAME_BYTES_MAX} bytes without control characters"
        )));
    }
    Ok(text.into())
}

/// The run and the place that a step's URL names, for this tenant.
pub fn place_of(
    tenant: &str,
    path: &(String, String),
) -> Result<(Arc<str>, StepAddress), ApiError> {
    let (run, step) = (name("run", &path.0)?, name("step", &path.1)?);
    let key = run_key(tenant, &run);
    Ok((run, StepAddress { key, step }))
}

/// Runs a call about a step. A refusal names the step, and the claim id of the call.
pub async fn of_step<T>(
    (run, step): &(String, String),
    claim_id: Option<&str>,
    call: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let about = || About::Step {
        run: run.clone(),
        step: step.clone(),
    };
    call.await
        .map_err(|error| error.about(about(), claim_id.map(str::to_owned)))
}

/// The claim id as answers have it: a step that nobody claimed has none.
pub fn claim_id_of(claim_id: String) -> Option<String> {
    Some(claim_id).filter(|claim_id| !claim_id.is_empty())
}

/// Checks a name that may be left out.
pub fn maybe_name(what: &str, text: Option<&str>) -> Result<(), ApiError> {
    text.map(|text| name(what, text)).transpose().map(drop)
}

/// The value, or the refusal if the fence was not in force.
pub fn in_force<T>(
    fenced: Fenced<T>,
    given: i64,
    (run, step): &(String, String),
) -> Result<T, ApiError> {
    match fenced {
        Fenced::Done(value) => Ok(value),
        Fenced::Stale(fence, state) => Err(ApiError::StaleFence {
            given,
            fence,
            state,
        }),
        Fenced::Missing => Err(no_step(run, step)),
    }
}

pub fn no_step(run: &str, step: &str) -> ApiError {
    ApiError::NotFound(format!("run {run:?} has no step {step:?}"))
}

/// The lease in seconds, from the milliseconds that were asked for.
pub fn lease_seconds(ledger: &Ledger, lease_ms: Option<u64>) -> Result<f64, ApiError> {
    let lease_ms = lease_ms.unwrap_or(LEASE_MS);
    let max_ms = ledger.settings.load().ledger.lease_max.as_millis();
    if lease_ms == 0 || u128::from(lease_ms) > max_ms {
        return Err(ApiError::InvalidParameter(format!(
            "lease_ms: {lease_ms} is not between 1 and {max_ms} (ledger.lease_max)"
        )));
    }
    Ok(Duration::from_millis(lease_ms).as_secs_f64())
}

/// Runs database work on its own task, so that a client that goes away leaves nothing half-done.
pub async fn apart<T: Send + 'static>(
    work: impl Future<Output = Result<T, sqlx::Error>> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::spawn(work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(ApiError::Unavailable(sqlx::Error::WorkerCrashed)),
    }
}
