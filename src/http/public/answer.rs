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
    let is_split = !verified.items().is_empty();
    let ranked = [
        (RequestStatus::New, "accepted"),
        (RequestStatus::Conflict, "conflict"),
        (RequestStatus::Duplicate, "duplicate"),
    ];
    let all = |wanted: RequestStatus| {
        all_recorded
            .iter()
            .map(|one| one.told())
            .filter(move |(_, status)| *status == wanted)
    };
    let found = ranked
        .into_iter()
        .find_map(|(status, word)| Some((all(status).next()?.0, word)));
    let (event, word) = found.unwrap_or((Uuid::nil(), "duplicate"));
    let [new, conflict, duplicate] =
        ranked.map(|(status, _)| if is_split { all(status).count() } else { 0 });
    let items = match is_split {
        true => format!(
            r#","items":{{"accepted":{new},"duplicate":{duplicate},"conflict":{conflict}}}"#
        ),
        false => String::new(),
    };
    one_answer(source, verified.body(), event, word, &items)
}

/// The answer to a repeat that was recognised by its body.
pub fn known(source: &Source, body: &[u8], event: Uuid) -> HttpResponse {
    one_answer(source, body, event, "duplicate", "")
}

/// `items` has further members of the JSON object.
fn one_answer(
    source: &Source,
    body: &[u8],
    event: Uuid,
    word: &'static str,
    items: &str,
) -> HttpResponse {
    let mut id = [0; Hyphenated::LENGTH];
    let id: &str = event.hyphenated().encode_lower(&mut id);
    let mut response = HttpResponse::Ok();
    response
        .insert_header((EVENT, id))
        .insert_header((STATUS, HeaderValue::from_static(word)));
    let spec = &source.verifier.scheme().spec;
    if source.bare_answers || spec.bare_answers_to_forms && is_form(body) {
        return response.finish();
    }
    if let Some(answer) = &spec.answer {
        return response
            .content_type(spec.answer_type.as_deref().unwrap_or("text/plain"))
            .body(answer.clone());
    }
    let body = [
        r#"{"status":""#,
        word,
        r#"","event":""#,
        id,
        "\"",
        items,
        "}",
    ]
    .concat();
    response
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .body(body)
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
