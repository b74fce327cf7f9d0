//! Puts another id or type where a scheme has it in a body that is there, and leaves every other
//! byte as it was: for senders' tools, never to verify.

use std::ops::Range;

use serde_json::Value;

use crate::{
    error::SchemeError,
    locate::{
        json::Pointers,
        selector::{Part, Place, Selector},
    },
    plan::{catalog::Scheme, compiled::Plan, time::written},
    sign::put::pieces,
    spec::Algorithm,
};

/// Elements of one list that get ids of their own.
const ELEMENTS_MAX: usize = 1000;

/// Where a request has the event's id, as far as its sender decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdPlace {
    /// In a header, where signing puts it.
    Header,
    /// In the body.
    Body,
    /// The scheme knows no id, or this body has no place for it.
    Nowhere,
}

/// A body with another id.
#[derive(Clone, Debug)]
pub struct Replaced {
    /// Where the id stands.
    pub place: IdPlace,
    /// The whole body.
    pub body: Vec<u8>,
    /// What stood in the body before, of a list the first.
    pub before: Option<String>,
}

/// Finds the event's id in a body and puts what `id` makes of it there, given the old one and how
/// many stood before it in a list.
///
/// # Errors
///
/// A scheme that can't be run, or an id that can't stand there: letters in a number.
pub fn replace_id(
    scheme: &Scheme,
    body: &[u8],
    mut id: impl FnMut(&str, usize) -> String,
) -> Result<Replaced, SchemeError> {
    let plan = scheme.plan().map_err(|mut errors| errors.remove(0))?;
    if let Some(field) = document_field(plan, body) {
        let inner = in_document(plan, field.value.as_bytes(), &mut id)?;
        if inner.place == IdPlace::Body {
            let text = field.written(&String::from_utf8_lossy(&inner.body))?;
            let body = spliced(body, vec![(field.range, text)]);
            return Ok(Replaced { body, ..inner });
        }
    }
    in_document(plan, body, &mut id)
}

fn in_document(
    plan: &Plan,
    body: &[u8],
    id: &mut impl FnMut(&str, usize) -> String,
) -> Result<Replaced, SchemeError> {
    let unchanged = |place| Replaced {
        place,
        body: body.to_vec(),
        before: None,
    };
    for parts in alternatives(plan) {
        if parts
            .iter()
            .any(|part| matches!(part.place, Place::Header(_)))
        {
            return Ok(unchanged(IdPlace::Header));
        }
        let spots: Vec<Spot> = parts.iter().flat_map(|part| spots(body, part)).collect();
        let Some(first) = spots.first() else { continue };
        let before = Some(first.value.clone());
        let mut changed = Vec::with_capacity(spots.len());
        for (index, spot) in spots.iter().enumerate() {
            changed.push((spot.range.clone(), spot.written(&id(&spot.value, index))?));
        }
        return Ok(Replaced {
            place: IdPlace::Body,
            body: spliced(body, changed),
            before,
        });
    }
    Ok(unchanged(IdPlace::Nowhere))
}

/// The form's field that has the JSON text, if the scheme has it in one.
fn document_field(plan: &Plan, body: &[u8]) -> Option<Spot> {
    let places = plan.document.iter().flat_map(Selector::places);
    let mut fields = places.filter_map(|place| match place {
        Place::Form(name) => in_form(body, name),
        _ => None,
    });
    fields.next()
}

/// The body with what counts for one sending alone made anew, if the scheme has it in JSON: the
/// time is another, and the signature is null, where signing puts one.
///
/// # Errors
///
/// A scheme that can't be run.
pub fn renew(scheme: &Scheme, body: &[u8], unix_seconds: i64) -> Result<Vec<u8>, SchemeError> {
    let plan = scheme.plan().map_err(|mut errors| errors.remove(0))?;
    let mut changed = Vec::new();
    if let Some(time) = &plan.time {
        let text = written(time.unit, unix_seconds);
        for spot in time
            .from
            .alternatives
            .iter()
            .flatten()
            .flat_map(|part| spots(body, part))
        {
            changed.push((spot.range.clone(), spot.written(&text)?));
        }
    }
    if plan.grammar.jws || plan.algorithms.contains(&Algorithm::Token) {
        return Ok(spliced(body, changed));
    }
    let parts = plan.signature.alternatives.iter().flatten();
    let spots = parts.flat_map(|part| spots(body, part));
    changed.extend(
        spots
            .filter(|spot| spot.kind == Kind::Text)
            .map(|spot| (spot.range, "null".to_owned())),
    );
    Ok(spliced(body, changed))
}

/// Headers that have the event's id, by lower-case names.
pub fn id_headers(scheme: &Scheme) -> Vec<&str> {
    let Ok(plan) = scheme.plan() else {
        return Vec::new();
    };
    let parts = alternatives(plan).into_iter().flatten();
    let names = parts.filter_map(|part| match &part.place {
        Place::Header(name) => Some(name.as_str()),
        _ => None,
    });
    names.collect()
}

/// The body with another type where the scheme has one. None if it has none there.
///
/// # Errors
///
/// A scheme that can't be run, or a type that can't stand there.
pub fn replace_type(
    scheme: &Scheme,
    body: &[u8],
    event_type: &str,
) -> Result<Option<Vec<u8>>, SchemeError> {
    let plan = scheme.plan().map_err(|mut errors| errors.remove(0))?;
    let alternatives = plan.event_type.iter().flat_map(|types| &types.alternatives);
    for parts in alternatives {
        let mut changed = Vec::new();
        let mut in_header = false;
        for (part, piece) in pieces(parts, event_type) {
            in_header |= matches!(part.place, Place::Header(_));
            for spot in spots(body, part) {
                changed.push((spot.range.clone(), spot.written(piece)?));
            }
        }
        if !changed.is_empty() {
            return Ok(Some(spliced(body, changed)));
        }
        if in_header {
            return Ok(Some(body.to_vec()));
        }
    }
    Ok(None)
}

/// The alternatives of the part of the key that is the id: not those that are the type, and not the
/// body's digest.
fn alternatives(plan: &Plan) -> Vec<&Vec<Part>> {
    let is_type = |part: &Part| {
        let mut types = plan.event_type.iter().flat_map(|types| &types.alternatives);
        types.any(|parts| parts.iter().any(|known| known.written == part.written))
    };
    let is_id = |part: &Part| part.place != Place::Whole && !is_type(part);
    let selectors = plan.identity.key.iter().flat_map(|key| key.selectors());
    let id = selectors
        .filter(|selector: &&Selector| selector.alternatives.iter().flatten().all(is_id))
        .take(1);
    id.flat_map(|selector| &selector.alternatives).collect()
}

/// A value in a body, and which bytes it is.
struct Spot {
    value: String,
    range: Range<usize>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Field,
}

impl Spot {
    /// Another value as it is written here.
    fn written(&self, value: &str) -> Result<String, SchemeError> {
        match self.kind {
            Kind::Text => Ok(Value::from(value).to_string()),
            Kind::Field => Ok(url::form_urlencoded::byte_serialize(value.as_bytes()).collect()),
            Kind::Number if value.parse::<u64>().is_ok() => Ok(value.to_owned()),
            Kind::Number => Err(SchemeError::new(
                "id",
                &format!(
                    "{value:?} can't stand where {} stands: a number",
                    self.value
                ),
            )),
        }
    }
}

fn spots(body: &[u8], part: &Part) -> Vec<Spot> {
    match &part.place {
        Place::Body(_) => in_json(body, &part.written),
        Place::Form(name) => in_form(body, name).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// The values at a path; `[]` in it is each element of a list.
fn in_json(body: &[u8], path: &str) -> Vec<Spot> {
    let Some((before, after)) = path.split_once("[]") else {
        return one_in_json(body, path).into_iter().collect();
    };
    let element = |index: usize| format!("{before}[{index}]");
    let there = (0..ELEMENTS_MAX).take_while(|index| raw(body, &element(*index)).is_some());
    there
        .flat_map(|index| in_json(body, &format!("{}{after}", element(index))))
        .collect()
}

fn one_in_json(body: &[u8], path: &str) -> Option<Spot> {
    let range = raw(body, path)?;
    let text = std::str::from_utf8(&body[range.clone()]).ok()?;
    let (value, kind) = match serde_json::from_str(text).ok()? {
        Value::String(value) => (value, Kind::Text),
        Value::Number(_) => (text.to_owned(), Kind::Number),
        _ => return None,
    };
    Some(Spot { value, range, kind })
}

/// Which bytes a value is, as it is written.
fn raw(body: &[u8], path: &str) -> Option<Range<usize>> {
    let mut pointers = Pointers::default();
    let index = pointers.add_raw(path).ok()?;
    let found = pointers.find(body)?;
    let value = found.value(index)?;
    // What is found as it is written is a piece of the body itself.
    let start = (value.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
    (start + value.len() <= body.len()).then(|| start..start + value.len())
}

fn in_form(body: &[u8], name: &str) -> Option<Spot> {
    let mut start = 0;
    for pair in body.split(|byte| *byte == b'&') {
        let value_at = pair.iter().position(|byte| *byte == b'=').map(|at| at + 1);
        if let Some(value_at) = value_at
            && let Some((key, value)) = url::form_urlencoded::parse(pair).next()
            && key == name
        {
            return Some(Spot {
                value: value.into_owned(),
                range: start + value_at..start + pair.len(),
                kind: Kind::Field,
            });
        }
        start += pair.len() + 1;
    }
    None
}

/// The body with other texts in these ranges, which do not overlap.
fn spliced(body: &[u8], mut changed: Vec<(Range<usize>, String)>) -> Vec<u8> {
    changed.sort_by_key(|(range, _)| range.start);
    let mut new = Vec::with_capacity(body.len());
    let mut from = 0;
    for (range, text) in changed {
        new.extend_from_slice(&body[from..range.start]);
        new.extend_from_slice(text.as_bytes());
        from = range.end;
    }
    new.extend_from_slice(&body[from..]);
    new
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Catalog;

    #[test]
    fn an_id_stands_where_the_scheme_has_it_and_nothing_else_changes() {
        let catalog = Catalog::new(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:?}"));
        for (provider, body, id, place, expected) in [
            (
                "stripe",
                r#"{ "data" : {"id": "old"},  "id": "old", "n": 1.0 }"#,
                "evt_9",
                IdPlace::Body,
                r#"{ "data" : {"id": "old"},  "id": "evt_9", "n": 1.0 }"#,
            ),
            (
                "telegram",
                r#"{"update_id": 17, "message": {}}"#,
                "18",
                IdPlace::Body,
                r#"{"update_id": 18, "message": {}}"#,
            ),
            (
                "sendgrid",
                r#"[{"sg_event_id":"a"}, {"sg_event_id":"b"}]"#,
                "x",
                IdPlace::Body,
                r#"[{"sg_event_id":"x"}, {"sg_event_id":"x-1"}]"#,
            ),
            ("github", r#"{"id":1}"#, "x", IdPlace::Header, r#"{"id":1}"#),
            (
                "stripe",
                r#"{"no":1}"#,
                "x",
                IdPlace::Nowhere,
                r#"{"no":1}"#,
            ),
            (
                "dropbox",
                r#"{"id":1}"#,
                "x",
                IdPlace::Nowhere,
                r#"{"id":1}"#,
            ),
            (
                "slack",
                "command=%2Fx&trigger_id=1.2&text=a+b",
                "3 4",
                IdPlace::Body,
                "command=%2Fx&trigger_id=3+4&text=a+b",
            ),
        ] {
            let scheme = catalog.get(provider).unwrap();
            let made = |_: &str, index: usize| match index {
                0 => id.to_owned(),
                index => format!("{id}-{index}"),
            };
            let replaced = replace_id(scheme, body.as_bytes(), made).unwrap();
            assert_eq!(replaced.place, place, "{provider} {body}");
            assert_eq!(
                String::from_utf8_lossy(&replaced.body),
                expected,
                "{provider}"
            );
        }
        let telegram = catalog.get("telegram").unwrap();
        let refused = replace_id(telegram, br#"{"update_id":17}"#, |_, _| "x".into());
        assert!(refused.unwrap_err().to_string().contains("a number"));
    }

    #[test]
    fn what_is_of_one_sending_is_made_anew() {
        let catalog = Catalog::new(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:?}"));
        for (provider, body, expected) in [
            (
                "linear",
                r#"{"webhookTimestamp": 5, "b": 1}"#,
                r#"{"webhookTimestamp": 9000, "b": 1}"#,
            ),
            (
                "mailgun",
                r#"{"signature":{"timestamp":"5","token":"t","signature":"ab"},"event-data":{"timestamp":5}}"#,
                r#"{"signature":{"timestamp":"9","token":"t","signature":null},"event-data":{"timestamp":5}}"#,
            ),
            ("stripe", r#"{"created":5}"#, r#"{"created":5}"#),
        ] {
            let body = renew(catalog.get(provider).unwrap(), body.as_bytes(), 9).unwrap();
            assert_eq!(String::from_utf8_lossy(&body), expected, "{provider}");
        }
        assert_eq!(
            id_headers(catalog.get("github").unwrap()),
            ["x-github-delivery"]
        );
        assert!(id_headers(catalog.get("stripe").unwrap()).is_empty());
    }

    #[test]
    fn a_type_stands_where_the_scheme_has_it() {
        let catalog = Catalog::new(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:?}"));
        for (provider, body, event_type, expected) in [
            (
                "stripe",
                r#"{"type":"a", "x":1}"#,
                "b.c",
                Some(r#"{"type":"b.c", "x":1}"#),
            ),
            (
                "github",
                r#"{"action":"opened"}"#,
                "issues.closed",
                Some(r#"{"action":"closed"}"#),
            ),
            ("shopify", "{}", "orders/edited", Some("{}")),
            (
                "linear",
                r#"{"action":"create","type":"Issue"}"#,
                "Cycle.update",
                Some(r#"{"action":"update","type":"Cycle"}"#),
            ),
            ("telegram", r#"{"update_id":1,"message":{}}"#, "poll", None),
        ] {
            let scheme = catalog.get(provider).unwrap();
            let body = replace_type(scheme, body.as_bytes(), event_type).unwrap();
            let body = body.map(|body| String::from_utf8_lossy(&body).into_owned());
            assert_eq!(body.as_deref(), expected, "{provider}");
        }
    }
}
