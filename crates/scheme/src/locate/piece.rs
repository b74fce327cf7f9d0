//! The pieces that the content of a signature is made of, and the value of each in one request.
//! Most are borrowed from the request.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256, Sha512};

use crate::{
    encoding::encoded,
    locate::{
        canonical,
        json::Pointers,
        selector::{Inputs, Selector},
    },
    rejection::{Reason, Rejection},
    request::{Repeated, Request},
    spec::Encoding,
};

/// A piece of a content.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Literal(Vec<u8>),
    Body,
    Timestamp,
    Id,
    Url,
    Method,
    Secret,
    /// A digest that was made before; only answers have it.
    Mac,
    /// A hash of the body, as text.
    BodyHash(Hash, Option<Encoding>),
    /// A hash of the URL, as text.
    UrlHash(Hash, Option<Encoding>),
    Value(Selector),
    /// The value in lower case.
    Lower(Selector),
    /// The value, or nothing if it is missing.
    Optional(Selector),
    /// Nothing at all, but the value must be there.
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
    /// The body's CRC-32 in decimal. It finds accidents but no forgery.
    Crc32,
    /// What the secret has before the key itself; only answers have it.
    KeyName,
}

/// How the body or the URL is hashed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

/// The values that were resolved before the content.
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
    /// No values but the request's own.
    pub(crate) fn none(inputs: &'a Inputs<'a>) -> Self {
        Self {
            inputs,
            timestamp: None,
            id: None,
            mac: None,
            url_decode: None,
            key_name: None,
        }
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
            Absent::Piece(place) => Self::new(
                Reason::MissingSignature,
                format!("{place}, which is signed, is missing"),
            ),
            Absent::Url => Self::new(
                Reason::Unsupported,
                "this provider signs the URL: set ingress.public_url",
            ),
            Absent::Repeated(name) => Repeated(name).into(),
        }
    }
}

impl Piece {
    /// The text of this piece in a request. The secret has none, because whoever hashes puts it in.
    pub(super) fn text<'a>(&'a self, values: &Values<'a>) -> Result<Cow<'a, [u8]>, Absent> {
        let request = values.inputs.request;
        let lacking = |what: &str| Absent::Piece(what.into());
        Ok(match self {
            Self::Literal(text) => Cow::Borrowed(&text[..]),
            Self::Body => Cow::Borrowed(&request.body[..]),
            Self::Timestamp => Cow::Borrowed(
                values
                    .timestamp
                    .ok_or_else(|| lacking("the time"))?
                    .as_bytes(),
            ),
            Self::Id => Cow::Borrowed(values.id.ok_or_else(|| lacking("the id"))?),
            Self::Mac => Cow::Borrowed(values.mac.unwrap_or_default().as_bytes()),
            Self::KeyName => Cow::Borrowed(
                values
                    .key_name
                    .ok_or_else(|| lacking("the key's name"))?
                    .as_bytes(),
            ),
            Self::Method => Cow::Borrowed(request.method.as_bytes()),
            Self::Secret => Cow::Borrowed(&b""[..]),
            Self::Value(selector) => there(selector, values)?,
            Self::Lower(selector) => Cow::Owned(
                String::from_utf8_lossy(&there(selector, values)?)
                    .to_lowercase()
                    .into_bytes(),
            ),
            Self::Optional(selector) => selector
                .resolve(values.inputs)?
                .map(|(_, value)| value)
                .unwrap_or_default(),
            Self::There(selector) => {
                // The query is that of the URL that is signed, even if another came.
                let request = Request {
                    query: None,
                    ..*request
                };
                there(
                    selector,
                    &Values::none(&Inputs {
                        request: &request,
                        ..*values.inputs
                    }),
                )?;
                Cow::Borrowed(&b""[..])
            }
            Self::Url
            | Self::UrlHash(..)
            | Self::Path
            | Self::PathEscaped
            | Self::Base
            | Self::Host => self.of_url(request.url.ok_or(Absent::Url)?, values.url_decode),
            derived => derived.derived(request)?.into(),
        })
    }

    /// The pieces that are made of the URL alone.
    fn of_url<'a>(&self, url: &'a str, decode: Option<&str>) -> Cow<'a, [u8]> {
        match self {
            Self::UrlHash(hash, encoding) => Cow::Owned(hash.of(url.as_bytes(), *encoding)),
            Self::Path => Cow::Borrowed(canonical::path_of(url).as_bytes()),
            Self::PathEscaped => Cow::Owned(canonical::path_escaped(url).into_bytes()),
            Self::Base => Cow::Borrowed(canonical::base_of(url).as_bytes()),
            Self::Host => Cow::Borrowed(canonical::host_of(url).as_bytes()),
            _ => canonical::url_decoded(url, decode),
        }
    }

    /// The pieces that have to be made, because no part of a request has them as they are signed.
    fn derived(&self, request: &Request<'_>) -> Result<Vec<u8>, Absent> {
        let no_form = || Absent::Piece("a form body".into());
        match self {
            Self::BodyHash(hash, encoding) => Ok(hash.of(request.body, *encoding)),
            Self::FormSorted => canonical::form_sorted(request).ok_or_else(no_form),
            Self::QuerySorted => Ok(canonical::query_sorted(request)),
            Self::UrlAndFormSorted => {
                request.url.ok_or(Absent::Url)?;
                canonical::url_and_form_sorted(request).ok_or_else(no_form)
            }
            Self::Listed(header) => canonical::listed_headers(request, header)
                .ok_or_else(|| Absent::Piece(format!("the list of signed headers, {header},"))),
            Self::JsonBody => {
                let text = std::str::from_utf8(request.body)
                    .map_err(|_| Absent::Piece("the body as text".into()))?;
                Ok(serde_json::Value::from(text).to_string().into_bytes())
            }
            Self::Crc32 => Ok(crc32fast::hash(request.body).to_string().into_bytes()),
            _ => Ok(Vec::new()),
        }
    }
}

fn there<'a>(selector: &Selector, values: &Values<'a>) -> Result<Cow<'a, [u8]>, Absent> {
    let value = selector.resolve(values.inputs)?;
    Ok(value
        .ok_or_else(|| Absent::Piece(selector.alternatives[0][0].place.to_string()))?
        .1)
}

/// Reads what is in braces.
pub(super) fn parse(name: &str, pointers: &mut Pointers) -> Result<Piece, String> {
    Ok(match name {
        "body" => Piece::Body,
        "timestamp" => Piece::Timestamp,
        "id" => Piece::Id,
        "url" => Piece::Url,
        "method" => Piece::Method,
        "secret" => Piece::Secret,
        "mac" => Piece::Mac,
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
        name if name.starts_with("lower:") => {
            Piece::Lower(Selector::parse(&name["lower:".len()..], pointers)?)
        }
        name => match (
            name.strip_prefix("hash:"),
            name.strip_prefix("listed:"),
            name.strip_prefix('?'),
            name.strip_suffix('?'),
        ) {
            (Some(_), ..) => body_hash(name)?,
            (_, Some(header), ..) => Piece::Listed(header.to_ascii_lowercase()),
            (_, _, Some(selector), _) => Piece::There(Selector::parse(selector, pointers)?),
            (.., Some(selector)) => Piece::Optional(Selector::parse(selector, pointers)?),
            _ => Piece::Value(Selector::parse(name, pointers)?),
        },
    })
}

/// Reads `hash:ALGORITHM:ENCODING`, a hash of the body; with `:url` behind it, of the URL.
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
    /// The hash as text in this encoding, or its bytes.
    fn of(self, body: &[u8], encoding: Option<Encoding>) -> Vec<u8> {
        let digest = match self {
            Self::Sha256 => Sha256::digest(body).to_vec(),
            Self::Sha512 => Sha512::digest(body).to_vec(),
        };
        encoding.map_or(digest.clone(), |encoding| {
            encoded(&digest, encoding).into_bytes()
        })
    }
}
