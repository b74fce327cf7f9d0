//! Bodies that have to be JSON objects.

use std::{fmt, marker::PhantomData};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web};
use futures_util::{FutureExt as _, future::LocalBoxFuture};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::error::ApiError;

/// A value that is read only from an object. A derived struct also accepts a list, by position, so
/// `[]` would pass as the body that leaves everything out.
#[derive(Debug, Default)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OfMap(PhantomData))
    }
}

struct OfMap<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OfMap<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// The same for a body that may be left out, whatever its content type.
#[derive(Debug, Default)]
pub struct OptionalObject<T>(pub T);

impl<T: Default + serde::de::DeserializeOwned> FromRequest for OptionalObject<T> {
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self, actix_web::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = web::Bytes::from_request(request, payload);
        async move {
            match &body.await?[..] {
                b"" => Ok(Self::default()),
                text => match serde_json::from_slice(text) {
                    Ok(Object(value)) => Ok(Self(value)),
                    Err(error) => Err(ApiError::MalformedBody(error.to_string()).into()),
                },
            }
        }
        .boxed_local()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Body {
        a: Option<i32>,
        raw: Option<Box<RawValue>>,
    }

    #[test]
    fn a_list_is_no_object() {
        let read = |text| serde_json::from_str::<Object<Body>>(text);
        let Object(body) = read(r#"{"a": 1, "raw": [ 2 ]}"#).unwrap();
        assert_eq!((body.a, body.raw.unwrap().get()), (Some(1), "[ 2 ]"));
        assert!(read("{}").is_ok_and(|Object(body)| body.a.is_none()));
        for text in ["[]", "[1]", "null", "1", "\"a\"", r#"{"b": 1}"#, ""] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(
            serde_json::from_str::<Body>("[]").is_ok(),
            "serde reads structs from objects alone by now: this is not needed"
        );
    }
}
