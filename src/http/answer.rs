//! The answers of the API's handlers. An answer's type gives its status and its shape, so a handler
//! alone describes its route.

use actix_web::{
    Either, HttpRequest, HttpResponse, Responder, ResponseError as _,
    body::BoxBody,
    error::JsonPayloadError,
    http::{StatusCode, header},
};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::sketch::{Content, Sketch};

/// A type that says which answers it may become.
pub trait Answers {
    fn describe(sketch: &mut Sketch<'_>);
}

/// Adds no answers for errors: they are problems, which the entry in the table names.
impl<A: Answers, E> Answers for Result<A, E> {
    fn describe(sketch: &mut Sketch<'_>) {
        A::describe(sketch);
    }
}

impl<A: Answers, B: Answers> Answers for Either<A, B> {
    fn describe(sketch: &mut Sketch<'_>) {
        A::describe(sketch);
        B::describe(sketch);
    }
}

/// A 200 with JSON whose members are sorted by name.
pub struct Answer<T>(pub T);

/// A 200 with JSON whose members have the order of the type. What is JSON already is sent byte for
/// byte.
pub struct Exact<T>(pub T);

/// A 201, otherwise like `Answer`.
pub struct Created<T>(pub T);

fn json(status: StatusCode, value: serde_json::Result<impl Serialize>) -> HttpResponse {
    match value {
        Ok(value) => HttpResponse::build(status).json(value),
        Err(error) => JsonPayloadError::Serialize(error).error_response(),
    }
}

impl<T: Serialize> Responder for Answer<T> {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        json(StatusCode::OK, serde_json::to_value(&self.0))
    }
}

impl<T: Serialize> Responder for Exact<T> {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        json(StatusCode::OK, Ok(&self.0))
    }
}

impl<T: Serialize> Responder for Created<T> {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        json(StatusCode::CREATED, serde_json::to_value(&self.0))
    }
}

impl<T: JsonSchema> Answers for Answer<T> {
    fn describe(sketch: &mut Sketch<'_>) {
        sketch.answer::<T>(200);
    }
}

impl<T: JsonSchema> Answers for Exact<T> {
    fn describe(sketch: &mut Sketch<'_>) {
        sketch.answer::<T>(200);
    }
}

impl<T: JsonSchema> Answers for Created<T> {
    fn describe(sketch: &mut Sketch<'_>) {
        sketch.answer::<T>(201);
    }
}

/// Bytes that a stranger sent. They are never served under the type that they came with, since a
/// browser must not run them.
pub struct Octets {
    /// The name of the file.
    pub id: Uuid,
    pub bytes: Vec<u8>,
}

impl Responder for Octets {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, "application/octet-stream"))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((
                header::CONTENT_DISPOSITION,
                format!("attachment; filename=\"{}\"", self.id),
            ))
            .body(self.bytes)
    }
}

impl Answers for Octets {
    fn describe(sketch: &mut Sketch<'_>) {
        sketch
            .answers
            .push((200, Content::Media("application/octet-stream")));
    }
}

/// A text that is JSON already.
pub struct JsonText(pub &'static str);

impl Responder for JsonText {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        let kind = (header::CONTENT_TYPE, "application/json");
        HttpResponse::Ok().insert_header(kind).body(self.0)
    }
}

impl Answers for JsonText {
    fn describe(sketch: &mut Sketch<'_>) {
        sketch
            .answers
            .push((200, Content::Media("application/json")));
    }
}

/// Server-sent events.
pub struct EventStream(pub HttpResponse);

impl Responder for EventStream {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        self.0
    }
}

impl Answers for EventStream {
    fn describe(sketch: &mut Sketch<'_>) {
        sketch
            .answers
            .push((200, Content::Media("text/event-stream")));
    }
}
