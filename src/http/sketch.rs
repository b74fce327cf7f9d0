//! The description of a route, taken from the types of its handler: what each argument requires of
//! a call, and what each answer looks like.

use actix_web::{HttpRequest, web};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::object::{Object, OptionalObject};

/// The content of an answer.
pub enum Content {
    Json(Schema),
    /// Anything of this media type.
    Media(&'static str),
}

/// The description of a route so far.
pub struct Sketch<'a> {
    /// Makes the schemas of the bodies that callers send.
    pub asked: &'a mut SchemaGenerator,
    /// Makes the schemas of the answers.
    pub said: &'a mut SchemaGenerator,
    pub query: Option<Schema>,
    pub body: Option<Schema>,
    /// The answers by status.
    pub answers: Vec<(u16, Content)>,
}

impl Sketch<'_> {
    pub fn answer<T: JsonSchema>(&mut self, status: u16) {
        let schema = self.said.subschema_for::<T>();
        self.answers.push((status, Content::Json(schema)));
    }
}

/// An argument of a handler.
pub trait Input {
    fn describe(sketch: &mut Sketch<'_>);
}

macro_rules! of_no_part_of_the_call {
    ($([$($generics:tt)*] $kind:ty,)+) => {$(
        impl<$($generics)*> Input for $kind {
            fn describe(_: &mut Sketch<'_>) {}
        }
    )+};
}

of_no_part_of_the_call! {
    [] HttpRequest,
    [T: ?Sized + 'static] web::Data<T>,
    [T: Clone + 'static] web::ReqData<T>,
    // The path has its parameters in the table's entry already.
    [T] web::Path<T>,
}

impl<T: JsonSchema> Input for web::Query<T> {
    fn describe(sketch: &mut Sketch<'_>) {
        sketch.query = Some(T::json_schema(sketch.asked));
    }
}

impl<T: JsonSchema> Input for web::Json<Object<T>> {
    fn describe(sketch: &mut Sketch<'_>) {
        sketch.body = Some(sketch.asked.subschema_for::<T>());
    }
}

impl<T: JsonSchema> Input for OptionalObject<T> {
    fn describe(sketch: &mut Sketch<'_>) {
        sketch.body = Some(sketch.asked.subschema_for::<T>());
    }
}

macro_rules! tuples {
    ($(($($name:ident)*))+) => {$(
        impl<$($name: Input),*> Input for ($($name,)*) {
            fn describe(_sketch: &mut Sketch<'_>) {
                $($name::describe(_sketch);)*
            }
        }
    )+};
}

tuples! { () (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) }
