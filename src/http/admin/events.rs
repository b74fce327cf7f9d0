//! Events: list, one with all about it, its exact body.

use actix_web::{HttpResponse, http::header, web};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::{
    event::TypeGlob,
    http::{
        admin::parameters::{Window, next, page_rows},
        error::ApiError,
        state::AdminState,
    },
    ids,
    store::{
        conflict::{self, ConflictFilter},
        search::{self, DeliveryFilter, EventFilter},
    },
};

/// Conflicts and deliveries shown with one event.
const PARTS_MAX: i64 = 200;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    source: Option<String>,
    r#type: Option<String>,
    since: Option<String>,
    until: Option<String>,
    cursor: Option<Uuid>,
    limit: Option<u32>,
}

pub async fn list(state: web::Data<AdminState>, query: web::Query<ListQuery>) -> Result<HttpResponse, ApiError> {
    let query = query.into_inner();
    let limit = page_rows(query.limit)?;
    let Window { from, below } = Window::new(query.since.as_deref(), query.until.as_deref(), query.cursor, ids::unix_ms())?;
    let type_like = query.r#type.map(|pattern| TypeGlob::new(pattern).to_like());
    let filter = EventFilter { source: query.source, type_like, from, below };
    let events = search::events(&state.pool, &filter, limit).await?;
    let next = next(&events, limit, |event| event.id);
    Ok(HttpResponse::Ok().json(json!({ "items": events, "next": next })))
}

pub async fn show(state: web::Data<AdminState>, id: web::Path<Uuid>) -> Result<HttpResponse, ApiError> {
    let event = find(&state, *id).await?;
    let of_it = ConflictFilter { event: Some(*id), ..ConflictFilter::default() };
    let conflicts = conflict::list(&state.pool, &of_it, PARTS_MAX).await?;
    let filter = DeliveryFilter { event: Some(*id), ..DeliveryFilter::default() };
    let deliveries = search::deliveries(&state.pool, &filter, PARTS_MAX).await?;
    let headers: serde_json::Value = serde_json::from_str(&event.headers).unwrap_or_default();
    let mut answer = json!({
        "id": event.id,
        "source": event.source,
        "event_type": event.event_type,
        "event_key": event.event_key,
        "received_at": event.received_at.format(&Rfc3339).unwrap_or_default(),
        "headers": headers,
        "body_digest": hex::encode(&event.body_digest),
        "body_bytes": event.body.len(),
        "mark": event.mark,
        "conflicts": conflicts,
        "deliveries": deliveries,
    });
    if let Some(original) = original(&state, event.original_id).await? {
        answer["original"] = json!({
            "items": original.items,
            "body_bytes": original.body.len(),
            "body_digest": hex::encode(&original.body_digest),
        });
    }
    if let Some(why) = type_dropped(&state, &event) {
        answer["type_dropped"] = why.into();
    }
    let (name, body) = text_or_base64("body", event.body);
    answer[name] = body.into();
    Ok(HttpResponse::Ok().json(answer))
}

/// Why the event has no type though its request said one, as its source would tell by now.
fn type_dropped(state: &AdminState, event: &search::WholeEvent) -> Option<&'static str> {
    let sources = state.intake.sources.load();
    let source = sources.get(&event.source).filter(|_| event.event_type.is_none())?;
    source.verifier.told_of_stored(&event.headers, event.body.clone().into(), event.original_id.is_some())?.type_dropped()
}

/// Bytes for JSON: as text under `name` where they are UTF-8, else in base64 under `name_base64`.
pub(super) fn text_or_base64(name: &str, bytes: Vec<u8>) -> (String, String) {
    match String::from_utf8(bytes) {
        Ok(text) => (name.to_owned(), text),
        Err(error) => (format!("{name}_base64"), BASE64_STANDARD.encode(error.as_bytes())),
    }
}

/// The exact bytes. Never as the type they were sent with: a browser must not run what a stranger sent.
pub async fn body(state: web::Data<AdminState>, id: web::Path<Uuid>) -> Result<HttpResponse, ApiError> {
    let event = find(&state, *id).await?;
    Ok(bytes(*id, event.body))
}

/// The body of the request that the event came in: its own, or where that was split, the whole.
pub async fn original_body(state: web::Data<AdminState>, id: web::Path<Uuid>) -> Result<HttpResponse, ApiError> {
    let event = find(&state, *id).await?;
    let body = original(&state, event.original_id).await?.map_or(event.body, |original| original.body);
    Ok(bytes(*id, body))
}

async fn original(state: &AdminState, id: Option<Uuid>) -> Result<Option<search::WholeOriginal>, ApiError> {
    match id {
        Some(id) => Ok(search::original(&state.pool, id).await?),
        None => Ok(None),
    }
}

fn bytes(id: Uuid, body: Vec<u8>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "application/octet-stream"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"{id}\"")))
        .body(body)
}

async fn find(state: &AdminState, id: Uuid) -> Result<search::WholeEvent, ApiError> {
    search::event(&state.pool, id).await?.ok_or_else(|| ApiError::NotFound(format!("there is no event {id}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_not_text_is_base64() {
        assert_eq!(text_or_base64("body", b"{}".to_vec()), ("body".into(), "{}".into()));
        assert_eq!(text_or_base64("body", vec![0xff]), ("body_base64".into(), "/w==".into()));
    }
}
