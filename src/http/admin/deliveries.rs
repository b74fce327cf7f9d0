//! Deliveries: list, one with its attempts, retry, cancel.

use actix_web::{HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::{
    http::{
        admin::{
            events::text_or_base64,
            parameters::{next, page_rows},
        },
        error::ApiError,
        state::AdminState,
        tokens::Grant,
    },
    store::{
        delivery,
        search::{self, AttemptRow, DeliveryFilter, DeliveryRow},
    },
};

/// Attempts shown with one delivery.
const ATTEMPTS_MAX: i64 = 200;

#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    Pending,
    Paused,
    Leased,
    Delivered,
    Dead,
    Cancelled,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Paused => "paused",
            Self::Leased => "leased",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    state: Option<State>,
    destination: Option<String>,
    source: Option<String>,
    event: Option<Uuid>,
    cursor: Option<Uuid>,
    limit: Option<u32>,
}

pub async fn list(state: web::Data<AdminState>, query: web::Query<ListQuery>) -> Result<HttpResponse, ApiError> {
    let query = query.into_inner();
    let limit = page_rows(query.limit)?;
    let filter = DeliveryFilter {
        state: query.state.map(|state| state.as_str().to_owned()),
        destination: query.destination,
        source: query.source,
        event: query.event,
        below: query.cursor,
    };
    let deliveries = search::deliveries(&state.pool, &filter, limit).await?;
    let next = next(&deliveries, limit, |delivery| delivery.id);
    Ok(HttpResponse::Ok().json(json!({ "items": deliveries, "next": next })))
}

pub async fn show(state: web::Data<AdminState>, grant: web::ReqData<Grant>, id: web::Path<Uuid>) -> Result<HttpResponse, ApiError> {
    let delivery = find(&state, *id).await?;
    // What a URL that somebody named has answered may be more than who may only look is to see.
    let shows_response = grant.operate || state.settings.load().destinations.contains_key(&delivery.destination);
    let attempts = search::attempts(&state.pool, *id, ATTEMPTS_MAX).await?;
    let mut answer = json!(delivery);
    answer["attempts"] = attempts.into_iter().map(|attempt| attempt_json(attempt, shows_response)).collect();
    Ok(HttpResponse::Ok().json(answer))
}

fn attempt_json(attempt: AttemptRow, shows_response: bool) -> Value {
    let mut json = json!({
        "number": attempt.number,
        "started_at": attempt.started_at.format(&Rfc3339).unwrap_or_default(),
        "latency_ms": attempt.latency_ms,
        "outcome": attempt.outcome,
        "status": attempt.status,
        "error": attempt.error,
        "detail": attempt.detail,
    });
    if let Some(response) = attempt.response.filter(|_| shows_response) {
        let (name, response) = text_or_base64("response", response);
        json[name] = response.into();
    }
    json
}

pub async fn retry(state: web::Data<AdminState>, id: web::Path<Uuid>) -> Result<HttpResponse, ApiError> {
    if !delivery::retry(&state.pool, *id).await? {
        let delivery = find(&state, *id).await?;
        return Err(match delivery.state.as_str() {
            "leased" => ApiError::Conflict { kind: "delivery-leased", detail: format!("delivery {id} is being tried right now") },
            _ => ApiError::Gone(format!("the event {} of delivery {id} is no longer kept, so there is nothing to send", delivery.event)),
        });
    }
    state.hint.notify_one();
    Ok(HttpResponse::Ok().json(find(&state, *id).await?))
}

pub async fn cancel(state: web::Data<AdminState>, id: web::Path<Uuid>) -> Result<HttpResponse, ApiError> {
    if !delivery::cancel(&state.pool, *id).await? {
        let delivery = find(&state, *id).await?;
        return Err(ApiError::Conflict {
            kind: "delivery-ended",
            detail: format!("delivery {id} has ended already: it is {}", delivery.state),
        });
    }
    Ok(HttpResponse::Ok().json(find(&state, *id).await?))
}

async fn find(state: &AdminState, id: Uuid) -> Result<DeliveryRow, ApiError> {
    search::delivery(&state.pool, id).await?.ok_or_else(|| ApiError::NotFound(format!("there is no delivery {id}")))
}
