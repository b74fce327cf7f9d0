//! What the holder of a step says before it ends: heartbeat, release, abandon.

use actix_web::web;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    contract::{Extended, Settled, StepState},
    event::digest_of,
    http::{
        answer::Exact,
        error::ApiError,
        ledger::place::{
            TenantQuery, apart, claim_id_of, in_force, lease_seconds, maybe_name, of_step,
            place_of, tenant_of,
        },
        object::Object,
        tokens::Grant,
    },
    ledger::Ledger,
    store::ledger::{self, Abandonment},
};

/// How large the error of who abandons a step may be.
const ERROR_BYTES_MAX: usize = 64 << 10;

pub type StepPath = web::Path<(String, String)>;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatBody {
    fence: i64,
    lease_ms: Option<u64>,
    /// Refusals name it.
    claim_id: Option<String>,
}

pub async fn heartbeat(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    path: StepPath,
    query: web::Query<TenantQuery>,
    web::Json(Object(body)): web::Json<Object<HeartbeatBody>>,
) -> Result<Exact<Extended>, ApiError> {
    of_step(&path, body.claim_id.as_deref(), async {
        let (_, place) = place_of(&tenant_of(&grant, query.into_inner().tenant)?, &path)?;
        maybe_name("claim_id", body.claim_id.as_deref())?;
        let (fence, lease) = (body.fence, lease_seconds(&ledger, body.lease_ms)?);
        let pool = ledger.pool.clone();
        let beat = apart(async move { ledger::heartbeat(&pool, &place, fence, lease).await });
        let beat = in_force(beat.await?, fence, &path)?;
        Ok(Exact(Extended {
            claim_id: claim_id_of(beat.claim_id),
            fence,
            lease_until: beat.until.into(),
            run: path.0.clone(),
            step: path.1.clone(),
        }))
    })
    .await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseBody {
    fence: i64,
    /// Refusals name it.
    claim_id: Option<String>,
}

pub async fn release(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    path: StepPath,
    query: web::Query<TenantQuery>,
    web::Json(Object(body)): web::Json<Object<ReleaseBody>>,
) -> Result<Exact<Settled>, ApiError> {
    of_step(&path, body.claim_id.as_deref(), async {
        let tenant = tenant_of(&grant, query.into_inner().tenant)?;
        let (run, place) = place_of(&tenant, &path)?;
        maybe_name("claim_id", body.claim_id.as_deref())?;
        let (fence, keep) = (body.fence, ledger.keep_seconds(&tenant, &run));
        let (pool, at) = (ledger.pool.clone(), place.clone());
        let released = apart(async move { ledger::release(&pool, &at, fence, keep, false).await });
        let claim_id = in_force(released.await?, fence, &path)?;
        ledger.waiters.wake(&place);
        Ok(Exact(settled(&path, claim_id, fence, StepState::Released)))
    })
    .await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AbandonBody {
    fence: i64,
    /// Any JSON that says what happened, of at most 64 KiB.
    #[schemars(with = "serde_json::Value")]
    error: Box<RawValue>,
    /// Refusals name it.
    claim_id: Option<String>,
}

pub async fn abandon(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    path: StepPath,
    query: web::Query<TenantQuery>,
    web::Json(Object(body)): web::Json<Object<AbandonBody>>,
) -> Result<Exact<Settled>, ApiError> {
    of_step(&path, body.claim_id.as_deref(), async {
        let tenant = tenant_of(&grant, query.into_inner().tenant)?;
        let (run, place) = place_of(&tenant, &path)?;
        maybe_name("claim_id", body.claim_id.as_deref())?;
        let (fence, error) = (body.fence, String::from(Box::<str>::from(body.error)));
        if error.len() > ERROR_BYTES_MAX {
            return Err(ApiError::TooLarge {
                what: "error",
                limit: ERROR_BYTES_MAX,
                size: Some(error.len()),
            });
        }
        let abandonment = Abandonment {
            fence,
            digest: digest_of(["abandon", &error]),
            error,
            keep_seconds: ledger.keep_seconds(&tenant, &run),
        };
        let (pool, at) = (ledger.pool.clone(), place.clone());
        let abandoned = apart(async move { ledger::abandon(&pool, &at, &abandonment).await });
        let abandoned = in_force(abandoned.await?, fence, &path)?;
        ledger.abandoned(&place, abandoned.state);
        Ok(Exact(settled(
            &path,
            abandoned.claim_id,
            fence,
            abandoned.state,
        )))
    })
    .await
}

/// A step whose state a call has changed.
pub fn settled(
    (run, step): &(String, String),
    claim_id: String,
    fence: i64,
    status: StepState,
) -> Settled {
    Settled {
        claim_id: claim_id_of(claim_id),
        error: None,
        fence,
        run: run.clone(),
        status,
        step: step.clone(),
    }
}
