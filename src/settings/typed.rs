//! From the merged tree to typed settings. Every key that is unknown, missing or of a wrong type is
//! noted, then repaired, so that one pass finds them all. It reads no file; `check.rs` judges
//! values of the right type.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize as _;
use serde_json::Value;

use super::{
    Settings,
    key_path::{KeyPath, Step},
    show::known_keys,
};

pub(super) struct Typed {
    /// None if even the repaired tree can't be read as settings. Then there are problems.
    pub settings: Option<Settings>,
    pub problems: Vec<(KeyPath, String)>,
}

/// `textual` tells the places whose values came as text (the environment), where "5" may stand for
/// 5.
pub(super) fn typed(
    mut tree: Value,
    defaults: &Value,
    schema: &Value,
    textual: impl Fn(&KeyPath) -> bool,
) -> Typed {
    let mut unknown = BTreeSet::new();
    let mut problems = Vec::new();
    let mut tries: BTreeMap<KeyPath, usize> = BTreeMap::new();
    let settings = loop {
        let (at, message) = match attempt(&tree, &mut unknown) {
            Ok(settings) => break Some(settings),
            Err((path, message)) => explain(&path, &message, &tree),
        };
        let tried = tries.entry(at.clone()).or_default();
        *tried += 1;
        let other_type = if *tried == 1 && textual(&at) {
            at.find(&tree).and_then(from_text)
        } else {
            None
        };
        if other_type.is_some() {
            at.set(&mut tree, other_type);
            *tried = 0;
            continue;
        }
        if *tried == 1 {
            problems.push((at.clone(), message));
        }
        if !repair(&mut tree, defaults, &at, *tried) {
            break None;
        }
    };
    problems.extend(unknown.into_iter().map(|path| {
        let message = unknown_key(&path, schema);
        (path, message)
    }));
    Typed { settings, problems }
}

fn attempt(tree: &Value, unknown: &mut BTreeSet<KeyPath>) -> Result<Settings, (KeyPath, String)> {
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(tree, &mut track);
    let mut note = |path: serde_ignored::Path<'_>| {
        unknown.insert(KeyPath::of_ignored(&path));
    };
    Settings::deserialize(serde_ignored::Deserializer::new(tracked, &mut note))
        .map_err(|error| (KeyPath::of_error(&track.path()), error.to_string()))
}

/// The key to blame and what to say, from serde's message. The value is not repeated, because it
/// may be a secret in the wrong place.
fn explain(at: &KeyPath, message: &str, tree: &Value) -> (KeyPath, String) {
    let quoted = |rest: &str| rest.split('`').next().unwrap_or_default().to_owned();
    if let Some(rest) = message.strip_prefix("missing field `") {
        return (at.key(&quoted(rest)), "is missing".into());
    }
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let known = rest
            .split_once(", ")
            .map(|(_, known)| known)
            .unwrap_or("expected none");
        return (at.key(&quoted(rest)), format!("unknown key: {known}"));
    }
    let expected = message
        .strip_prefix("invalid ")
        .and_then(|rest| rest.rsplit_once(", expected "))
        .map(|(_, expected)| expected);
    let message = match (expected, at.find(tree)) {
        (Some(expected), Some(value)) => {
            format!("is {}, expected {}", kind(value), in_words(expected))
        }
        _ => message.to_owned(),
    };
    (at.clone(), message)
}

/// What serde calls a type, in the words of somebody who writes TOML.
fn in_words(expected: &str) -> &str {
    match expected {
        "usize" | "u64" | "u32" | "u16" | "u8" => "a whole number, zero or above",
        "i64" | "i32" => "a whole number",
        "f64" | "f32" => "a number",
        "a map" => "a table",
        "a sequence" => "a list",
        _ if expected.starts_with("struct ") => "a table",
        _ => expected,
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(_) => "a string".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a table".into(),
    }
}

fn unknown_key(path: &KeyPath, schema: &Value) -> String {
    let Some((Step::Key(wrong), parents)) = path.0.split_last() else {
        return "unknown key".into();
    };
    let known = known_keys(schema, &KeyPath(parents.to_vec()));
    match hookonce_scheme::nearest(wrong, known.iter().map(String::as_str)) {
        Some(name) => format!("unknown key: did you mean \"{name}\"?"),
        None if known.is_empty() => "unknown key".into(),
        None => format!("unknown key: here are known {}", known.join(", ")),
    }
}

/// A number, a truth value or a list that the environment could only write as text.
fn from_text(value: &Value) -> Option<Value> {
    let text = value.as_str()?.trim();
    text.parse::<i64>()
        .map(Value::from)
        .ok()
        .or_else(|| text.parse::<bool>().map(Value::from).ok())
        .or_else(|| {
            text.parse::<f64>()
                .ok()
                .filter(|number| number.is_finite())
                .map(Value::from)
        })
        .or_else(|| {
            toml::from_str::<BTreeMap<String, Value>>(&format!("value = {text}"))
                .ok()?
                .remove("value")
                .filter(|value| !value.is_string())
        })
}

/// Replaces what is wrong by something harmless. Each further try is coarser: the default, then
/// nothing, then the parent goes, then its parent. False if nothing is left to try.
fn repair(tree: &mut Value, defaults: &Value, at: &KeyPath, tried: usize) -> bool {
    let keep = (at.0.len() + 1).saturating_sub(tried);
    if keep == 0 {
        return false;
    }
    let at = KeyPath(at.0[..keep].to_vec());
    let there = at.find(tree).is_some();
    let new = match at.find(defaults) {
        Some(default) => Some(default.clone()),
        None if !there => Some(Value::String(String::new())),
        // An element of a list is replaced in its place, so that its neighbours keep their numbers.
        // The replacement is right for periods and secrets.
        None if tried == 1 && matches!(at.0.last(), Some(Step::Index(_))) => {
            Some(Value::String("1s".into()))
        }
        None => None,
    };
    at.set(tree, new);
    true
}
