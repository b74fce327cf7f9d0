//! What handlers of the API answer with. The type of an answer tells its status and its shape, so
//! that a route is described by its handler alone.

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

/// A type that tells which answers it may be.
pub trait Answers {
    fn describe(sketch: &mut Sketch<'_>);
}

/// Whatever is refused is a problem, which the table's entry says.
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

/// 200 with JSON, its members in the order of their names.
pub struct Answer<T>(pub T);

/// 200 with JSON, its members in the order of the type, and what is JSON already byte for byte.
pub struct Exact<T>(pub T);

/// 201, else as `Answer`.
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

/// Bytes that a stranger sent. Never as the type they came with: a browser must not run them.
pub struct Octets {
    /// Names the file.
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

/// A text that is JSON.
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
