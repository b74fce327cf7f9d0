//! Turns a verified request into what is recorded: the headers that are kept, and one event, or one
//! for each item.

use std::sync::Arc;

use hookonce_scheme::VerifiedRequest;

use crate::{
    event::{Key, body_key_of, key_of, lone_key_of},
    group_commit::CommitError,
    ids,
    intake::{
        outcomes::{Recorded, Row},
        recorder::{Incoming, Recorder},
        sources::Source,
    },
    settings::{ReplayGuard, scheme::Dedup},
    store::inbox::{Guard, NewEvent, Original},
};

/// Names in lower case, and values, in the order in which they came.
pub type Headers<'a> = &'a [(&'a str, &'a [u8])];

/// The events that the request is: itself, or its items.
pub fn parts(verified: &VerifiedRequest) -> &[VerifiedRequest] {
    if verified.items().is_empty() {
        std::slice::from_ref(verified)
    } else {
        verified.items()
    }
}

/// Records what is not known yet in one commit, and returns the outcome of each part.
pub async fn record(
    headers: Headers<'_>,
    recorder: &Arc<Recorder>,
    source: &Arc<Source>,
    verified: &VerifiedRequest,
) -> Result<Vec<Recorded>, CommitError> {
    let parts = parts(verified);
    let is_whole = source.verifier.has_items() && verified.items().is_empty();
    let recent = |part: &VerifiedRequest| match (part.dedup(), part.event_key()) {
        (Dedup::None, _) | (_, None) => None,
        _ if part.key_is_of_body() => recorder.recent().of_body(&source.name, part.body()),
        (_, Some(key)) => recorder
            .recent()
            .of_key(source.key_of(key, is_whole), part.compared()),
    };
    let mut answers: Vec<Option<Recorded>> = parts
        .iter()
        .map(|part| recent(part).map(Recorded::Duplicate))
        .collect();
    let unknown = || {
        answers
            .iter()
            .zip(parts)
            .filter(|(answer, _)| answer.is_none())
            .map(|(_, part)| part)
    };
    let original = original(verified);
    let rows: Vec<Row> = unknown()
        .map(|part| row(headers, source, part, is_whole, original.as_ref()))
        .collect();
    if !rows.is_empty() {
        let recorded = recorder
            .record(Incoming { rows }, source.ack_budget)
            .await?;
        for (answer, recorded) in answers
            .iter_mut()
            .filter(|answer| answer.is_none())
            .zip(recorded)
        {
            *answer = Some(recorded);
        }
    }
    Ok(answers.into_iter().flatten().collect())
}

/// How long the key of an event is kept that no other request can repeat. A statement whose answer
/// was lost finds its own row by it.
const LONE_KEY_SECONDS: f64 = 3600.0;

fn row(
    headers: Headers<'_>,
    source: &Arc<Source>,
    part: &VerifiedRequest,
    is_whole: bool,
    original: Option<&Arc<Original>>,
) -> Row {
    let id = ids::new();
    let key = part.event_key().filter(|_| part.dedup() != Dedup::None);
    let window_seconds = source.window.as_secs_f64();
    let event = NewEvent {
        id,
        key: key.map_or_else(
            || lone_key_of(&source.name, &id),
            |key| source.key_of(key, is_whole),
        ),
        id_text: part
            .event_key()
            .map_or_else(|| id.to_string(), |_| String::new()),
        guard: guard(source, part),
        key_before: key_before(source, part, is_whole),
        mark: None,
        source: source.name.clone(),
        window_seconds: if key.is_some() {
            window_seconds
        } else {
            LONE_KEY_SECONDS
        },
        headers: stored_headers(
            headers,
            &source.secret_headers,
            original.is_some(),
            part.content_type(),
        ),
        request: part.clone(),
        original: original.cloned(),
    };
    Row {
        event,
        source: source.clone(),
        destinations: source
            .routes
            .destinations(part.event_type())
            .into_iter()
            .cloned()
            .collect(),
    }
}

/// The key that earlier versions would have given it, as long as such keys are looked for.
fn key_before(source: &Source, part: &VerifiedRequest, is_whole: bool) -> Option<Key> {
    if !source.verifier.looks_back() {
        return None;
    }
    part.key_before()
        .or_else(|| part.event_key().filter(|_| is_whole || source.is_ruled()))
        .map(|key| key_of(&source.name, key))
}

fn guard(source: &Source, part: &VerifiedRequest) -> Option<Guard> {
    let holds = match source.replay_guard {
        ReplayGuard::Mark => false,
        ReplayGuard::Hold => true,
        ReplayGuard::Off => return None,
    };
    part.is_guarded().then(|| Guard {
        body_key: body_key_of(&source.name, part.digest()),
        holds,
    })
}

/// The request's own body, if its items are the events.
fn original(verified: &VerifiedRequest) -> Option<Arc<Original>> {
    let items = i32::try_from(verified.items().len())
        .ok()
        .filter(|items| *items > 0)?;
    Some(Arc::new(Original {
        id: ids::new(),
        body: verified.body().clone(),
        digest: *verified.digest(),
        items,
    }))
}

/// Headers that are neither kept nor passed on: hop-by-hop ones (RFC 9110, section 7.6.1;
/// Connection may name more), credentials, those that a proxy added, and those that speak only of
/// this connection.
const DROPPED: [&str; 20] = [
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "traceparent",
    "tracestate",
    "upgrade",
];

/// The headers that a handler may see, as the JSON array that is kept. Standard Webhooks' own three
/// are kept under another name, because the relay signs anew. A header that is itself the secret is
/// left out. An item loses Content-Encoding, since it is not compressed even if its request was.
fn stored_headers(
    headers: Headers<'_>,
    secret: &[String],
    is_item: bool,
    content_type: Option<&str>,
) -> String {
    let mut kept: Vec<(String, String)> = Vec::with_capacity(headers.len());
    let connection = headers
        .iter()
        .filter(|(name, _)| *name == "connection")
        .filter_map(|(_, value)| std::str::from_utf8(value).ok());
    let of_hop: Vec<&str> = connection
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    for (name, value) in headers.iter().copied() {
        let ours = name.starts_with("hookonce-") || name.starts_with("x-forwarded-");
        if ours
            || DROPPED.contains(&name)
            || of_hop.iter().any(|hop| hop.eq_ignore_ascii_case(name))
            || secret
                .iter()
                .any(|secret| secret.eq_ignore_ascii_case(name))
        {
            continue;
        }
        if is_item
            && (name == "content-encoding" || (name == "content-type" && content_type.is_some()))
        {
            continue;
        }
        let name = match name {
            "webhook-id" | "webhook-timestamp" | "webhook-signature" => {
                format!("hookonce-original-{name}")
            }
            name => name.to_owned(),
        };
        let value = match std::str::from_utf8(value) {
            Ok(text) if text.is_ascii() => text.to_owned(),
            _ => value.iter().map(|byte| char::from(*byte)).collect(),
        };
        kept.push((name, value));
    }
    kept.extend(content_type.map(|kind| ("content-type".to_owned(), kind.to_owned())));
    serde_json::to_string(&kept).unwrap_or_else(|_| "[]".into())
}
