//! What makes two requests one event: the event key, which has one or several parts, and the digest
//! of the body by which repeats are compared. In doubt two requests are two events: without a
//! needed part, or with a body that names nothing, there is no key.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};

use crate::{
    compiler::Compiler,
    digest::BodyDigest,
    locate::{
        document::document,
        json::Pointers,
        selector::{Inputs, Part, Place, Selector, value_at},
    },
    name::name,
    plan::{coverage::Coverage, ignored::Ignored},
    rejection::Rejection,
    spec::{Dedup, OneOrMany, SchemeSpec},
};

/// How two requests with one event key are compared.
#[derive(Clone, Copy)]
pub(crate) enum Compared {
    /// By the whole body, which is digested anyway. Most repeats are identical.
    AsSent,
    /// Without the places that change when the provider sends again.
    WithoutIgnored,
}

/// A digest of the body that is only made when it is asked for.
type Digest<'d> = &'d dyn Fn() -> BodyDigest;

/// The parts of an event key. Two requests have the same key only if each part is the same.
pub(crate) struct EventKey {
    parts: Vec<Selector>,
}

/// A key that was found.
pub(crate) struct FoundKey {
    pub(crate) text: String,
    /// Whether the signature covers each part.
    pub(crate) signed: bool,
}

impl EventKey {
    /// Reads the parts. At least one must not be optional, or every request could have the same
    /// key.
    pub(crate) fn parse(spec: &OneOrMany<String>, pointers: &mut Pointers) -> Result<Self, String> {
        let texts = spec.as_slice();
        let mut parts = Vec::with_capacity(texts.len());
        for text in texts {
            parts.push(if texts.len() > 1 {
                Selector::parse_optional(text, pointers)?
            } else {
                Selector::parse(text, pointers)?
            });
        }
        if parts.iter().all(|part| {
            part.alternatives
                .iter()
                .flatten()
                .all(|place| place.optional)
        }) {
            return Err("one part at least must not be optional".into());
        }
        Ok(Self { parts })
    }

    /// The digest of the body, and the event type if it is in a header.
    fn of_body(event_type: Option<&Selector>) -> Self {
        let whole = Part {
            place: Place::Whole,
            written: String::new(),
            optional: false,
            only: None,
        };
        let mut parts = vec![Selector {
            alternatives: vec![vec![whole]],
        }];
        parts.extend(in_headers(event_type));
        Self { parts }
    }

    /// The places of all parts.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        self.parts.iter().flat_map(Selector::places)
    }

    /// The parts, in order.
    pub(crate) fn selectors(&self) -> &[Selector] {
        &self.parts
    }

    /// The values that a sender puts in these places: the id in the first part, and "1" in any
    /// other part that is still empty.
    pub(crate) fn values<'a>(
        &'a self,
        id: &'a str,
    ) -> impl Iterator<Item = (&'a Selector, &'a str)> {
        let others = self
            .parts
            .iter()
            .skip(1)
            .filter(|part| !is_optional(part))
            .map(|part| (part, "1"));
        self.parts
            .iter()
            .take(1)
            .map(move |part| (part, id))
            .chain(others)
    }

    /// Whether the body alone decides it.
    fn is_of_body(&self) -> bool {
        self.places()
            .all(|place| matches!(place, Place::Body(_) | Place::Member(_) | Place::Whole))
    }

    /// The key. None if a part that must be there is missing.
    fn find(
        &self,
        coverage: &Coverage,
        inputs: &Inputs<'_>,
        digest: Digest<'_>,
    ) -> Result<Option<FoundKey>, Rejection> {
        let mut signed = true;
        let text = match self.parts.as_slice() {
            [part] => self.part(coverage, inputs, part, digest, &mut signed)?,
            parts => self.all(coverage, inputs, parts, digest, &mut signed)?,
        };
        let text = text.map(|text| {
            name(&text).map_or_else(|| hex::encode(Sha256::digest(&text)), str::to_owned)
        });
        Ok(text.map(|text| FoundKey { text, signed }))
    }

    /// Several parts, joined.
    fn all<'a>(
        &self,
        coverage: &Coverage,
        inputs: &Inputs<'a>,
        parts: &[Selector],
        digest: Digest<'_>,
        signed: &mut bool,
    ) -> Result<Option<Cow<'a, [u8]>>, Rejection> {
        let mut texts = Vec::with_capacity(parts.len());
        for part in parts {
            match self.part(coverage, inputs, part, digest, signed)? {
                Some(text) => texts.push(text),
                None if is_optional(part) => texts.push(Cow::default()),
                None => return Ok(None),
            }
        }
        let is_there = texts.iter().any(|text| !text.is_empty());
        Ok(is_there.then(|| joined(&texts).into()))
    }

    /// The first of a part's alternatives that is there.
    fn part<'a>(
        &self,
        coverage: &Coverage,
        inputs: &Inputs<'a>,
        selector: &Selector,
        digest: Digest<'_>,
        signed: &mut bool,
    ) -> Result<Option<Cow<'a, [u8]>>, Rejection> {
        let many = selector.alternatives.iter().any(|places| places.len() > 1);
        // Most keys are the first of a few places, so nothing has to be joined.
        if !many {
            for place in selector.alternatives.iter().flatten() {
                let mut is_signed = true;
                if let Some(text) = value(coverage, inputs, place, digest, &mut is_signed)? {
                    *signed &= is_signed;
                    return Ok(Some(text));
                }
            }
            return Ok(None);
        }
        'alternatives: for places in &selector.alternatives {
            let mut texts = Vec::with_capacity(places.len());
            let mut all_signed = true;
            for place in places {
                match value(coverage, inputs, place, digest, &mut all_signed)? {
                    Some(text) => texts.push(text),
                    None if place.optional => texts.push(Cow::default()),
                    None => continue 'alternatives,
                }
            }
            if texts.iter().any(|text| !text.is_empty()) {
                *signed &= all_signed;
                return Ok(Some(joined(&texts).into()));
            }
        }
        Ok(None)
    }
}

/// Those parts of an event type that are in headers. Each of them may be missing.
fn in_headers(event_type: Option<&Selector>) -> Option<Selector> {
    let of_alternative = |places: &Vec<Part>| -> Vec<Part> {
        let headers = places
            .iter()
            .filter(|part| matches!(part.place, Place::Header(_)) && part.only.is_none());
        headers
            .map(|part| Part {
                optional: true,
                ..part.clone()
            })
            .collect()
    };
    let alternatives: Vec<Vec<Part>> = event_type?
        .alternatives
        .iter()
        .map(of_alternative)
        .filter(|places| !places.is_empty())
        .collect();
    (!alternatives.is_empty()).then_some(Selector { alternatives })
}

fn is_optional(selector: &Selector) -> bool {
    selector
        .alternatives
        .iter()
        .flatten()
        .all(|place| place.optional)
}

/// The value at one place. A blank one counts as missing.
fn value<'a>(
    coverage: &Coverage,
    inputs: &Inputs<'a>,
    part: &Part,
    digest: Digest<'_>,
    signed: &mut bool,
) -> Result<Option<Cow<'a, [u8]>>, Rejection> {
    let is_meant = |value: &Cow<'_, [u8]>| {
        part.only
            .as_ref()
            .is_none_or(|only| only.as_bytes() == &value[..])
    };
    let found = value_at(&part.place, inputs)?;
    let Some(found) = found.filter(|value| !value.trim_ascii().is_empty() && is_meant(value))
    else {
        return Ok(None);
    };
    if part.place == Place::Whole {
        *signed = *signed && coverage.signs(&Place::Whole, &found, None);
        return Ok(Some(Cow::Owned(hex::encode(digest().0).into_bytes())));
    }
    if *signed {
        *signed = coverage.signs(
            &part.place,
            &found,
            coverage.signed_id(inputs.request).as_deref(),
        );
    }
    Ok(Some(found))
}

/// Joins with dots. A dot or backslash inside a text is escaped, so two lists of as many texts
/// never give the same. Missing texts at the end leave nothing.
fn joined(texts: &[Cow<'_, [u8]>]) -> Vec<u8> {
    let texts = &texts[..texts
        .iter()
        .rposition(|text| !text.is_empty())
        .map_or(0, |last| last + 1)];
    let mut all = Vec::with_capacity(texts.iter().map(|text| text.len() + 1).sum());
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            all.push(b'.');
        }
        for byte in text.iter() {
            if matches!(byte, b'.' | b'\\') {
                all.push(b'\\');
            }
            all.push(*byte);
        }
    }
    all
}

/// How a scheme tells events apart.
pub(crate) struct Identity {
    /// None if nothing makes two requests the same.
    pub(crate) key: Option<EventKey>,
    /// What the key is: `key` or `body`, or `none` if there is none.
    pub(crate) dedup: Dedup,
    /// The digest of the body, for a request without the key.
    without_key: Option<EventKey>,
    pub(crate) ignored: Ignored,
    /// The event type, if it is in a header, which the signature does not cover either. Under one
    /// unsigned key, another type is another event.
    kind: Option<Selector>,
    /// A signed body under a new key is looked at, because the signature covers neither the key nor
    /// a time.
    pub(crate) guarded: bool,
    /// What the key was made of by earlier versions. None for the body's digest.
    before: Option<Selector>,
}

/// What tells one request from another.
pub(crate) struct Told {
    /// None if the request names nothing.
    pub(crate) key: Option<String>,
    pub(crate) dedup: Dedup,
    /// Whether the signature covers the key.
    pub(crate) signed: bool,
    pub(crate) guarded: bool,
    /// The type in a header that tells events of one unsigned key apart.
    pub(crate) kind: Option<String>,
}

/// What an identity is made of: the scheme's, or that of its items.
pub(crate) struct IdentityParts<'s> {
    pub(crate) key: Option<&'s OneOrMany<String>>,
    pub(crate) key_at: String,
    pub(crate) key_before: Option<&'s str>,
    pub(crate) dedup: Option<Dedup>,
    pub(crate) dedup_at: String,
    pub(crate) event_type: Option<&'s Selector>,
}

impl Compiler {
    /// `places` are those that are read once the signature is right.
    pub(crate) fn identity(
        &mut self,
        spec: &SchemeSpec,
        parts: &IdentityParts<'_>,
        places: &mut Pointers,
    ) -> Identity {
        let key = parts
            .key
            .and_then(|key| self.keep(&parts.key_at, EventKey::parse(key, places)));
        let dedup = parts.dedup.unwrap_or(if parts.key.is_some() {
            Dedup::Key
        } else {
            Dedup::None
        });
        self.demand(
            dedup != Dedup::Key || parts.key.is_some(),
            &parts.dedup_at,
            "is \"key\", and there is no key: set `key`",
        );
        let without_key = spec.without_key.unwrap_or(Dedup::None);
        self.demand(
            without_key != Dedup::Key,
            "without_key",
            "must be \"body\" or \"none\"",
        );
        let of_body = || EventKey::of_body(parts.event_type);
        // If the scheme does not say, earlier versions had the same parts, joined without escapes.
        let same = parts.key.map(|key| key.as_slice().join("+"));
        let before = match parts.key_before {
            Some("body:") => None,
            Some(text) => self.selector("key_before", text, places),
            None => same.and_then(|text| Selector::parse(&text, places).ok()),
        };
        Identity {
            kind: in_headers(parts.event_type),
            without_key: (dedup == Dedup::Body
                || dedup == Dedup::Key && without_key == Dedup::Body)
                .then(of_body),
            key,
            dedup,
            ignored: Ignored::default(),
            guarded: false,
            before,
        }
    }
}

impl Identity {
    /// Whether the same body always has the same key, and is one event.
    pub(crate) fn is_of_body(&self) -> bool {
        match self.dedup {
            Dedup::None => false,
            Dedup::Body => self.without_key.as_ref().is_some_and(EventKey::is_of_body),
            Dedup::Key => {
                let falls_back = self.without_key.as_ref().is_none_or(EventKey::is_of_body);
                falls_back && self.key.as_ref().is_some_and(EventKey::is_of_body)
            }
        }
    }

    /// Whether the signature's own text is a part of the key.
    pub(crate) fn reads_signature(&self) -> bool {
        self.key
            .as_ref()
            .is_some_and(|key| key.places().any(Place::is_of_signature))
    }

    /// Whether the only key is one of a list's values, in which other items may hide.
    pub(crate) fn is_of_list(&self, places: &Pointers) -> bool {
        let of_list =
            |place: &Place| matches!(place, Place::Body(index) if places.is_of_list(*index));
        self.key
            .as_ref()
            .is_some_and(|key| key.places().any(of_list))
    }

    /// The digest of the body, or of the document that `in_body` finds in it, without what is
    /// ignored.
    pub(crate) fn digest(
        &self,
        in_body: Option<&Selector>,
        inputs: &Inputs<'_>,
        exact: &BodyDigest,
    ) -> BodyDigest {
        if self.ignored.is_empty() {
            return *exact;
        }
        self.ignored
            .digest(&document(in_body, inputs.request, inputs.signature))
    }

    /// `digest` is that of the body without what is ignored.
    pub(crate) fn tell(
        &self,
        coverage: &Coverage,
        inputs: &Inputs<'_>,
        digest: Digest<'_>,
    ) -> Result<Told, Rejection> {
        let key = match &self.key {
            Some(key) => key.find(coverage, inputs, digest)?,
            None => None,
        };
        let (found, dedup) = match (self.dedup, key) {
            (Dedup::None, key) => (key, Dedup::None),
            (Dedup::Key, Some(key)) => (Some(key), Dedup::Key),
            (_, key) => match &self.without_key {
                // An empty body names nothing.
                Some(of_body) if !inputs.request.body.is_empty() => {
                    (of_body.find(coverage, inputs, digest)?, Dedup::Body)
                }
                _ => (key, Dedup::None),
            },
        };
        let signed = found.as_ref().is_none_or(|found| found.signed);
        let guarded =
            self.guarded && dedup == Dedup::Key && !signed && !inputs.request.body.is_empty();
        let kind = match &self.kind {
            Some(kind) if dedup == Dedup::Key && !signed => kind.resolve(inputs)?,
            _ => None,
        };
        let kind = kind.map(|(_, kind)| String::from_utf8_lossy(&kind).into_owned());
        Ok(Told {
            key: found.map(|found| found.text),
            dedup,
            signed,
            guarded,
            kind,
        })
    }

    /// The key as earlier versions made it: the parts that are there, joined with dots, else the
    /// digest of the body.
    pub(crate) fn key_before(
        &self,
        inputs: &Inputs<'_>,
        exact: &BodyDigest,
    ) -> Result<String, Rejection> {
        let found = match &self.before {
            Some(selector) => selector.resolve(inputs)?,
            None => None,
        };
        let found = found
            .map(|(_, value)| value)
            .filter(|value| !value.trim_ascii().is_empty());
        let digest = |digest: &BodyDigest| hex::encode(digest.0);
        Ok(match found {
            Some(value) => {
                name(&value).map_or_else(|| digest(&BodyDigest::of(&value)), str::to_owned)
            }
            None => digest(exact),
        })
    }
}
