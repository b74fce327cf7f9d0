//! Dedup for consumers: the first to bring a key handles it. Without a lease a key is marked before
//! it is handled, so a crash between the two loses it. Under a lease the key becomes free again
//! unless somebody says that it is done.

use actix_web::web;
use schemars::JsonSchema;
use serde::Deserialize;

use super::place::{TenantQuery, apart, lease_seconds, name, tenant_of};
use crate::{
    contract::{DedupDone, Done, MarkStatus, Marked},
    event::{Key, dedup_key},
    http::{answer::Exact, error::ApiError, object::Object, tokens::Grant},
    ledger::Ledger,
    settings::Period,
    store::dedup::{self, Mark, NewMark},
};

const KEY_BYTES_MAX: usize = 4096;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MarkBody {
    key: String,
    window: Period,
    lease_ms: Option<u64>,
    claim_id: Option<String>,
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

pub async fn mark(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    scope: web::Path<String>,
    query: web::Query<TenantQuery>,
    web::Json(Object(body)): web::Json<Object<MarkBody>>,
) -> Result<Exact<Marked>, ApiError> {
    let key = key_of(&grant, query.into_inner(), &scope, &body.key)?;
    body.claim_id
        .as_deref()
        .map(|id| name("claim_id", id))
        .transpose()?;
    let lease = body
        .lease_ms
        .map(|lease_ms| lease_seconds(&ledger, lease_ms))
        .transpose()?;
    let window = body.window.as_secs_f64();
    let window_max = ledger.settings.load().ledger.window_max;
    if body.window > window_max || window <= lease.unwrap_or_default() {
        return Err(ApiError::InvalidParameter(format!(
            "window: longer than the lease and at most {window_max} (ledger.window_max)"
        )));
    }
    let claim_id = body.claim_id.unwrap_or_else(dedup::claim_id);
    let mark = NewMark {
        key,
        claim_id,
        lease_seconds: lease,
        window_seconds: window,
    };
    let marked = |status| Marked {
        fence: None,
        first_at: None,
        lease_until: None,
        status,
    };
    match ledger.mark(mark).await? {
        Mark::First {
            fence,
            lease_until: Some(until),
        } => Ok(Exact(Marked {
            fence: Some(fence),
            lease_until: Some(until.into()),
            ..marked(MarkStatus::First)
        })),
        Mark::First { .. } => Ok(Exact(marked(MarkStatus::First))),
        Mark::Seen { at } => Ok(Exact(Marked {
            first_at: Some(at.into()),
            ..marked(MarkStatus::Seen)
        })),
        Mark::Leased { seconds } => Err(ApiError::KeyLeased {
            lease_left_seconds: seconds,
        }),
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DoneBody {
    key: String,
    fence: i64,
}

pub async fn done(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    scope: web::Path<String>,
    query: web::Query<TenantQuery>,
    web::Json(Object(body)): web::Json<Object<DoneBody>>,
) -> Result<Exact<DedupDone>, ApiError> {
    let key = key_of(&grant, query.into_inner(), &scope, &body.key)?;
    let (pool, fence) = (ledger.pool.clone(), body.fence);
    if apart(async move { dedup::done(&pool, key, fence).await }).await? {
        Ok(Exact(DedupDone { status: Done::Done }))
    } else {
        Err(ApiError::StaleKeyFence(fence))
    }
}
