//! Follows a JSON pointer (RFC 6901) through a body without building a tree, which would take many
//! times the body's size.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize as _,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// Returns the value's own text. None if the body is no JSON or has no such value. Of members with
/// the same name, the last counts.
pub fn find<'a>(body: &'a [u8], pointer: &str) -> Option<&'a RawValue> {
    let tokens: Vec<String> = pointer
        .split('/')
        .skip(1)
        .map(|token| token.replace("~1", "/").replace("~0", "~"))
        .collect();
    let mut json = serde_json::Deserializer::from_slice(body);
    let found = At(&tokens).deserialize(&mut json).ok()?;
    json.end().ok()?;
    found
}

/// The rest of the path.
#[derive(Clone, Copy)]
struct At<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            [] => <&RawValue>::deserialize(deserializer).map(Some),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Name(name)) = map.next_key()? {
            if name == self.0[0] {
                found = map.next_value_seed(At(&self.0[1..]))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let wanted: Option<usize> = self.0[0]
            .parse()
            .ok()
            .filter(|index: &usize| index.to_string() == self.0[0]);
        let mut found = None;
        for index in 0.. {
            if wanted == Some(index) {
                match list.next_element_seed(At(&self.0[1..]))? {
                    Some(value) => found = value,
                    None => break,
                }
            } else if list.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// A member's name, copied only if it has escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str, pointer: &str) -> Option<String> {
        find(body.as_bytes(), pointer).map(|value| value.get().to_owned())
    }

    #[test]
    fn values_are_found_as_serde_json_finds_them() {
        let body = r#"{"a":{"b":["x",{"c":1.50}],"0":"member"},"e/f":true,"m~n":null,"":7,"\u0061b":"escaped","d":1,"d":2,"n":5,"s":"t"}"#;
        let tree: serde_json::Value = serde_json::from_str(body).unwrap();
        let pointers = [
            "/a/b/0", "/a/b/1/c", "/a/b/2", "/a/b/00", "/a/0", "/e~1f", "/m~0n", "/", "/ab", "/d",
            "/n/x", "/s/0", "/e~1f/x", "/a",
        ];
        for pointer in pointers {
            let own: Option<serde_json::Value> =
                found(body, pointer).map(|text| serde_json::from_str(&text).unwrap());
            assert_eq!(own.as_ref(), tree.pointer(pointer), "{pointer}");
        }
        assert_eq!(
            found(body, "/a/b/1/c").as_deref(),
            Some("1.50"),
            "not the text itself"
        );
    }

    #[test]
    fn what_is_no_json_has_no_value() {
        let deep = format!(
            "{{\"x\":{}1{},\"a\":1}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        for body in [
            "",
            "{",
            "[1",
            "{\"a\":1}x",
            "{\"a\":01}",
            "\"a\"",
            "1",
            "null",
        ] {
            assert_eq!(found(body, "/a"), None, "{body}");
        }
        // Skipping it needs no stack, or it is refused; both are fine.
        let _ = found(&deep, "/a");
        let _ = found(&deep, "/x/0/0/0/0");
    }
}
