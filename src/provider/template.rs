//! The content template: what a signature covers, compiled once. Resolved per request into borrowed pieces, so that a body is hashed
//! where it lies and never copied.

use std::borrow::Cow;

use super::{
    json::Pointers,
    selector::{Inputs, Place, Repeated, Selector},
};

#[derive(Clone, Debug)]
enum Piece {
    Literal(Vec<u8>),
    Body,
    Timestamp,
    Id,
    Url,
    Method,
    Secret,
    Value(Selector),
}

#[derive(Clone, Debug)]
pub struct Template {
    pieces: Vec<Piece>,
}

/// One piece of the content of one request.
pub enum Chunk<'a> {
    Bytes(Cow<'a, [u8]>),
    /// The key itself stands here (hashes that are no HMAC).
    Secret,
}

/// What was resolved before the content.
pub struct Values<'a> {
    pub inputs: &'a Inputs<'a>,
    pub timestamp: Option<&'a str>,
    pub id: Option<&'a [u8]>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Absent {
    Piece(String),
    Url,
    Repeated(String),
}

impl Template {
    pub fn parse(text: &str, pointers: &mut Pointers) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.extend_from_slice(&rest.as_bytes()[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                literal.push(rest.as_bytes()[0]);
                rest = after;
                continue;
            }
            let Some((name, after)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
                return Err(format!("{text:?} has a lone brace: a brace itself is written {{{{ or }}}}"));
            };
            rest = after;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(match name {
                "body" => Piece::Body,
                "timestamp" => Piece::Timestamp,
                "id" => Piece::Id,
                "url" => Piece::Url,
                "method" => Piece::Method,
                "secret" => Piece::Secret,
                selector => Piece::Value(Selector::parse(selector, pointers)?),
            });
        }
        literal.extend_from_slice(rest.as_bytes());
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        if !pieces.iter().any(|piece| !matches!(piece, Piece::Literal(_) | Piece::Secret | Piece::Method)) {
            return Err(format!("{text:?} signs nothing of the request"));
        }
        Ok(Self { pieces })
    }

    pub fn has_body(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Body))
    }

    pub fn has_timestamp(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Timestamp))
    }

    pub fn has_id(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Id))
    }

    pub fn has_secret(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Secret))
    }

    /// Whether this header or query parameter is signed by itself.
    pub fn covers(&self, place: &Place) -> bool {
        self.pieces.iter().any(|piece| match piece {
            Piece::Value(selector) => selector.alternatives.len() == 1 && selector.places().any(|covered| covered == place),
            Piece::Url => matches!(place, Place::Query(_)),
            _ => false,
        })
    }

    pub fn resolve<'a>(&'a self, values: &Values<'a>) -> Result<Vec<Chunk<'a>>, Absent> {
        let request = values.inputs.request;
        self.pieces
            .iter()
            .map(|piece| {
                Ok(Chunk::Bytes(match piece {
                    Piece::Literal(text) => Cow::Borrowed(&text[..]),
                    Piece::Body => Cow::Borrowed(&request.body[..]),
                    Piece::Timestamp => Cow::Borrowed(values.timestamp.unwrap_or_default().as_bytes()),
                    Piece::Id => Cow::Borrowed(values.id.ok_or_else(|| Absent::Piece("the id".into()))?),
                    Piece::Url => Cow::Borrowed(request.url.ok_or(Absent::Url)?.as_bytes()),
                    Piece::Method => Cow::Borrowed(request.method.as_bytes()),
                    Piece::Secret => return Ok(Chunk::Secret),
                    Piece::Value(selector) => {
                        let value = selector.resolve(values.inputs).map_err(|Repeated(name)| Absent::Repeated(name))?;
                        value.ok_or_else(|| Absent::Piece(selector.alternatives[0][0].place.to_string()))?.1
                    }
                }))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::provider::Request;

    fn filled(template: &str) -> Result<String, String> {
        let mut pointers = Pointers::default();
        let template = Template::parse(template, &mut pointers)?;
        let body = Bytes::from_static(br#"{"a":{"b":7}}"#);
        let request = Request { method: "POST", url: Some("https://x.example/h?q=1"), headers: &[("x-nonce", b"n0")], body: &body };
        let inputs = Inputs { request: &request, found: pointers.find(&body), signature: None };
        let chunks = template
            .resolve(&Values { inputs: &inputs, timestamp: Some("99"), id: Some(b"id1") })
            .map_err(|absent| format!("{absent:?}"))?;
        Ok(chunks
            .iter()
            .map(|chunk| match chunk {
                Chunk::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Chunk::Secret => "SECRET".into(),
            })
            .collect())
    }

    #[test]
    fn pieces_stand_where_the_template_has_them() {
        for (template, expected) in [
            ("{body}", r#"{"a":{"b":7}}"#),
            ("v0:{timestamp}:{body}", r#"v0:99:{"a":{"b":7}}"#),
            ("{id}.{timestamp}.{body}", r#"id1.99.{"a":{"b":7}}"#),
            ("{method}{url}{header:X-Nonce}", "POSThttps://x.example/h?q=1n0"),
            ("{secret}{body:a.b}-{query:q}", "SECRET7-1"),
            ("{{{body:a.b}}}", "{7}"),
        ] {
            assert_eq!(filled(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn a_template_without_sense_is_refused() {
        for template in ["", "text", "{secret}", "{nothing}", "{body", "body}", "{header:a b}", "{}"] {
            assert!(filled(template).is_err(), "{template}");
        }
    }

    proptest! {
        #[test]
        fn any_template_is_survived(template in "[{}a-z:.|+?\\[\\]0-9é]{0,30}") {
            let _ = filled(&template);
        }

        #[test]
        fn literals_come_out_as_they_are(literal in "\\PC*") {
            let escaped = literal.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(filled(&format!("{escaped}{{method}}{{timestamp}}")), Ok(format!("{literal}POST99")));
        }
    }
}
