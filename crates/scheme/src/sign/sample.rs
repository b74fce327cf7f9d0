//! The least body that has an id and a type where a scheme looks for them: for senders' tools and
//! tests. Nothing is signed here.

use serde_json::{Map, Value, json};

use crate::{
    error::SchemeError,
    locate::selector::{Part, Place, Selector},
    plan::catalog::Scheme,
    sign::put::{Outgoing, pieces},
};

/// A body of an event of this type and id; a scheme that takes forms gets one.
///
/// # Errors
///
/// A scheme that can't be run.
pub fn sample_body(scheme: &Scheme, event_type: &str, id: &str) -> Result<Vec<u8>, SchemeError> {
    let plan = scheme.plan().map_err(|mut errors| errors.remove(0))?;
    let form = scheme
        .spec
        .content_type
        .as_deref()
        .is_some_and(|kind| kind.contains("form"));
    let mut outgoing = Outgoing::default();
    let mut last = Vec::new();
    let (type_at, identity) = plan
        .items
        .as_ref()
        .map_or((&plan.event_type, &plan.identity), |items| {
            (&items.event_type, &items.identity)
        });
    let keys = identity.key.iter().flat_map(|key| key.values(id));
    for (selector, value) in type_at
        .iter()
        .map(|selector| (selector, event_type))
        .chain(keys)
    {
        for (part, piece) in in_body(selector, value) {
            let outside = plan
                .items
                .as_ref()
                .filter(|_| matches!(part.place, Place::Body(_)))
                .map(|items| items.outside(part));
            let part = outside.as_ref().unwrap_or(part);
            match &part.place {
                Place::Member(_) => last.push(piece),
                _ => drop(outgoing.put(part, piece)),
            }
        }
    }
    if outgoing.body.is_empty() {
        outgoing.body = if form {
            format!("id={id}")
        } else {
            json!({ "id": id }).to_string()
        }
        .into_bytes();
    }
    // A name that is looked for by its index has to come last. The order of an object's members
    // here does not promise that.
    for name in last {
        let member = Value::Object(Map::from_iter([(name.to_owned(), json!({}))])).to_string();
        outgoing.body.pop();
        outgoing.body.push(b',');
        outgoing.body.extend_from_slice(&member.as_bytes()[1..]);
    }
    Ok(outgoing.body)
}

/// The parts in the body of the first alternative that has some, each with its piece of the value.
fn in_body<'a>(selector: &'a Selector, value: &'a str) -> Vec<(&'a Part, &'a str)> {
    let inside = |part: &Part| {
        matches!(
            part.place,
            Place::Body(_) | Place::Member(_) | Place::Form(_)
        )
    };
    let Some(parts) = selector
        .alternatives
        .iter()
        .find(|parts| parts.iter().any(inside))
    else {
        return Vec::new();
    };
    pieces(parts, value)
        .into_iter()
        .filter(|(part, _)| inside(part))
        .collect()
}
