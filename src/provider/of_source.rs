//! A source's scheme: its provider's, with the fields in it that the source sets itself.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Catalog, Scheme, SchemeError, catalog::strict};
use crate::settings::{
    SchemeSpec, Source, SplitAt,
    scheme::{ItemsSpec, ItemsTable},
};

/// The provider's scheme, with what the source sets itself.
pub fn scheme_of(catalog: &Catalog, source: &Source) -> Result<Arc<Scheme>, Vec<SchemeError>> {
    let Some(scheme) = catalog.get(&source.provider) else {
        let message = format!("{:?} is not known: `hookonce providers list` shows those that are", source.provider);
        return Err(vec![SchemeError::new("provider", &message)]);
    };
    if source.key.is_none() && source.items.is_none() && source.scheme.as_ref().is_none_or(Map::is_empty) {
        return Ok(Arc::clone(scheme));
    }
    let in_scheme = |error: SchemeError| error.within("scheme");
    let mut document = serde_json::to_value(&scheme.spec).map_err(|error| vec![SchemeError::new("scheme", &error.to_string())])?;
    merge(&mut document, Value::Object(without_shorthand(source.scheme.clone().unwrap_or_default())));
    let mut spec = strict(document).map_err(|error| vec![in_scheme(error)])?;
    let own_key = source.key.is_some();
    if let Some(split) = &source.items {
        spec.items = split_at(split, &spec).map_err(|message| vec![SchemeError::new("items", message)])?;
    }
    if own_key {
        match &mut spec.items {
            // The source speaks of the events that it wants.
            Some(ItemsSpec::Table(items)) if !items.optional => items.key.clone_from(&source.key),
            _ => spec.key.clone_from(&source.key),
        }
    }
    let rename = |error: SchemeError| match error.key.as_str() {
        "key" | "items.key" if own_key => SchemeError { key: "key".into(), ..error },
        "items.from" if source.items.is_some() => SchemeError { key: "items".into(), ..error },
        _ => in_scheme(error),
    };
    Scheme::new(&scheme.name, spec).map(Arc::new).map_err(|errors| errors.into_iter().map(rename).collect())
}

fn split_at(split: &SplitAt, spec: &SchemeSpec) -> Result<Option<ItemsSpec>, &'static str> {
    let known = spec.items.as_ref().map(ItemsSpec::table);
    let items = match (split, known) {
        (SplitAt::Known(false), _) => return Ok(None),
        (SplitAt::Known(true), Some(known)) => known,
        (SplitAt::Known(true), None) => {
            return Err("is true, and where this provider has several events is not known: write the place, as in items = \"body:events\"");
        }
        (SplitAt::Place(from), known) => ItemsTable { from: from.clone(), ..known.unwrap_or_default() },
    };
    Ok(Some(ItemsSpec::Table(ItemsTable { optional: false, ..items })))
}

/// `header` and `prefix` are short for the two keys of `signature` that the generic schemes are mostly told.
fn without_shorthand(mut fields: Map<String, Value>) -> Map<String, Value> {
    let mut signature = Map::new();
    if let Some(header) = fields.remove("header") {
        let from = header.as_str().map_or(header.clone(), |names| Value::from(format!("header:{}", names.replace('|', "|header:"))));
        signature.insert("from".into(), from);
    }
    if let Some(prefix) = fields.remove("prefix") {
        signature.insert("prefix".into(), prefix);
    }
    if !signature.is_empty() {
        let mut short = Value::Object(signature);
        merge(&mut short, fields.remove("signature").unwrap_or_else(|| Value::Object(Map::new())));
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
