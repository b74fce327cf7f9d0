//! The content template: what a signature covers, compiled once. For each request it resolves to
//! borrowed pieces, so that a body is hashed in place and never copied.

use std::borrow::Cow;

use crate::locate::{
    json::Pointers,
    piece::{self, Absent, Piece, Values},
    selector::{Place, Selector},
};

/// A content, piece by piece.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

/// One piece of the content of one request.
pub(crate) enum Chunk<'a> {
    Bytes(Cow<'a, [u8]>),
    /// The place of the key itself, in hashes that are no HMAC.
    Secret,
}

/// The bytes of the chunks, one after the other, without the places of keys.
pub(crate) fn bytes_of(chunks: &[Chunk<'_>]) -> Vec<u8> {
    let bytes = chunks.iter().filter_map(|chunk| match chunk {
        Chunk::Bytes(bytes) => Some(&**bytes),
        Chunk::Secret => None,
    });
    bytes.collect::<Vec<_>>().concat()
}

impl Template {
    /// Reads a template of what is signed. It must name something of the request.
    pub(crate) fn parse(text: &str, pointers: &mut Pointers) -> Result<Self, String> {
        let template = Self::parse_any(text, pointers)?;
        if template
            .pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Mac | Piece::KeyName))
        {
            return Err("{mac} and {key_name} are for answers".into());
        }
        if template.pieces.iter().all(|piece| {
            matches!(
                piece,
                Piece::Literal(_)
                    | Piece::Secret
                    | Piece::Method
                    | Piece::Optional(_)
                    | Piece::There(_)
            )
        }) {
            return Err(format!("{text:?} signs nothing of the request"));
        }
        Ok(template)
    }

    /// Reads a template of a value to compare with. A constant text is allowed.
    pub(crate) fn parse_value(text: &str, pointers: &mut Pointers) -> Result<Self, String> {
        let template = Self::parse_any(text, pointers)?;
        let other = |piece: &Piece| {
            matches!(
                piece,
                Piece::Secret | Piece::Timestamp | Piece::Id | Piece::Mac | Piece::KeyName
            )
        };
        if template.pieces.iter().any(other) {
            return Err("{secret}, {timestamp}, {id}, {mac} and {key_name} have no place in a value to compare with".into());
        }
        Ok(template)
    }

    /// Reads a template of an answer. It may have anything but the secret.
    pub(crate) fn parse_answer(text: &str, pointers: &mut Pointers) -> Result<Self, String> {
        let template = Self::parse_any(text, pointers)?;
        if template
            .pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Secret | Piece::Timestamp | Piece::Id))
        {
            return Err("{secret}, {timestamp} and {id} have no place in an answer".into());
        }
        Ok(template)
    }

    fn parse_any(text: &str, pointers: &mut Pointers) -> Result<Self, String> {
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
            let Some((name, after)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'))
            else {
                return Err(format!(
                    "{text:?} has a lone brace: a brace itself is written {{{{ or }}}}"
                ));
            };
            rest = after;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(piece::parse(name, pointers)?);
        }
        literal.extend_from_slice(rest.as_bytes());
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { pieces })
    }

    /// Whether it covers the body as a whole.
    pub(crate) fn has_body(&self) -> bool {
        self.pieces.iter().any(|piece| {
            matches!(
                piece,
                Piece::Body
                    | Piece::BodyHash(..)
                    | Piece::JsonBody
                    | Piece::FormSorted
                    | Piece::UrlAndFormSorted
            )
        })
    }

    /// The places that it names, except those that only must be there.
    pub(crate) fn selectors(&self) -> impl Iterator<Item = &Selector> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Value(selector) | Piece::Lower(selector) | Piece::Optional(selector) => {
                Some(selector)
            }
            _ => None,
        })
    }

    /// The headers that list signed ones.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| {
            if let Piece::Listed(header) = piece {
                Some(header.as_str())
            } else {
                None
            }
        })
    }

    /// Whether it has `{mac}`.
    pub(crate) fn has_mac(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Mac))
    }

    /// Whether it has `{timestamp}`.
    pub(crate) fn has_timestamp(&self) -> bool {
        self.pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Timestamp))
    }

    /// Whether it has `{id}`.
    pub(crate) fn has_id(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Id))
    }

    /// Whether it has `{secret}`.
    pub(crate) fn has_secret(&self) -> bool {
        self.pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Secret))
    }

    /// Whether this header or query parameter is signed by itself.
    pub(crate) fn covers(&self, place: &Place) -> bool {
        self.pieces.iter().any(|piece| match piece {
            Piece::Value(selector) | Piece::Optional(selector) => {
                selector.alternatives.len() == 1
                    && selector.places().any(|covered| covered == place)
            }
            Piece::Url
            | Piece::Path
            | Piece::PathEscaped
            | Piece::QuerySorted
            | Piece::UrlAndFormSorted => {
                matches!(place, Place::Query(_))
            }
            Piece::Listed(header) => matches!(place, Place::Header(name) if name == header),
            _ => false,
        })
    }

    /// The content of this request.
    pub(crate) fn resolve<'a>(&'a self, values: &Values<'a>) -> Result<Vec<Chunk<'a>>, Absent> {
        let chunk = |piece: &'a Piece| match piece {
            Piece::Secret => Ok(Chunk::Secret),
            piece => piece.text(values).map(Chunk::Bytes),
        };
        self.pieces.iter().map(chunk).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{locate::selector::Inputs, request::Request};

    fn filled(template: &str) -> Result<String, String> {
        let mut pointers = Pointers::default();
        let template = Template::parse(template, &mut pointers)?;
        let body = Bytes::from_static(br#"{"a":{"b":7}}"#);
        let request = Request {
            method: "POST",
            url: Some("https://x.example/h?q=1"),
            query: None,
            headers: &[("x-nonce", b"n0")],
            body: &body,
        };
        let found = pointers.find(&body);
        let inputs = Inputs {
            request: &request,
            found: found.as_ref(),
            signature: None,
        };
        let chunks = template
            .resolve(&Values {
                inputs: &inputs,
                timestamp: Some("99"),
                id: Some(b"id1"),
                mac: None,
                url_decode: Some("/"),
                key_name: None,
            })
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
            (
                "{method}{url}{header:X-Nonce}",
                "POSThttps://x.example/h?q=1n0",
            ),
            ("{secret}{body:a.b}-{query:q}", "SECRET7-1"),
            ("{{{body:a.b}}}", "{7}"),
            ("{raw:a}", r#"{"b":7}"#),
            (
                "{hash:sha256:hex}",
                "ded2ae443605fc63a0c4c310521e088c93ad3f66545506c42de68244b4c259de",
            ),
        ] {
            assert_eq!(filled(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn a_template_without_sense_is_refused() {
        for template in [
            "",
            "text",
            "{secret}",
            "{nothing}",
            "{body",
            "body}",
            "{header:a b}",
            "{}",
            "{mac}{body}",
            "{hash:md5:hex}",
            "{hash:sha256}",
        ] {
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
