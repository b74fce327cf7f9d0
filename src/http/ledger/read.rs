//! Reads steps: one, or a whole run in one call, for a worker that resumes it.

use actix_web::web;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::place::{TenantQuery, claim_id_of, name, no_step, of_step, place_of, tenant_of};
use crate::{
    contract::{Page, Run, Runs, Step, StepCounts, WholeStep},
    http::{answer::Exact, error::ApiError, tokens::Grant},
    ids,
    ledger::{Ledger, request_of},
    store::step::{self, RunRow, StepRow},
};

const PAGE_STEPS_MAX: u32 = 1000;
const PAGE_RUNS: u32 = 50;
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
        claim_id: claim_id_of(row.claim_id),
        claimed_at: row.claimed_at.into(),
        effect_key: row.id,
        ended_at: row.ended_at.map(Into::into),
        fence: row.fence,
        input_hash: row.input_hash,
        lease_until: row.lease_until.map(Into::into),
        on_lost: row.on_lost,
        owner: row.owner,
        request: request_of(row.about.as_deref(), row.claimed_at.into()),
        run: row.run,
        status: row.state,
        step: row.step,
        tenant: Some(row.tenant).filter(|tenant| !tenant.is_empty()),
    }
}

/// The whole step, with result and evidence as they were sent.
fn whole(mut row: StepRow) -> WholeStep {
    let raw = |text: Option<String>| text.and_then(|text| RawValue::from_string(text).ok());
    WholeStep {
        result: raw(row.result.take()),
        result_not_kept: raw(row.result_not_kept.take()),
        error: raw(row.error.take()),
        evidence: raw(row.evidence.take()),
        step: step_of(row),
    }
}

pub async fn step(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    path: web::Path<(String, String)>,
    query: web::Query<TenantQuery>,
) -> Result<Exact<WholeStep>, ApiError> {
    of_step(&path, None, async {
        let (_, place) = place_of(&tenant_of(&grant, query.into_inner().tenant)?, &path)?;
        match step::step(&ledger.pool, &place).await? {
            Some(row) => Ok(Exact(whole(row))),
            None => Err(no_step(&path.0, &path.1)),
        }
    })
    .await
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
    let limit = limit_of(query.limit, PAGE_STEPS_MAX)?;
    let read = async |after, limit, bytes_max| {
        step::run_steps(&ledger.pool, (&tenant, &run), after, limit, bytes_max).await
    };
    // One row more than asked for shows whether there are more.
    let mut rows = read(query.cursor, limit + 1, PAGE_BYTES_MAX).await?;
    let is_full = i64::try_from(rows.len()) == Ok(limit + 1);
    if is_full {
        rows.pop();
    }
    let last = rows.last().map(|row| row.id.0);
    // If the bound of bytes may have ended the page, a look behind it shows whether there are more.
    let next = match last {
        Some(last) if is_full || !read(Some(last), 1, 0).await?.is_empty() => Some(last),
        _ => None,
    };
    Ok(Exact(Page {
        items: rows.into_iter().map(whole).collect(),
        next,
    }))
}

fn limit_of(limit: Option<u32>, default: u32) -> Result<i64, ApiError> {
    match limit.unwrap_or(default) {
        limit @ 1..=PAGE_STEPS_MAX => Ok(i64::from(limit)),
        limit => Err(ApiError::InvalidParameter(format!(
            "limit: {limit} is not between 1 and {PAGE_STEPS_MAX}"
        ))),
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunsQuery {
    tenant: Option<String>,
    /// What the names begin with.
    #[serde(default)]
    prefix: String,
    /// The last name of the page before.
    cursor: Option<String>,
    limit: Option<u32>,
}

/// Lists the tenant's runs by name.
pub async fn runs(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    query: web::Query<RunsQuery>,
) -> Result<Exact<Runs>, ApiError> {
    let query = query.into_inner();
    let tenant = tenant_of(&grant, query.tenant)?;
    if !query.prefix.is_empty() {
        name("prefix", &query.prefix)?;
    }
    query
        .cursor
        .as_deref()
        .map(|run| name("cursor", run))
        .transpose()?;
    let limit = limit_of(query.limit, PAGE_RUNS)?;
    let after = query.cursor.as_deref();
    let rows = step::runs(&ledger.pool, &tenant, &query.prefix, after, limit).await?;
    // A page that counted many steps ends early, so a look behind it shows whether there are more.
    let last = rows.last().map(|row| row.run.clone());
    let next = match &last {
        Some(last)
            if !step::runs(&ledger.pool, &tenant, &query.prefix, Some(last), 1)
                .await?
                .is_empty() =>
        {
            Some(last.clone())
        }
        _ => None,
    };
    let tenant = Some(&*tenant).filter(|tenant| !tenant.is_empty());
    Ok(Exact(Runs {
        items: rows.into_iter().map(|row| run_of(row, tenant)).collect(),
        next,
    }))
}

fn run_of(row: RunRow, tenant: Option<&str>) -> Run {
    Run {
        tenant: tenant.map(str::to_owned),
        steps: StepCounts {
            running: row.running,
            unknown: row.unknown,
            released: row.released,
            done: row.done,
            failed: row.failed,
        },
        first_at: ids::time_of(row.first_id).unwrap_or(row.last_at).into(),
        last_at: row.last_at.into(),
        run: row.run,
    }
}
