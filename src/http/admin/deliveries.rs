//! Deliveries: list, one with its attempts, retry, cancel.

use actix_web::web;
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    contract::{Attempt, Delivery, DeliveryState, Page, ReplayId, WholeDelivery, text_or_base64},
    http::{
        admin::parameters::{next, page_rows},
        answer::{Answer, Exact},
        error::ApiError,
        state::AdminState,
        tokens::Grant,
    },
    store::{
        delivery,
        search::{self, AttemptRow, DeliveryFilter, DeliveryRow},
    },
};

/// How many attempts are shown with one delivery.
const ATTEMPTS_MAX: i64 = 200;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    state: Option<DeliveryState>,
    destination: Option<String>,
    source: Option<String>,
    event: Option<Uuid>,
    cursor: Option<Uuid>,
    limit: Option<u32>,
}

impl From<DeliveryRow> for Delivery {
    fn from(row: DeliveryRow) -> Self {
        Self {
            id: row.id,
            event: row.event,
            source: row.source,
            destination: row.destination,
            state: row.state,
            attempts: row.attempts,
            replay: row.replay.map(ReplayId),
            created_at: row.created_at.into(),
            due_at: row.due_at.map(Into::into),
            ended_at: row.ended_at.map(Into::into),
        }
    }
}

pub async fn list(
    state: web::Data<AdminState>,
    query: web::Query<ListQuery>,
) -> Result<Answer<Page<Delivery>>, ApiError> {
    let query = query.into_inner();
    let limit = page_rows(query.limit)?;
    let filter = DeliveryFilter {
        state: query.state,
        destination: query.destination,
        source: query.source,
        event: query.event,
        below: query.cursor,
    };
    let deliveries = search::deliveries(&state.pool, &filter, limit).await?;
    let next = next(&deliveries, limit, |delivery| delivery.id.0);
    Ok(Answer(Page {
        items: deliveries.into_iter().map(Delivery::from).collect(),
        next,
    }))
}

pub async fn show(
    state: web::Data<AdminState>,
    grant: web::ReqData<Grant>,
    id: web::Path<Uuid>,
) -> Result<Answer<WholeDelivery>, ApiError> {
    let delivery = Delivery::from(find(&state, *id).await?);
    // The answer of a URL that a caller named may say more than a token that may only read is to
    // see.
    let shows_response = grant.operate
        || state
            .settings
            .load()
            .destinations
            .contains_key(&delivery.destination);
    let attempts = search::attempts(&state.pool, *id, ATTEMPTS_MAX).await?;
    let Delivery {
        id,
        event,
        source,
        destination,
        state,
        replay,
        created_at,
        due_at,
        ended_at,
        ..
    } = delivery;
    let attempts = attempts
        .into_iter()
        .map(|attempt| attempt_of(attempt, shows_response))
        .collect();
    Ok(Answer(WholeDelivery {
        id,
        event,
        source,
        destination,
        state,
        attempts,
        replay,
        created_at,
        due_at,
        ended_at,
    }))
}

fn attempt_of(row: AttemptRow, shows_response: bool) -> Attempt {
    let shown = row.response.filter(|_| shows_response).map(text_or_base64);
    let (response, response_base64) = shown.unwrap_or_default();
    Attempt {
        number: row.number,
        started_at: row.started_at.into(),
        latency_ms: row.latency_ms,
        outcome: row.outcome,
        status: row.status,
        error: row.error,
        detail: row.detail,
        response,
        response_base64,
    }
}

pub async fn retry(
    state: web::Data<AdminState>,
    id: web::Path<Uuid>,
) -> Result<Exact<Delivery>, ApiError> {
    if !delivery::retry(&state.pool, *id).await? {
        let delivery = find(&state, *id).await?;
        return Err(match delivery.state {
            DeliveryState::Leased => ApiError::Conflict {
                kind: "delivery-leased",
                detail: format!("delivery {id} is being tried right now"),
            },
            _ => ApiError::Gone(format!(
                "the event {} of delivery {id} is no longer kept, so there is nothing to send",
                delivery.event
            )),
        });
    }
    state.hint.notify_one();
    Ok(Exact(find(&state, *id).await?.into()))
}

pub async fn cancel(
    state: web::Data<AdminState>,
    id: web::Path<Uuid>,
) -> Result<Exact<Delivery>, ApiError> {
    if !delivery::cancel(&state.pool, *id).await? {
        let delivery = find(&state, *id).await?;
        return Err(ApiError::Conflict {
            kind: "delivery-ended",
            detail: format!("delivery {id} has ended already: it is {}", delivery.state),
        });
    }
    Ok(Exact(find(&state, *id).await?.into()))
}

async fn find(state: &AdminState, id: Uuid) -> Result<DeliveryRow, ApiError> {
    search::delivery(&state.pool, id)
        .await?
        .ok_or_else(|| ApiError::NotFound(format!("there is no delivery {id}")))
}
