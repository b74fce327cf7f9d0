//! Reads steps: one, or a whole run in one call, for a worker that resumes it.

use actix_web::web;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::place::{TenantQuery, name, place_of, tenant_of};
use crate::{
    contract::{Page, Step, WholeStep},
    event::run_key,
    http::{answer::Exact, error::ApiError, tokens::Grant},
    ledger::Ledger,
    store::step::{self, StepRow},
};

const PAGE_STEPS_MAX: u32 = 1000;
/// How many bytes of results one page has at most.
const PAGE_BYTES_MAX: i64 = 16 << 20;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunQuery {
    tenant: Option<String>,
    cursor: Option<Uuid>,
    limit: Option<u32>,
}

/// The step without the texts that are JSON themselves.
pub fn step_of(row: StepRow) -> Step {
    Step {
        attempt: row.attempt,
        claimed_at: row.claimed_at.into(),
        effect_key: row.id,
        ended_at: row.ended_at.map(Into::into),
        fence: row.fence,
        input_hash: row.input_hash,
        lease_until: row.lease_until.map(Into::into),
        on_lost: row.on_lost,
        owner: row.owner,
        run: row.run,
        status: row.state,
        step: row.step,
        tenant: Some(row.tenant).filter(|tenant| !tenant.is_empty()),
    }
}

/// The whole step, with result and evidence as they were sent.
fn whole(mut row: StepRow) -> WholeStep {
    let raw = |text: Option<String>| text.and_then(|text| RawValue::from_string(text).ok());
    let (result, evidence) = (raw(row.result.take()), raw(row.evidence.take()));
    WholeStep {
        step: step_of(row),
        result,
        evidence,
    }
}

pub async fn step(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    path: web::Path<(String, String)>,
    query: web::Query<TenantQuery>,
) -> Result<Exact<WholeStep>, ApiError> {
    let (_, place) = place_of(&tenant_of(&grant, query.into_inner().tenant)?, &path)?;
    match step::step(&ledger.pool, &place).await? {
        Some(row) => Ok(Exact(whole(row))),
        None => Err(ApiError::NotFound(format!(
            "run {:?} has no step {:?}",
            path.0, path.1
        ))),
    }
}

/// Lists a run's steps. A run that nobody has begun has none, which is no error for a worker that
/// resumes it.
pub async fn run(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    path: web::Path<String>,
    query: web::Query<RunQuery>,
) -> Result<Exact<Page<WholeStep>>, ApiError> {
    let query = query.into_inner();
    let tenant = tenant_of(&grant, query.tenant)?;
    let run = name("run", &path)?;
    let limit = match query.limit.unwrap_or(PAGE_STEPS_MAX) {
        limit @ 1..=PAGE_STEPS_MAX => i64::from(limit),
        limit => {
            return Err(ApiError::InvalidParameter(format!(
                "limit: {limit} is not between 1 and {PAGE_STEPS_MAX}"
            )));
        }
    };
    // One row more than asked for shows whether there are more. If the bound of bytes ended the
    // page, a look behind it shows that.
    let rows = step::run_steps(
        &ledger.pool,
        run_key(&tenant, &run),
        query.cursor,
        limit,
        PAGE_BYTES_MAX,
    )
    .await?;
    let last = rows.last().map(|row| row.id.0);
    let next = match last {
        Some(last)
            if !step::run_steps(&ledger.pool, run_key(&tenant, &run), Some(last), 1, 0)
                .await?
                .is_empty() =>
        {
            Some(last)
        }
        _ => None,
    };
    Ok(Exact(Page {
        items: rows.into_iter().map(whole).collect(),
        next,
    }))
}
