//! Dedup for consumers: the first to bring a key handles it. Without a lease a key is marked before
//! it is handled, so a crash between the two loses it. Under a lease the key becomes free again
//! unless somebody says that it is done.

use actix_web::web;
use schemars::JsonSchema;
use serde::Deserialize;

use super::place::{TenantQuery, apart, lease_seconds, maybe_name, name, tenant_of};
use crate::{
    contract::{HeldKey, KeyStatus, MarkStatus, Marked},
    event::{Key, dedup_key},
    http::{
        answer::Exact,
        error::{About, ApiError},
        object::Object,
        tokens::Grant,
    },
    ledger::Ledger,
    settings::Period,
    store::dedup::{self, Held, Mark, NewMark},
};

const KEY_BYTES_MAX: usize = 4096;

type Scope = web::Path<String>;

/// Runs a call about a key. A refusal names the key, and the claim id of the call.
async fn of_key<T>(
    (scope, key): (&str, &str),
    claim_id: Option<&str>,
    call: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let about = || About::Key {
        scope: scope.to_owned(),
        key: key.to_owned(),
    };
    call.await
        .map_err(|error| error.about(about(), claim_id.map(str::to_owned)))
}

fn key_of(grant: &Grant, query: TenantQuery, scope: &str, key: &str) -> Result<Key, ApiError> {
    let tenant = tenant_of(grant, query.tenant)?;
    name("scope", scope)?;
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(ApiError::InvalidParameter(format!(
            "key: 1 to {KEY_BYTES_MAX} bytes"
        )));
    }
    Ok(dedup_key(&tenant, scope, key))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MarkBody {
    key: String,
    window: Period,
    lease_ms: Option<u64>,
    claim_id: Option<String>,
}

pub async fn mark(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    scope: Scope,
    query: web::Query<TenantQuery>,
    web::Json(Object(body)): web::Json<Object<MarkBody>>,
) -> Result<Exact<Marked>, ApiError> {
    of_key((&scope, &body.key), body.claim_id.as_deref(), async {
        let key = key_of(&grant, query.into_inner(), &scope, &body.key)?;
        let mark = new_mark(&ledger, key, &body)?;
        let marked = Marked {
            claim_id: mark.claim_id.clone(),
            fence: None,
            first_at: None,
            key: body.key.clone(),
            lease_until: None,
            scope: scope.clone(),
            status: MarkStatus::First,
        };
        match ledger.mark(mark).await? {
            Mark::First {
                fence,
                lease_until: Some(until),
            } => Ok(Exact(Marked {
                fence: Some(fence),
                lease_until: Some(until.into()),
                ..marked
            })),
            Mark::First { .. } => Ok(Exact(marked)),
            Mark::Seen { at } => Ok(Exact(Marked {
                first_at: Some(at.into()),
                status: MarkStatus::Seen,
                ..marked
            })),
            Mark::Leased { seconds } => Err(ApiError::KeyLeased {
                lease_left_seconds: seconds,
            }),
        }
    })
    .await
}

fn new_mark(ledger: &Ledger, key: Key, body: &MarkBody) -> Result<NewMark, ApiError> {
    maybe_name("claim_id", body.claim_id.as_deref())?;
    let lease = body
        .lease_ms
        .map(|lease_ms| lease_seconds(ledger, Some(lease_ms)))
        .transpose()?;
    let window = body.window.as_secs_f64();
    let window_max = ledger.settings.load().ledger.window_max;
    if body.window > window_max || window <= lease.unwrap_or_default() {
        return Err(ApiError::InvalidParameter(format!(
            "window: longer than the lease and at most {window_max} (ledger.window_max)"
        )));
    }
    Ok(NewMark {
        key,
        claim_id: body.claim_id.clone().unwrap_or_else(dedup::claim_id),
        lease_seconds: lease,
        window_seconds: window,
    })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyHeartbeatBody {
    key: String,
    fence: i64,
    lease_ms: Option<u64>,
    /// Refusals name it.
    claim_id: Option<String>,
}

pub async fn heartbeat(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    scope: Scope,
    query: web::Query<TenantQuery>,
    web::Json(Object(body)): web::Json<Object<KeyHeartbeatBody>>,
) -> Result<Exact<HeldKey>, ApiError> {
    of_key((&scope, &body.key), body.claim_id.as_deref(), async {
        let key = key_of(&grant, query.into_inner(), &scope, &body.key)?;
        let (fence, lease) = (body.fence, lease_seconds(&ledger, body.lease_ms)?);
        let pool = ledger.pool.clone();
        let held = apart(async move { dedup::heartbeat(&pool, key, fence, lease).await }).await?;
        still_held(held, (&scope, &body.key), fence, KeyStatus::Leased)
    })
    .await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldBody {
    key: String,
    fence: i64,
    /// Refusals name it.
    claim_id: Option<String>,
}

pub async fn release(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    scope: Scope,
    query: web::Query<TenantQuery>,
    web::Json(Object(body)): web::Json<Object<HeldBody>>,
) -> Result<Exact<HeldKey>, ApiError> {
    of_key((&scope, &body.key), body.claim_id.as_deref(), async {
        let key = key_of(&grant, query.into_inner(), &scope, &body.key)?;
        let (pool, fence) = (ledger.pool.clone(), body.fence);
        let held = apart(async move { dedup::release(&pool, key, fence).await }).await?;
        still_held(held, (&scope, &body.key), fence, KeyStatus::Released)
    })
    .await
}

pub async fn done(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    scope: Scope,
    query: web::Query<TenantQuery>,
    web::Json(Object(body)): web::Json<Object<HeldBody>>,
) -> Result<Exact<HeldKey>, ApiError> {
    of_key((&scope, &body.key), body.claim_id.as_deref(), async {
        let key = key_of(&grant, query.into_inner(), &scope, &body.key)?;
        let (pool, fence) = (ledger.pool.clone(), body.fence);
        let held = apart(async move { dedup::done(&pool, key, fence).await }).await?;
        still_held(held, (&scope, &body.key), fence, KeyStatus::Done)
    })
    .await
}

/// The answer to the holder of a key, or the refusal if its fence has moved.
fn still_held(
    held: Option<Held>,
    (scope, key): (&str, &str),
    fence: i64,
    status: KeyStatus,
) -> Result<Exact<HeldKey>, ApiError> {
    let held = held.ok_or(ApiError::StaleKeyFence(fence))?;
    Ok(Exact(HeldKey {
        claim_id: held.claim_id,
        fence,
        key: key.to_owned(),
        lease_until: held
            .lease_until
            .filter(|_| status == KeyStatus::Leased)
            .map(Into::into),
        scope: scope.to_owned(),
        status,
    }))
}
