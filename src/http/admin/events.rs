//! Events: list, show one with all that belongs to it, give its exact body.

use actix_web::web;
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    contract::{Conflict, Delivery, Event, Original, Page, WholeEvent, text_or_base64},
    event::TypeGlob,
    http::{
        admin::parameters::{Window, next, page_rows},
        answer::{Answer, Octets},
        error::ApiError,
        state::AdminState,
    },
    ids,
    store::{
        conflict::{self, ConflictFilter},
        search::{self, DeliveryFilter, EventFilter, EventRow},
    },
};

/// How many conflicts and deliveries are shown with one event.
const PARTS_MAX: i64 = 200;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    source: Option<String>,
    r#type: Option<String>,
    /// The event key, whole. It finds what was recorded under it for as long as the key is
    /// remembered.
    key: Option<String>,
    since: Option<String>,
    until: Option<String>,
    cursor: Option<Uuid>,
    limit: Option<u32>,
}

impl From<EventRow> for Event {
    fn from(row: EventRow) -> Self {
        let EventRow {
            id,
            source,
            event_type,
            event_key,
            received_at,
            body_bytes,
            mark,
        } = row;
        Self {
            id,
            source,
            event_type,
            event_key,
            received_at: received_at.into(),
            body_bytes,
            mark,
        }
    }
}

pub async fn list(
    state: web::Data<AdminState>,
    query: web::Query<ListQuery>,
) -> Result<Answer<Page<Event>>, ApiError> {
    let query = query.into_inner();
    let limit = page_rows(query.limit)?;
    let Window { from, below } = Window::new(
        query.since.as_deref(),
        query.until.as_deref(),
        query.cursor,
        ids::unix_ms(),
    )?;
    let keys = query.key.map(|key| {
        let sources = state.intake.sources.load();
        let keys = sources.keys_of(query.source.as_deref(), &key);
        keys.into_iter().map(|key| key.0).collect::<Vec<_>>()
    });
    let type_like = query.r#type.map(|pattern| TypeGlob::new(pattern).to_like());
    let filter = EventFilter {
        source: query.source,
        type_like,
        from,
        below,
    };
    let events = match keys {
        Some(keys) => search::events_of_keys(&state.pool, &keys, &filter, limit).await?,
        None => search::events(&state.pool, &filter, limit).await?,
    };
    let next = next(&events, limit, |event| event.id.0);
    Ok(Answer(Page {
        items: events.into_iter().map(Event::from).collect(),
        next,
    }))
}

pub async fn show(
    state: web::Data<AdminState>,
    id: web::Path<Uuid>,
) -> Result<Answer<WholeEvent>, ApiError> {
    let event = find(&state, *id).await?;
    let of_it = ConflictFilter {
        event: Some(*id),
        ..ConflictFilter::default()
    };
    let conflicts = conflict::list(&state.pool, &of_it, PARTS_MAX).await?;
    let filter = DeliveryFilter {
        event: Some(*id),
        ..DeliveryFilter::default()
    };
    let deliveries = search::deliveries(&state.pool, &filter, PARTS_MAX).await?;
    let original = original(&state, event.original_id)
        .await?
        .map(|original| Original {
            items: original.items,
            body_bytes: original.body.len(),
            body_digest: hex::encode(&original.body_digest),
        });
    let type_dropped = type_dropped(&state, &event).map(str::to_owned);
    let body_bytes = event.body.len();
    let (body, body_base64) = text_or_base64(event.body);
    Ok(Answer(WholeEvent {
        id: event.id,
        source: event.source,
        event_type: event.event_type,
        event_key: event.event_key,
        received_at: event.received_at.into(),
        headers: serde_json::from_str(&event.headers).unwrap_or_default(),
        body_digest: hex::encode(&event.body_digest),
        body_bytes,
        mark: event.mark,
        conflicts: conflicts.into_iter().map(Conflict::from).collect(),
        deliveries: deliveries.into_iter().map(Delivery::from).collect(),
        type_dropped,
        original,
        body,
        body_base64,
    }))
}

/// Why the event has no type although its request named one, as its source would decide now.
fn type_dropped(state: &AdminState, event: &search::WholeEvent) -> Option<&'static str> {
    let sources = state.intake.sources.load();
    let source = sources
        .get(&event.source)
        .filter(|_| event.event_type.is_none())?;
    source
        .verifier
        .told_of_stored(
            &event.headers,
            event.body.clone().into(),
            event.original_id.is_some(),
        )?
        .type_dropped()
}

/// The event's body, byte for byte.
pub async fn body(state: web::Data<AdminState>, id: web::Path<Uuid>) -> Result<Octets, ApiError> {
    let event = find(&state, *id).await?;
    Ok(Octets {
        id: *id,
        bytes: event.body,
    })
}

/// The body of the request that the event came in: its own, or if the request was split, the whole.
pub async fn original_body(
    state: web::Data<AdminState>,
    id: web::Path<Uuid>,
) -> Result<Octets, ApiError> {
    let event = find(&state, *id).await?;
    let bytes = original(&state, event.original_id)
        .await?
        .map_or(event.body, |original| original.body);
    Ok(Octets { id: *id, bytes })
}

async fn original(
    state: &AdminState,
    id: Option<Uuid>,
) -> Result<Option<search::WholeOriginal>, ApiError> {
    match id {
        Some(id) => Ok(search::original(&state.pool, id).await?),
        None => Ok(None),
    }
}

async fn find(state: &AdminState, id: Uuid) -> Result<search::WholeEvent, ApiError> {
    search::event(&state.pool, id)
        .await?
        .ok_or_else(|| ApiError::NotFound(format!("there is no event {id}")))
}
