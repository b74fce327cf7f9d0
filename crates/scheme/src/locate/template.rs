//! The content template: what a signature covers, compiled once. Resolved per request into borrowed pieces, so that a body is hashed
//! where it lies and never copied.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256, Sha512};

use crate::{
    encoding::encoded,
    locate::{
        canonical,
        json::Pointers,
        selector::{Inputs, Place, Selector},
    },
    rejection::{Reason, Rejection},
    request::{Repeated, Request},
    spec::Encoding,
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
    /// A digest that was made before; in answers alone.
    Mac,
    /// A hash of the body, as text.
    BodyHash(Hash, Option<Encoding>),
    /// The same of the URL.
    UrlHash(Hash, Option<Encoding>),
    Value(Selector),
    /// The same in lower case.
    Lower(Selector),
    /// Nothing where it is missing.
    Optional(Selector),
    /// Nothing at all, but it must be there.
    There(Selector),
    Path,
    PathEscaped,
    Base,
    Host,
    FormSorted,
    QuerySorted,
    UrlAndFormSorted,
    Listed(String),
    /// The body as a JSON string.
    JsonBody,
    /// The body's CRC-32, in decimal: it finds accidents, and no forgery.
    Crc32,
    /// What the secret has before the key itself; in answers alone.
    KeyName,
}

#[derive(Clone, Copy, Debug)]
enum Hash {
    Sha256,
    Sha512,
}

#[derive(Clone, Debug)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

/// One piece of the content of one request.
pub(crate) enum Chunk<'a> {
    Bytes(Cow<'a, [u8]>),
    /// The key itself stands here (hashes that are no HMAC).
    Secret,
}

/// What was resolved before the content.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a> {
    pub(crate) inputs: &'a Inputs<'a>,
    pub(crate) timestamp: Option<&'a str>,
    pub(crate) id: Option<&'a [u8]>,
    pub(crate) mac: Option<&'a str>,
    /// Characters whose percent-encoding in the URL is undone.
    pub(crate) url_decode: Option<&'a str>,
    pub(crate) key_name: Option<&'a str>,
}

impl<'a> Values<'a> {
    /// With the request alone.
    pub(crate) fn none(inputs: &'a Inputs<'a>) -> Self {
        Self { inputs, timestamp: None, id: None, mac: None, url_decode: None, key_name: None }
    }
}

/// Why a content can't be made of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// What is missing, as it is called in a sentence.
    Piece(String),
    Url,
    Repeated(String),
}

impl From<Repeated> for Absent {
    fn from(Repeated(name): Repeated) -> Self {
        Self::Repeated(name)
    }
}

impl From<Absent> for Rejection {
    fn from(absent: Absent) -> Self {
        match absent {
            Absent::Piece(place) => Self::new(Reason::MissingSignature, format!("{place}, which is signed, is missing")),
            Absent::Url => Self::new(Reason::Unsupported, "this provider signs the URL: set ingress.public_url"),
            Absent::Repeated(name) => Repeated(name).into(),
        }
    }
}

impl Template {
    /// A template of what is signed: something of the request must be in it.
    pub(crate) fn parse(text: &str, pointers: &mut Pointers) -> Result<Self, String> {
        let template = Self::parse_any(text, pointers)?;
        if template.pieces.iter().any(|piece| matches!(piece, Piece::Mac | Piece::KeyName)) {
            return Err("{mac} and {key_name} are for answers".into());
        }
        if template
            .pieces
            .iter()
            .all(|piece| matches!(piece, Piece::Literal(_) | Piece::Secret | Piece::Method | Piece::Optional(_) | Piece::There(_)))
        {
            return Err(format!("{text:?} signs nothing of the request"));
        }
        Ok(template)
    }

    /// A template of a value to compare with: a text will do.
    pub(crate) fn parse_value(text: &str, pointers: &mut Pointers) -> Result<Self, String> {
        let template = Self::parse_any(text, pointers)?;
        let other = |piece: &Piece| matches!(piece, Piece::Secret | Piece::Timestamp | Piece::Id | Piece::Mac | Piece::KeyName);
        if template.pieces.iter().any(other) {
            return Err("{secret}, {timestamp}, {id}, {mac} and {key_name} have no place in a value to compare with".into());
        }
        Ok(template)
    }

    /// A template of an answer: anything but the secret may be in it.
    pub(crate) fn parse_answer(text: &str, pointers: &mut Pointers) -> Result<Self, String> {
        let template = Self::parse_any(text, pointers)?;
        if template.pieces.iter().any(|piece| matches!(piece, Piece::Secret | Piece::Timestamp | Piece::Id)) {
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
                "mac" => Piece::Mac,
                name => piece(name, pointers)?,
            });
        }
        literal.extend_from_slice(rest.as_bytes());
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { pieces })
    }

    pub(crate) fn has_body(&self) -> bool {
        self.pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Body | Piece::BodyHash(..) | Piece::JsonBody | Piece::FormSorted | Piece::UrlAndFormSorted))
    }

    pub(crate) fn selectors(&self) -> impl Iterator<Item = &Selector> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Value(selector) | Piece::Lower(selector) | Piece::Optional(selector) => Some(selector),
            _ => None,
        })
    }

    /// The headers that list signed ones.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| if let Piece::Listed(header) = piece { Some(header.as_str()) } else { None })
    }

    pub(crate) fn has_mac(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Mac))
    }

    pub(crate) fn has_timestamp(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Timestamp))
    }

    pub(crate) fn has_id(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Id))
    }

    pub(crate) fn has_secret(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Secret))
    }

    /// Whether this header or query parameter is signed by itself.
    pub(crate) fn covers(&self, place: &Place) -> bool {
        self.pieces.iter().any(|piece| match piece {
            Piece::Value(selector) | Piece::Optional(selector) => {
                selector.alternatives.len() == 1 && selector.places().any(|covered| covered == place)
            }
            Piece::Url | Piece::Path | Piece::PathEscaped | Piece::QuerySorted | Piece::UrlAndFormSorted => {
                matches!(place, Place::Query(_))
            }
            Piece::Listed(header) => matches!(place, Place::Header(name) if name == header),
            _ => false,
        })
    }

    pub(crate) fn resolve<'a>(&'a self, values: &Values<'a>) -> Result<Vec<Chunk<'a>>, Absent> {
        let request = values.inputs.request;
        self.pieces
            .iter()
            .map(|piece| {
                Ok(Chunk::Bytes(match piece {
                    Piece::Literal(text) => Cow::Borrowed(&text[..]),
                    Piece::Body => Cow::Borrowed(&request.body[..]),
                    Piece::Timestamp => Cow::Borrowed(values.timestamp.ok_or_else(|| Absent::Piece("the time".into()))?.as_bytes()),
                    Piece::Id => Cow::Borrowed(values.id.ok_or_else(|| Absent::Piece("the id".into()))?),
                    Piece::Url => canonical::url_decoded(request.url.ok_or(Absent::Url)?, values.url_decode),
                    Piece::Mac => Cow::Borrowed(values.mac.unwrap_or_default().as_bytes()),
                    Piece::BodyHash(hash, encoding) => Cow::Owned(hash.of(request.body, *encoding)),
                    Piece::UrlHash(hash, encoding) => Cow::Owned(hash.of(request.url.ok_or(Absent::Url)?.as_bytes(), *encoding)),
                    Piece::Path => Cow::Borrowed(canonical::path_of(request.url.ok_or(Absent::Url)?).as_bytes()),
                    Piece::PathEscaped => Cow::Owned(canonical::path_escaped(request.url.ok_or(Absent::Url)?).into_bytes()),
                    Piece::Base => Cow::Borrowed(canonical::base_of(request.url.ok_or(Absent::Url)?).as_bytes()),
                    Piece::Host => Cow::Borrowed(canonical::host_of(request.url.ok_or(Absent::Url)?).as_bytes()),
                    Piece::FormSorted => Cow::Owned(canonical::form_sorted(request).ok_or_else(no_form)?),
                    Piece::QuerySorted => Cow::Owned(canonical::query_sorted(request)),
                    Piece::UrlAndFormSorted => {
                        request.url.ok_or(Absent::Url)?;
                        Cow::Owned(canonical::url_and_form_sorted(request).ok_or_else(no_form)?)
                    }
                    Piece::Listed(header) => Cow::Owned(
                        canonical::listed_headers(request, header)
                            .ok_or_else(|| Absent::Piece(format!("the list of signed headers, {header},")))?,
                    ),
                    Piece::JsonBody => {
                        let text = std::str::from_utf8(request.body).map_err(|_| Absent::Piece("the body as text".into()))?;
                        Cow::Owned(serde_json::Value::from(text).to_string().into_bytes())
                    }
                    Piece::Crc32 => Cow::Owned(crc32fast::hash(request.body).to_string().into_bytes()),
                    Piece::KeyName => Cow::Borrowed(values.key_name.ok_or_else(|| Absent::Piece("the key's name".into()))?.as_bytes()),
                    Piece::Optional(selector) => {
                        let value = selector.resolve(values.inputs)?;
                        value.map(|(_, value)| value).unwrap_or_default()
                    }
                    Piece::There(selector) => {
                        // In the URL that is signed, not in another that came.
                        let request = Request { query: None, ..*request };
                        there(selector, &Values::none(&Inputs { request: &request, ..*values.inputs }))?;
                        Cow::Borrowed(&b""[..])
                    }
                    Piece::Method => Cow::Borrowed(request.method.as_bytes()),
                    Piece::Secret => return Ok(Chunk::Secret),
                    Piece::Value(selector) => there(selector, values)?,
                    Piece::Lower(selector) => Cow::Owned(String::from_utf8_lossy(&there(selector, values)?).to_lowercase().into_bytes()),
                }))
            })
            .collect()
    }
}

fn there<'a>(selector: &Selector, values: &Values<'a>) -> Result<Cow<'a, [u8]>, Absent> {
    let value = selector.resolve(values.inputs)?;
    Ok(value.ok_or_else(|| Absent::Piece(selector.alternatives[0][0].place.to_string()))?.1)
}

fn no_form() -> Absent {
    Absent::Piece("a form body".into())
}

/// What stands in braces and is of several parts.
fn piece(name: &str, pointers: &mut Pointers) -> Result<Piece, String> {
    Ok(match name {
        "path" => Piece::Path,
        "path_escaped" => Piece::PathEscaped,
        "base" => Piece::Base,
        "host" => Piece::Host,
        "form_sorted" => Piece::FormSorted,
        "query_sorted" => Piece::QuerySorted,
        "url_and_form_sorted" => Piece::UrlAndFormSorted,
        "json:body" => Piece::JsonBody,
        "crc32:body" => Piece::Crc32,
        "key_name" => Piece::KeyName,
        name if name.starts_with("lower:") => Piece::Lower(Selector::parse(&name["lower:".len()..], pointers)?),
        name => match (name.strip_prefix("hash:"), name.strip_prefix("listed:"), name.strip_prefix('?'), name.strip_suffix('?')) {
            (Some(_), ..) => body_hash(name)?,
            (_, Some(header), ..) => Piece::Listed(header.to_ascii_lowercase()),
            (_, _, Some(selector), _) => Piece::There(Selector::parse(selector, pointers)?),
            (.., Some(selector)) => Piece::Optional(Selector::parse(selector, pointers)?),
            _ => Piece::Value(Selector::parse(name, pointers)?),
        },
    })
}

/// `hash:ALGORITHM:ENCODING`, of the body; with `:url` behind it, of the URL.
fn body_hash(name: &str) -> Result<Piece, String> {
    let wrong = || {
        format!(
            "{{{name}}}: write {{hash:ALGORITHM:ENCODING}} with sha256 or sha512, and hex, base64, base64url or raw; :url behind it hashes the URL"
        )
    };
    let mut parts = name.splitn(4, ':').skip(1);
    let hash = match parts.next() {
        Some("sha256") => Hash::Sha256,
        Some("sha512") => Hash::Sha512,
        _ => return Err(wrong()),
    };
    let encoding = match parts.next() {
        Some("hex") => Some(Encoding::Hex),
        Some("base64") => Some(Encoding::Base64),
        Some("base64url") => Some(Encoding::Base64url),
        Some("raw") => None,
        _ => return Err(wrong()),
    };
    match parts.next() {
        None => Ok(Piece::BodyHash(hash, encoding)),
        Some("url") => Ok(Piece::UrlHash(hash, encoding)),
        Some(_) => Err(wrong()),
    }
}

impl Hash {
    /// As text in this encoding, or the bytes themselves.
    fn of(self, body: &[u8], encoding: Option<Encoding>) -> Vec<u8> {
        let digest = match self {
            Self::Sha256 => Sha256::digest(body).to_vec(),
            Self::Sha512 => Sha512::digest(body).to_vec(),
        };
        encoding.map_or(digest.clone(), |encoding| encoded(&digest, encoding).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn filled(template: &str) -> Result<String, String> {
        let mut pointers = Pointers::default();
        let template = Template::parse(template, &mut pointers)?;
        let body = Bytes::from_static(br#"{"a":{"b":7}}"#);
        let request =
            Request { method: "POST", url: Some("https://x.example/h?q=1"), query: None, headers: &[("x-nonce", b"n0")], body: &body };
        let found = pointers.find(&body);
        let inputs = Inputs { request: &request, found: found.as_ref(), signature: None };
        let chunks = template
            .resolve(&Values { inputs: &inputs, timestamp: Some("99"), id: Some(b"id1"), mac: None, url_decode: Some("/"), key_name: None })
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
            ("{raw:a}", r#"{"b":7}"#),
            ("{hash:sha256:hex}", "ded2ae443605fc63a0c4c310521e088c93ad3f66545506c42de68244b4c259de"),
        ] {
            assert_eq!(filled(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn a_template_without_sense_is_refused() {
        for template in
            ["", "text", "{secret}", "{nothing}", "{body", "body}", "{header:a b}", "{}", "{mac}{body}", "{hash:md5:hex}", "{hash:sha256}"]
        {
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
