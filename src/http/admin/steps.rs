//! Steps of all tenants and runs, for operators. One step, a run and what changes a step are the ledger's own, under `/v1`.

use actix_web::{HttpResponse, web};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    http::{
        admin::parameters::{id_at, next, page_rows},
        error::ApiError,
        ledger::step_json,
        state::AdminState,
    },
    ids,
    store::step::{self, StepFilter},
};

const STATUSES: [&str; 5] = ["running", "unknown", "released", "done", "failed"];

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    tenant: Option<String>,
    run: Option<String>,
    status: Option<String>,
    since: Option<String>,
    cursor: Option<Uuid>,
    limit: Option<u32>,
}

pub async fn list(state: web::Data<AdminState>, query: web::Query<ListQuery>) -> Result<HttpResponse, ApiError> {
    let query = query.into_inner();
    let limit = page_rows(query.limit)?;
    if let Some(status) = query.status.as_deref().filter(|status| !STATUSES.contains(status)) {
        return Err(ApiError::InvalidParameter(format!("status: {status:?} is none of {}", STATUSES.join(", "))));
    }
    let filter = StepFilter {
        tenant: query.tenant,
        run: query.run,
        state: query.status,
        from: query.since.map(|since| id_at("since", &since, ids::unix_ms())).transpose()?,
        below: query.cursor,
    };
    let rows = step::steps(&state.pool, &filter, limit).await?;
    let next = next(&rows, limit, |row| row.id);
    let items: Vec<Value> = rows.iter().map(step_json).collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": next })))
}
