//! A source's scheme: its provider's, with the fields that the source sets itself.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{
    error::SchemeError,
    library::strict,
    plan::catalog::{Catalog, Scheme},
    spec::{Dedup, ItemsSpec, ItemsTable, OneOrMany, SchemeSpec, SourceSpec, SplitAt},
};

/// The provider's scheme, with what the source sets itself.
pub(crate) fn scheme_of(
    catalog: &Catalog,
    source: &SourceSpec,
) -> Result<Arc<Scheme>, Vec<SchemeError>> {
    let Some(scheme) = catalog.get(&source.provider) else {
        return Err(vec![SchemeError::new(
            "provider",
            &catalog.not_known(&source.provider),
        )]);
    };
    let own_identity = source.key.is_some() || source.dedup.is_some() || !source.ignore.is_empty();
    if !own_identity && source.items.is_none() && source.scheme.as_ref().is_none_or(Map::is_empty) {
        return Ok(Arc::clone(scheme));
    }
    let in_scheme = |error: SchemeError| error.within("scheme");
    let mut document = serde_json::to_value(&scheme.spec)
        .map_err(|error| vec![SchemeError::new("scheme", &error.to_string())])?;
    merge(
        &mut document,
        Value::Object(without_shorthand(source.scheme.clone().unwrap_or_default())),
    );
    let mut spec = strict(document).map_err(|error| vec![in_scheme(error)])?;
    let own_key = source.key.is_some();
    if let Some(split) = &source.items {
        spec.items =
            split_at(split, &spec).map_err(|message| vec![SchemeError::new("items", message)])?;
    }
    // A source's key is that of its events, which are the items if the scheme always splits.
    match &mut spec.items {
        Some(ItemsSpec::Table(items)) if !items.optional => {
            own(source, &mut items.key, &mut items.dedup)
        }
        _ => own(source, &mut spec.key, &mut spec.dedup),
    }
    if own_key {
        // Only the source's author knows what its own key names, and what the key was before.
        (spec.identity, spec.key_before) = (None, None);
    }
    let known = spec.ignore.len();
    spec.ignore.extend(source.ignore.iter().cloned());
    let rename = |error: SchemeError| match error.key.as_str() {
        "key" | "items.key" if own_key => SchemeError {
            key: "key".into(),
            ..error
        },
        "dedup" | "items.dedup" if source.dedup.is_some() => SchemeError {
            key: "dedup".into(),
            ..error
        },
        key if own_place(key, known).is_some() => SchemeError {
            key: own_place(key, known).unwrap_or_default(),
            ..error
        },
        "items.from" if source.items.is_some() => SchemeError {
            key: "items".into(),
            ..error
        },
        _ => in_scheme(error),
    };
    Scheme::new(&scheme.name, spec)
        .map(Arc::new)
        .map_err(|errors| errors.into_iter().map(rename).collect())
}

fn own(source: &SourceSpec, key: &mut Option<OneOrMany<String>>, dedup: &mut Option<Dedup>) {
    if source.key.is_some() {
        key.clone_from(&source.key);
        *dedup = None;
    }
    *dedup = source.dedup.or(*dedup);
}

/// The source's own name of a place that it ignores. The scheme's places come first.
fn own_place(key: &str, known: usize) -> Option<String> {
    let index: usize = key
        .strip_prefix("ignore[")?
        .strip_suffix(']')?
        .parse()
        .ok()?;
    Some(format!("ignore[{}]", index.checked_sub(known)?))
}

fn split_at(split: &SplitAt, spec: &SchemeSpec) -> Result<Option<ItemsSpec>, &'static str> {
    let known = spec.items.as_ref().map(ItemsSpec::table);
    let items = match (split, known) {
        (SplitAt::Known(false), _) => return Ok(None),
        (SplitAt::Known(true), Some(known)) => known,
        (SplitAt::Known(true), None) => {
            return Err(
                "is true, and where this provider has several events is not known: write the place, as in items = \"body:events\"",
            );
        }
        (SplitAt::Place(from), known) => ItemsTable {
            from: from.clone(),
            ..known.unwrap_or_default()
        },
    };
    Ok(Some(ItemsSpec::Table(ItemsTable {
        optional: false,
        ..items
    })))
}

/// `header` and `prefix` are short forms of the two keys of `signature` that the generic schemes
/// need most.
fn without_shorthand(mut fields: Map<String, Value>) -> Map<String, Value> {
    let mut signature = Map::new();
    if let Some(header) = fields.remove("header") {
        let from = header.as_str().map_or(header.clone(), |names| {
            Value::from(format!("header:{}", names.replace('|', "|header:")))
        });
        signature.insert("from".into(), from);
    }
    if let Some(prefix) = fields.remove("prefix") {
        signature.insert("prefix".into(), prefix);
    }
    if !signature.is_empty() {
        let mut short = Value::Object(signature);
        merge(
            &mut short,
            fields
                .remove("signature")
                .unwrap_or_else(|| Value::Object(Map::new())),
        );
        fields.insert("signature".into(), short);
    }
    fields
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
