//! What single facts of a scheme are called: in the cells of the table and in the full text alike.

use hookonce_scheme::Scheme;

use crate::settings::scheme::{Dedup, OneOrMany, SchemeSpec, Stability};

pub(super) fn algorithms(scheme: &Scheme) -> String {
    let names = scheme.spec.algorithm.as_slice().iter().map(named);
    let names = names.collect::<Vec<_>>().join(" or ");
    if scheme.spec.signature.jws {
        format!("token (JWT) with {names}")
    } else {
        names
    }
}

/// A value as it is written in a scheme.
pub(super) fn named(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

pub(super) fn established(scheme: &Scheme) -> &str {
    scheme
        .spec
        .confidence
        .as_ref()
        .map_or("-", |confidence| &confidence.scheme)
}

/// What the key is made of, as a table's cell.
pub(super) fn key_in_short(scheme: &Scheme) -> String {
    let spec = &scheme.spec;
    match dedup_of(spec.dedup, spec.key.as_ref()) {
        Dedup::Key => spec
            .key
            .as_ref()
            .map_or_else(String::new, |key| spelt(&key.to_string())),
        Dedup::Body if type_in_header(spec) => "the body's digest + its type".into(),
        Dedup::Body => "the body's digest".into(),
        Dedup::None => "none: each request is an event".into(),
    }
}

/// What the key names, and whether it stays the same when an event is sent again, as a table's
/// cell.
pub(super) fn identity_in_short(scheme: &Scheme) -> String {
    let Some(identity) = &scheme.spec.identity else {
        return "-".into();
    };
    let stays = match identity.stays {
        Some(Stability::Stated) => "stays, as stated",
        Some(Stability::Recalled) => "stays, as recalled",
        Some(Stability::Unknown) => "not established",
        None => "",
    };
    match identity.names.as_ref().map(named) {
        Some(names) => format!("{names}; {stays}"),
        None if stays.is_empty() => "-".into(),
        None => format!("not known; {stays}"),
    }
}

pub(super) fn dedup_of(dedup: Option<Dedup>, key: Option<&OneOrMany<String>>) -> Dedup {
    dedup.unwrap_or(if key.is_some() {
        Dedup::Key
    } else {
        Dedup::None
    })
}

fn type_in_header(spec: &SchemeSpec) -> bool {
    spec.event_type
        .as_ref()
        .is_some_and(|place| place.contains("header:"))
}

/// A key as people read it: `body:` alone stands for the body's digest.
pub(super) fn spelt(key: &str) -> String {
    let parts = key.split(" + ").map(|part| {
        if part == "body:" {
            "the body's digest"
        } else {
            part
        }
    });
    parts.collect::<Vec<_>>().join(" + ")
}
