//! Selectors: the small language that names places in a request (`header:X`, `body:a.b`, `|`, `+`,
//! `?`). A selector is parsed once, and resolving one borrows from the request. It does not know
//! what a value is for.

use std::borrow::Cow;

use crate::{
    compiler::Compiler,
    locate::{
        json::{Found, Pointers},
        multipart::field,
        signature_text::Grammar,
    },
    request::{Repeated, Request, is_form},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A lower-case name.
    Header(String),
    /// What the names of several headers begin with, lower-case.
    Headers(String),
    /// An index into the found values.
    Body(usize),
    /// The whole body. In an event key it is the body's digest.
    Whole,
    /// An index into the found names.
    Member(usize),
    Query(String),
    /// Any query parameter.
    Queries,
    Form(String),
    /// A member of the signature's text.
    Signature(String),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header(name) => write!(f, "the header {name}"),
            Self::Headers(start) => write!(f, "any header {start}…"),
            Self::Body(_) | Self::Member(_) => f.write_str("a member of the body"),
            Self::Whole => f.write_str("the body"),
            Self::Queries => f.write_str("any query parameter"),
            Self::Query(name) => write!(f, "the query parameter {name}"),
            Self::Form(name) => write!(f, "the form field {name}"),
            Self::Signature(name) => write!(f, "the signature's {name}"),
        }
    }
}

impl Place {
    /// Whether it is a part of the signature's own text.
    pub(crate) fn is_of_signature(&self) -> bool {
        matches!(self, Self::Signature(_))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) place: Place,
    /// What is behind the colon, as it was written. It is needed to put a value there.
    pub(crate) written: String,
    pub(crate) optional: bool,
    /// The value counts only if it is this one.
    pub(crate) only: Option<String>,
}

/// Alternatives, each a join of parts.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    pub(crate) alternatives: Vec<Vec<Part>>,
}

/// What selectors are resolved against.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) found: Option<&'a Found<'a>>,
    pub(crate) signature: Option<(&'a Grammar, &'a str)>,
}

/// A resolved value and the alternative that gave it.
pub(crate) type Resolved<'a> = Option<(usize, Cow<'a, [u8]>)>;

impl Selector {
    /// Reads a selector. At least one part of each alternative must not be optional.
    pub(crate) fn parse(text: &str, pointers: &mut Pointers) -> Result<Self, String> {
        let selector = Self::parse_optional(text, pointers)?;
        match selector
            .alternatives
            .iter()
            .position(|parts| parts.iter().all(|part| part.optional))
        {
            Some(at) => Err(format!(
                "{:?}: one part at least must not be optional",
                text.split('|').nth(at).unwrap_or_default()
            )),
            None => Ok(selector),
        }
    }

    /// Like `parse`, but every part may be optional.
    pub(crate) fn parse_optional(text: &str, pointers: &mut Pointers) -> Result<Self, String> {
        let parts = |alternative: &str| {
            alternative
                .split('+')
                .map(|part| parse_part(part.trim(), pointers))
                .collect()
        };
        Ok(Self {
            alternatives: text.split('|').map(parts).collect::<Result<_, _>>()?,
        })
    }

    /// All places that it names.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        self.alternatives.iter().flatten().map(|part| &part.place)
    }

    /// The first alternative whose parts are there and not empty.
    pub(crate) fn resolve<'a>(&self, inputs: &Inputs<'a>) -> Result<Resolved<'a>, Repeated> {
        for (index, parts) in self.alternatives.iter().enumerate() {
            if let Some(value) = join(parts, inputs)? {
                return Ok(Some((index, value)));
            }
        }
        Ok(None)
    }

    /// Every alternative that is there. If a place may be many headers, each of them.
    pub(crate) fn resolve_each<'a>(
        &self,
        inputs: &Inputs<'a>,
        repeated: bool,
    ) -> Result<Vec<Cow<'a, [u8]>>, Repeated> {
        let mut values = Vec::new();
        for parts in &self.alternatives {
            match &parts[0].place {
                Place::Header(name) if repeated => {
                    values.extend(all_headers(inputs.request, |known| known == name))
                }
                Place::Queries => values.extend(all_queries(inputs.request)),
                Place::Headers(start) => values.extend(all_headers(inputs.request, |known| {
                    known.starts_with(start.as_str())
                })),
                _ => values.extend(join(parts, inputs)?),
            }
        }
        Ok(values)
    }
}

impl Compiler {
    /// Reads the selector that is written under this key.
    pub(crate) fn selector(
        &mut self,
        key: &str,
        text: &str,
        pointers: &mut Pointers,
    ) -> Option<Selector> {
        self.keep(key, Selector::parse(text, pointers))
    }
}

fn all_headers<'a>(
    request: &Request<'a>,
    wanted: impl Fn(&str) -> bool,
) -> impl Iterator<Item = Cow<'a, [u8]>> {
    request
        .headers
        .iter()
        .filter(move |(name, value)| wanted(name) && !value.is_empty())
        .map(|(_, value)| Cow::Borrowed(*value))
}

fn parse_part(text: &str, pointers: &mut Pointers) -> Result<Part, String> {
    let (text, optional) = text
        .strip_suffix('?')
        .map_or((text, false), |text| (text, true));
    if text == "body:" {
        return Ok(Part {
            place: Place::Whole,
            written: String::new(),
            optional,
            only: None,
        });
    }
    let wrong = || {
        format!(
            "{text:?} names no place: write header:NAME, body:PATH, raw:PATH, member:NAME, query:NAME, form:NAME, signature:MEMBER or claim:PATH"
        )
    };
    let (kind, name) = text
        .split_once(':')
        .filter(|(_, name)| !name.is_empty())
        .ok_or_else(wrong)?;
    let (name, only) = match name.split_once('=') {
        Some((name, only)) if kind == "header" && !name.is_empty() && !only.is_empty() => {
            (name, Some(only.to_owned()))
        }
        _ => (name, None),
    };
    let place = match kind {
        "header"
            if name.len() > 1
                && name.ends_with('*')
                && name[..name.len() - 1].bytes().all(is_name) =>
        {
            Place::Headers(name[..name.len() - 1].to_ascii_lowercase())
        }
        "header" if name.bytes().all(is_name) => Place::Header(name.to_ascii_lowercase()),
        "header" => return Err(format!("{name:?} is no header name")),
        "body" => Place::Body(pointers.add(name)?),
        "raw" => Place::Body(pointers.add_raw(name)?),
        "member" => Place::Member(pointers.add_name(name)?),
        "query" if name == "*" => Place::Queries,
        "query" => Place::Query(name.into()),
        "form" => Place::Form(name.into()),
        "signature" | "claim" => Place::Signature(name.into()),
        _ => return Err(wrong()),
    };
    Ok(Part {
        place,
        written: name.into(),
        optional,
        only,
    })
}

/// A character of a header's name (RFC 9110, section 5.6.2), except the star, which stands for any
/// run.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&byte)
}

fn join<'a>(parts: &[Part], inputs: &Inputs<'a>) -> Result<Option<Cow<'a, [u8]>>, Repeated> {
    let mut joined: Option<Cow<'a, [u8]>> = None;
    for part in parts {
        let is_meant = |value: &Cow<'_, [u8]>| {
            part.only
                .as_ref()
                .is_none_or(|only| only.as_bytes() == &value[..])
        };
        let value =
            value_at(&part.place, inputs)?.filter(|value| !value.is_empty() && is_meant(value));
        match (value, &mut joined) {
            (None, _) if part.optional => {}
            (None, _) => return Ok(None),
            (Some(value), None) => joined = Some(value),
            (Some(value), Some(joined)) => {
                let joined = joined.to_mut();
                joined.push(b'.');
                joined.extend_from_slice(&value);
            }
        }
    }
    Ok(joined)
}

/// The value at one place.
pub(crate) fn value_at<'a>(
    place: &Place,
    inputs: &Inputs<'a>,
) -> Result<Option<Cow<'a, [u8]>>, Repeated> {
    Ok(match place {
        Place::Whole => Some(Cow::Borrowed(&inputs.request.body[..])),
        Place::Header(name) => header(inputs.request, name)?.map(Cow::Borrowed),
        Place::Headers(start) => {
            all_headers(inputs.request, |known| known.starts_with(start.as_str())).next()
        }
        Place::Body(index) => inputs
            .found
            .and_then(|found| found.value(*index))
            .cloned()
            .map(bytes_of),
        Place::Member(index) => inputs
            .found
            .and_then(|found| found.name(*index))
            .cloned()
            .map(bytes_of),
        Place::Queries => all_queries(inputs.request).next(),
        Place::Query(name) => inputs
            .request
            .query_text()
            .and_then(|query| pair(query.as_bytes(), name)),
        Place::Form(name) if inputs.request.body.starts_with(b"--") => {
            field(inputs.request.body, name).map(Cow::Borrowed)
        }
        Place::Form(name) if is_form(inputs.request.body) => pair(inputs.request.body, name),
        Place::Form(_) => None,
        Place::Signature(name) => match inputs.signature {
            Some((grammar, text)) => grammar.member(text, name)?.map(bytes_of),
            None => None,
        },
    })
}

fn bytes_of(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

fn all_queries<'a>(request: &Request<'a>) -> impl Iterator<Item = Cow<'a, [u8]>> {
    let query = request.query_text().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes())
        .map(|(_, value)| bytes_of(value))
        .filter(|value| !value.is_empty())
}

fn pair<'a>(form: &'a [u8], name: &str) -> Option<Cow<'a, [u8]>> {
    url::form_urlencoded::parse(form)
        .find(|(key, _)| key == name)
        .map(|(_, value)| bytes_of(value))
}

/// The one value of a header.
fn header<'a>(request: &Request<'a>, name: &str) -> Result<Option<&'a [u8]>, Repeated> {
    let mut values = request
        .headers
        .iter()
        .filter(|(known, _)| *known == name)
        .map(|(_, value)| *value);
    let first = values.next();
    if values.next().is_some() {
        Err(Repeated(name.into()))
    } else {
        Ok(first)
    }
}
