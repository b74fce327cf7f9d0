//! Puts a value where a selector would find it, as a sender does. It is used to sign and to make
//! samples, never to verify.

use serde_json::{Map, Value};

use crate::locate::selector::{Part, Place, Selector};

/// A request that is being made. Header names are lower-case.
#[derive(Clone, Debug, Default)]
pub(super) struct Outgoing {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) url: Option<String>,
}

impl Outgoing {
    /// Its headers as a request has them.
    pub(super) fn header_bytes(&self) -> Vec<(&str, &[u8])> {
        let headers = self.headers.iter();
        headers
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect()
    }

    /// Puts the value at this place, unless there is one. False if the place can't be made.
    pub(super) fn put(&mut self, part: &Part, value: &str) -> bool {
        match &part.place {
            Place::Header(name) => self.put_header(name, value),
            Place::Headers(start) => self.put_header(&format!("{start}1"), value),
            Place::Body(_) => return self.put_in_json(&part.written, value),
            Place::Form(name) => {
                if !url::form_urlencoded::parse(&self.body).any(|(key, _)| key == *name) {
                    self.body = appended(&self.body, name, value);
                }
            }
            Place::Query(_) | Place::Queries => {
                let name = if let Place::Query(name) = &part.place {
                    name
                } else {
                    "token"
                };
                let Some(url) = &mut self.url else {
                    return false;
                };
                let (base, query) = url.split_once('?').unwrap_or((url, ""));
                if !url::form_urlencoded::parse(query.as_bytes()).any(|(key, _)| key == name) {
                    let query = appended(query.as_bytes(), name, value);
                    *url = format!("{base}?{}", String::from_utf8_lossy(&query));
                }
            }
            Place::Whole => self.body = value.into(),
            Place::Member(_) | Place::Signature(_) => return false,
        }
        true
    }

    /// Puts the JSON text that was made into the form field that the scheme has it in.
    pub(super) fn wrap(&mut self, document: Option<&Selector>) {
        let may_be_bare =
            |selector: &&Selector| selector.places().any(|place| *place == Place::Whole);
        let part = document
            .filter(|selector| !may_be_bare(selector))
            .and_then(|selector| selector.alternatives[0].first());
        if let Some(Part {
            place: Place::Form(name),
            ..
        }) = part
            && is_json(&self.body)
        {
            self.body = appended(b"", name, &String::from_utf8_lossy(&self.body));
        }
    }

    fn put_header(&mut self, name: &str, value: &str) {
        if !self.headers.iter().any(|(known, _)| known == name) {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
    }

    fn put_in_json(&mut self, path: &str, value: &str) -> bool {
        let document = if self.body.is_empty() {
            Ok(Value::Null)
        } else {
            serde_json::from_slice(&self.body)
        };
        let Ok(mut document) = document else {
            return false;
        };
        if put_json(&mut document, path, value) {
            self.body = document.to_string().into_bytes();
        }
        true
    }

    /// Puts a value into the headers that are named by the selector's first alternative in headers.
    /// If parts are joined there, its dotted pieces go to them in turn.
    pub(super) fn put_in_headers(&mut self, selector: &Selector, value: &str) {
        let in_header = |part: &Part| matches!(part.place, Place::Header(_)) && part.only.is_none();
        let Some(parts) = selector
            .alternatives
            .iter()
            .find(|parts| parts.iter().any(in_header))
        else {
            return;
        };
        for (part, piece) in pieces(parts, value) {
            if in_header(part) {
                self.put(part, piece);
            }
        }
    }
}

fn is_json(body: &[u8]) -> bool {
    matches!(body.first(), Some(b'{' | b'['))
}

/// The parts of a join, each with its piece of a joined value. If there are too few pieces, the
/// rest is "1" or is left out.
pub(super) fn pieces<'a>(parts: &'a [Part], value: &'a str) -> Vec<(&'a Part, &'a str)> {
    let mut pieces = value.splitn(parts.len(), '.');
    let piece_of = |part: &'a Part| match pieces.next() {
        Some(piece) => Some((part, piece)),
        None if part.optional => None,
        None => Some((part, "1")),
    };
    parts.iter().filter_map(piece_of).collect()
}

fn appended(form: &[u8], name: &str, value: &str) -> Vec<u8> {
    let pair = url::form_urlencoded::Serializer::new(String::new())
        .append_pair(name, value)
        .finish();
    let separator: &[u8] = if form.is_empty() { b"" } else { b"&" };
    [form, separator, pair.as_bytes()].concat()
}

/// Puts a value into a document, unless there is one. `[]` is each element, and makes one if there
/// is none. Says whether anything changed.
pub(super) fn put_json(document: &mut Value, path: &str, value: &str) -> bool {
    let path = match path.strip_prefix('/') {
        Some(pointer) => pointer.replace("/0", "/[0]").replace('/', "."),
        None => path.replace("[]", ".[]").replace("[0]", ".[0]"),
    };
    let steps: Vec<&str> = path.split('.').filter(|step| !step.is_empty()).collect();
    put_at(document, &steps, value)
}

fn put_at(at: &mut Value, steps: &[&str], value: &str) -> bool {
    match steps.split_first() {
        None if at.is_null() => {
            // A value that looks like a number becomes one, because times and ids are numbers in
            // most bodies.
            *at = value
                .parse::<u64>()
                .map_or_else(|_| Value::from(value), Value::from);
            true
        }
        None => false,
        Some((&"[]" | &"[0]", rest)) => {
            if !at.is_array() {
                *at = Value::Array(Vec::new());
            }
            let Some(list) = at.as_array_mut() else {
                return false;
            };
            if list.is_empty() {
                list.push(Value::Null);
            }
            let reach = if steps[0] == "[0]" { 1 } else { list.len() };
            list.iter_mut().take(reach).fold(false, |changed, element| {
                put_at(element, rest, value) | changed
            })
        }
        Some((name, rest)) => {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            let Some(object) = at.as_object_mut() else {
                return false;
            };
            put_at(object.entry(*name).or_insert(Value::Null), rest, value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_to_stand_where_they_are_looked_for() {
        for (body, path, value, expected) in [
            ("null", "a.b", "x", r#"{"a":{"b":"x"}}"#),
            (r#"{"a":{"b":1}}"#, "a.b", "x", r#"{"a":{"b":1}}"#),
            (
                r#"{"a":[{"b":1},{}]}"#,
                "a[].b",
                "2",
                r#"{"a":[{"b":1},{"b":2}]}"#,
            ),
            ("null", "[].id", "x", r#"[{"id":"x"}]"#),
            ("null", "[0].data.code", "x", r#"[{"data":{"code":"x"}}]"#),
            ("null", "a[].b[].c", "x", r#"{"a":[{"b":[{"c":"x"}]}]}"#),
        ] {
            let mut document = serde_json::from_str(body).unwrap();
            put_json(&mut document, path, value);
            assert_eq!(document.to_string(), expected, "{path}");
        }
    }
}
