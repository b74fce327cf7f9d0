//! The answer to a request that was taken: 200 with one word for its outcome, in the form that its
//! provider insists on.

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{self, CONTENT_TYPE, HeaderName, HeaderValue},
    },
};
use hookonce_scheme::{VerifiedRequest, is_form};
use uuid::{Uuid, fmt::Hyphenated};

use crate::{
    contract::{EventId, Taken, TakenItems, TakenStatus},
    intake::{Recorded, sources::Source},
    tail::RequestStatus,
};

const EVENT: HeaderName = HeaderName::from_static("hookonce-event");
pub const STATUS: HeaderName = HeaderName::from_static("hookonce-status");

/// One word for several parts: `accepted` if any is new, else `conflict` if any conflicts, else
/// `duplicate`. Counts are added if the request was split.
pub fn recorded(
    source: &Source,
    all_recorded: &[Recorded],
    verified: &VerifiedRequest,
) -> HttpResponse {
    let all = |wanted: RequestStatus| {
        all_recorded
            .iter()
            .map(|one| one.told())
            .filter(move |(_, status)| *status == wanted)
    };
    let ranked = [
        (RequestStatus::New, TakenStatus::Accepted),
        (RequestStatus::Conflict, TakenStatus::Conflict),
        (RequestStatus::Duplicate, TakenStatus::Duplicate),
    ];
    let found = ranked
        .into_iter()
        .find_map(|(told, status)| Some((all(told).next()?.0, status)));
    let (event, status) = found.unwrap_or((Uuid::nil(), TakenStatus::Duplicate));
    let is_split = !verified.items().is_empty();
    let taken = Taken {
        status,
        event: EventId(event),
        items: is_split.then(|| TakenItems {
            accepted: all(RequestStatus::New).count(),
            duplicate: all(RequestStatus::Duplicate).count(),
            conflict: all(RequestStatus::Conflict).count(),
        }),
    };
    one_answer(source, verified.body(), &taken)
}

/// The answer to a repeat that was recognised by its body.
pub fn known(source: &Source, body: &[u8], event: Uuid) -> HttpResponse {
    let taken = Taken {
        status: TakenStatus::Duplicate,
        event: EventId(event),
        items: None,
    };
    one_answer(source, body, &taken)
}

fn one_answer(source: &Source, body: &[u8], taken: &Taken) -> HttpResponse {
    let mut id = [0; Hyphenated::LENGTH];
    let id: &str = taken.event.0.hyphenated().encode_lower(&mut id);
    let mut response = HttpResponse::Ok();
    response
        .insert_header((EVENT, id))
        .insert_header((STATUS, HeaderValue::from_static(taken.status.as_str())));
    let spec = &source.verifier.scheme().spec;
    if source.bare_answers || spec.bare_answers_to_forms && is_form(body) {
        return response.finish();
    }
    if let Some(answer) = &spec.answer {
        return response
            .content_type(spec.answer_type.as_deref().unwrap_or("text/plain"))
            .body(answer.clone());
    }
    response
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .json(taken)
}

/// The answer to a handshake. It repeats what the sender asked for as plain data, so that a browser
/// does not run it.
pub fn handshake(verified: &VerifiedRequest) -> HttpResponse {
    let Some(answer) = verified.challenge() else {
        return HttpResponse::Ok().finish();
    };
    let mut response =
        HttpResponse::build(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK));
    response
        .insert_header((STATUS, "handshake"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .content_type(answer.content_type);
    for (name, value) in &answer.headers {
        response.insert_header((name.as_str(), value.as_str()));
    }
    response.body(answer.body.clone())
}
