//! Conflicts: list with counts by source, show one with its differences, and relay one as its own
//! event.

use actix_web::web;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    contract::{
        BodyDifference, Conflict, ConflictCount, Conflicts, Differences, EventId, Header,
        HeaderDifference, RelayedConflict, WholeConflict, text_or_base64,
    },
    http::{
        admin::parameters::{Window, next, page_rows},
        answer::Answer,
        error::ApiError,
        state::AdminState,
    },
    ids,
    routing::Routes,
    store::{
        conflict::{self, ConflictFilter, ConflictRow},
        search,
    },
};

/// How many differences of two bodies are listed; there may be more.
const DIFFERENCES_MAX: usize = 200;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ConflictQuery")]
pub struct ListQuery {
    source: Option<String>,
    since: Option<String>,
    until: Option<String>,
    cursor: Option<Uuid>,
    limit: Option<u32>,
}

impl From<ConflictRow> for Conflict {
    fn from(row: ConflictRow) -> Self {
        Self {
            id: row.id,
            event: row.event,
            kind: row.kind,
            source: row.source,
            event_key: row.event_key,
            event_type: row.event_type,
            received_at: row.received_at.into(),
            body_digest: row.body_digest,
            body_bytes: row.body_bytes,
            relayed_as: row.relayed_as.map(EventId),
        }
    }
}

impl From<conflict::ConflictCount> for ConflictCount {
    fn from(row: conflict::ConflictCount) -> Self {
        let conflict::ConflictCount {
            source,
            conflicts,
            not_relayed,
        } = row;
        Self {
            source,
            conflicts,
            not_relayed,
        }
    }
}

pub async fn list(
    state: web::Data<AdminState>,
    query: web::Query<ListQuery>,
) -> Result<Answer<Conflicts>, ApiError> {
    let query = query.into_inner();
    let limit = page_rows(query.limit)?;
    let Window { from, below } = Window::new(
        query.since.as_deref(),
        query.until.as_deref(),
        query.cursor,
        ids::unix_ms(),
    )?;
    let filter = ConflictFilter {
        source: query.source,
        event: None,
        from,
        below,
    };
    let conflicts = conflict::list(&state.pool, &filter, limit).await?;
    let next = next(&conflicts, limit, |conflict| conflict.id.0);
    let counts = conflict::counts(&state.pool)
        .await?
        .into_iter()
        .map(ConflictCount::from)
        .collect();
    Ok(Answer(Conflicts {
        items: conflicts.into_iter().map(Conflict::from).collect(),
        next,
        counts,
    }))
}

pub async fn show(
    state: web::Data<AdminState>,
    id: web::Path<Uuid>,
) -> Result<Answer<WholeConflict>, ApiError> {
    let found = find(&state, *id).await?;
    let first = search::event(&state.pool, found.event.0).await?;
    let headers: Vec<Header> = serde_json::from_str(&found.headers).unwrap_or_default();
    let first_headers = first
        .as_ref()
        .map(|first| serde_json::from_str::<Vec<Header>>(&first.headers).unwrap_or_default());
    let bodies = first
        .as_ref()
        .filter(|_| found.has_own_body())
        .map(|first| (&first.body[..], &found.body[..]));
    let differences = Differences {
        headers: first_headers.map_or_else(Vec::new, |first| header_differences(&first, &headers)),
        body: bodies.map_or_else(Vec::new, |(first, body)| body_differences(first, body)),
    };
    let first_received_at = first.as_ref().map(|first| first.received_at.into());
    let has_own_body = found.has_own_body();
    let (body, body_base64) = text_or_base64(if has_own_body {
        found.body
    } else {
        first.map(|first| first.body).unwrap_or_default()
    });
    Ok(Answer(WholeConflict {
        id: found.id,
        event: found.event,
        kind: found.kind,
        source: found.source,
        event_key: found.event_key,
        event_type: found.event_type,
        received_at: found.received_at.into(),
        first_received_at,
        relayed_as: found.relayed_as.map(EventId),
        headers,
        differences,
        body,
        body_base64,
    }))
}

/// Relays a conflict as an event, to where its routes lead now.
pub async fn relay(
    state: web::Data<AdminState>,
    id: web::Path<Uuid>,
) -> Result<Answer<RelayedConflict>, ApiError> {
    let found = find(&state, *id).await?;
    let body = match found.has_own_body() {
        true => found.body.clone(),
        false => {
            let gone = || {
                ApiError::Gone(format!(
                    "the event {}, whose body it has, is past its retention",
                    found.event
                ))
            };
            search::event(&state.pool, found.event.0)
                .await?
                .ok_or_else(gone)?
                .body
        }
    };
    let routes = Routes::of(&state.settings.load(), &found.source);
    let destinations: Vec<&str> = routes
        .destinations(found.event_type.as_deref())
        .into_iter()
        .map(|name| &**name)
        .collect();
    let Some(event) = conflict::relay(&state.pool, &found, &body, &destinations).await? else {
        let event = find(&state, *id)
            .await?
            .relayed_as
            .map_or_else(String::new, |event| format!(" as the event {event}"));
        let detail = format!("the conflict {id} was relayed{event}: `replay` sends that again");
        return Err(ApiError::Conflict {
            kind: "already-relayed",
            detail,
        });
    };
    tracing::info!(conflict = %found.id, %event, source = found.source, destinations = destinations.len(), "a conflict was made an event");
    state.hint.notify_one();
    let destinations = destinations.into_iter().map(str::to_owned).collect();
    Ok(Answer(RelayedConflict {
        id: found.id,
        event: EventId(event),
        destinations,
    }))
}

async fn find(state: &AdminState, id: Uuid) -> Result<conflict::WholeConflict, ApiError> {
    conflict::find(&state.pool, id)
        .await?
        .ok_or_else(|| ApiError::NotFound(format!("there is no conflict {id}")))
}

/// The headers that only one of the two has, or that differ.
fn header_differences(first: &[Header], other: &[Header]) -> Vec<HeaderDifference> {
    let values = |headers: &[Header], name: &str| -> Vec<Value> {
        headers
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| value.as_str().into())
            .collect()
    };
    let mut names: Vec<&str> = first
        .iter()
        .chain(other)
        .map(|(name, _)| name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    let text = |values: Vec<Value>| match values.as_slice() {
        [] => Value::Null,
        [one] => one.clone(),
        _ => values.into(),
    };
    let differences = names
        .into_iter()
        .map(|name| (name, values(first, name), values(other, name)));
    let differences = differences.filter(|(_, first, other)| first != other);
    differences
        .map(|(name, first, other)| HeaderDifference {
            name: name.to_owned(),
            first: text(first),
            this: text(other),
        })
        .collect()
}

/// The differences of two bodies. Two JSON texts are compared by JSON Pointer (RFC 6901), with what
/// stands there in each. For anything else it is the first byte that differs.
fn body_differences(first: &[u8], other: &[u8]) -> Vec<BodyDifference> {
    if let (Ok(first), Ok(other)) = (
        serde_json::from_slice::<Value>(first),
        serde_json::from_slice::<Value>(other),
    ) {
        let changes = json_patch::diff(&first, &other);
        let told = changes.iter().take(DIFFERENCES_MAX).map(|change| {
            let path = change.path().to_string();
            let at = |document: &Value| document.pointer(&path).cloned().unwrap_or_default();
            // A removal names its place in the first document, an addition its place in the other.
            let (first, other) = match change {
                json_patch::PatchOperation::Add(_) => (Value::Null, at(&other)),
                json_patch::PatchOperation::Remove(_) => (at(&first), Value::Null),
                _ => (at(&first), at(&other)),
            };
            (path, first, other)
        });
        let mut told: Vec<(String, Value, Value)> = told.collect();
        told.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        if !told.is_empty() {
            return told
                .into_iter()
                .map(|(path, first, this)| BodyDifference::Place { path, first, this })
                .collect();
        }
    }
    let byte = first
        .iter()
        .zip(other)
        .take_while(|(first, other)| first == other)
        .count();
    vec![BodyDifference::Byte {
        byte,
        first_bytes: first.len(),
        these_bytes: other.len(),
    }]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_told_by_their_place() {
        let told =
            |first: &str, other: &str| json!(body_differences(first.as_bytes(), other.as_bytes()));
        assert_eq!(
            told(
                r#"{"id":1,"try":1,"old":true}"#,
                r#"{"id":1,"try":2,"new":[1]}"#
            ),
            json!([
                { "path": "/new", "first": null, "this": [1] },
                { "path": "/old", "first": true, "this": null },
                { "path": "/try", "first": 1, "this": 2 },
            ])
        );
        assert_eq!(
            told("abc", "abxy"),
            json!([{ "byte": 2, "first_bytes": 3, "these_bytes": 4 }])
        );
        assert_eq!(
            told(r#"{"a":1}"#, r#"{"a": 1}"#),
            json!([{ "byte": 5, "first_bytes": 7, "these_bytes": 8 }]),
            "white space alone"
        );
        let headers = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            json!(header_differences(
                &headers(&[("a", "1"), ("b", "2")]),
                &headers(&[("a", "1"), ("b", "3"), ("c", "4")])
            )),
            json!([{ "name": "b", "first": "2", "this": "3" }, { "name": "c", "first": null, "this": "4" }])
        );
    }
}
