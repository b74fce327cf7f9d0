//! Steps as they are: one, or a whole run in one call, for whoever resumes it.

use actix_web::{HttpResponse, web};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::place::{TenantQuery, name, place_of, tenant_of};
use crate::{
    event::run_key,
    http::{error::ApiError, tokens::Grant},
    ledger::Ledger,
    store::step::{self, StepRow},
};

const PAGE_STEPS_MAX: u32 = 1000;
/// Results of one page.
const PAGE_BYTES_MAX: i64 = 16 << 20;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunQuery {
    tenant: Option<String>,
    cursor: Option<Uuid>,
    limit: Option<u32>,
}

/// All but the texts that are JSON themselves.
pub fn step_json(row: &StepRow) -> Value {
    let time = |at: Option<OffsetDateTime>| at.and_then(|at| at.format(&Rfc3339).ok());
    json!({
        "effect_key": row.id,
        "tenant": if row.tenant.is_empty() { Value::Null } else { row.tenant.as_str().into() },
        "run": row.run,
        "step": row.step,
        "status": row.state,
        "fence": row.fence,
        "attempt": row.attempt,
        "owner": row.owner,
        "on_lost": row.on_lost,
        "input_hash": row.input_hash,
        "claimed_at": time(Some(row.claimed_at)),
        "lease_until": time(row.lease_until),
        "ended_at": time(row.ended_at),
    })
}

/// The whole, with result and evidence as they were sent.
#[derive(serde::Serialize)]
struct Whole {
    #[serde(flatten)]
    known: Value,
    result: Option<Box<RawValue>>,
    evidence: Option<Box<RawValue>>,
}

fn whole(row: StepRow) -> Whole {
    let raw = |text: Option<String>| text.and_then(|text| RawValue::from_string(text).ok());
    Whole { known: step_json(&row), result: raw(row.result), evidence: raw(row.evidence) }
}

pub async fn step(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    path: web::Path<(String, String)>,
    query: web::Query<TenantQuery>,
) -> Result<HttpResponse, ApiError> {
    let (_, place) = place_of(&tenant_of(&grant, query.into_inner().tenant)?, &path)?;
    match step::step(&ledger.pool, &place).await? {
        Some(row) => Ok(HttpResponse::Ok().json(whole(row))),
        None => Err(ApiError::NotFound(format!("run {:?} has no step {:?}", path.0, path.1))),
    }
}

/// A run that nobody has begun has no steps: that is no error for who resumes it.
pub async fn run(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    path: web::Path<String>,
    query: web::Query<RunQuery>,
) -> Result<HttpResponse, ApiError> {
    let query = query.into_inner();
    let tenant = tenant_of(&grant, query.tenant)?;
    let run = name("run", &path)?;
    let limit = match query.limit.unwrap_or(PAGE_STEPS_MAX) {
        limit @ 1..=PAGE_STEPS_MAX => i64::from(limit),
        limit => return Err(ApiError::InvalidParameter(format!("limit: {limit} is not between 1 and {PAGE_STEPS_MAX}"))),
    };
    // One more than asked for tells whether there is more; a page that its bytes have ended is found by looking behind it.
    let rows = step::run_steps(&ledger.pool, run_key(&tenant, &run), query.cursor, limit, PAGE_BYTES_MAX).await?;
    let last = rows.last().map(|row| row.id);
    let next = match last {
        Some(last) if !step::run_steps(&ledger.pool, run_key(&tenant, &run), Some(last), 1, 0).await?.is_empty() => Some(last),
        _ => None,
    };
    let items: Vec<Whole> = rows.into_iter().map(whole).collect();
    Ok(HttpResponse::Ok().json(Page { items, next }))
}

#[derive(serde::Serialize)]
struct Page {
    items: Vec<Whole>,
    next: Option<Uuid>,
}
