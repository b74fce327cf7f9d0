//! Steps of all tenants and runs, for operators. The routes for one step, for a run and for changes
//! are the ledger's, under `/v1`.

use actix_web::web;
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    contract::{Page, Step, StepState},
    http::{
        admin::parameters::{id_at, next, page_rows},
        answer::Answer,
        error::ApiError,
        ledger::step_of,
        state::AdminState,
    },
    ids,
    store::step::{self, StepFilter},
};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    tenant: Option<String>,
    run: Option<String>,
    #[schemars(with = "Option<StepState>")]
    status: Option<String>,
    since: Option<String>,
    cursor: Option<Uuid>,
    limit: Option<u32>,
}

pub async fn list(
    state: web::Data<AdminState>,
    query: web::Query<ListQuery>,
) -> Result<Answer<Page<Step>>, ApiError> {
    let query = query.into_inner();
    let limit = page_rows(query.limit)?;
    let status = query.status.as_deref().map(state_of).transpose()?;
    let filter = StepFilter {
        tenant: query.tenant,
        run: query.run,
        state: status,
        from: query
            .since
            .map(|since| id_at("since", &since, ids::unix_ms()))
            .transpose()?,
        below: query.cursor,
    };
    let rows = step::steps(&state.pool, &filter, limit).await?;
    let next = next(&rows, limit, |row| row.id.0);
    Ok(Answer(Page {
        items: rows.into_iter().map(step_of).collect(),
        next,
    }))
}

fn state_of(status: &str) -> Result<StepState, ApiError> {
    StepState::parse(status).ok_or_else(|| {
        let words: Vec<&str> = StepState::ALL.iter().map(|state| state.as_str()).collect();
        ApiError::InvalidParameter(format!(
            "status: {status:?} is none of {}",
            words.join(", ")
        ))
    })
}
