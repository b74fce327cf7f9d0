//! What the settings may be (the JSON schema, the known keys) and what they are (secrets masked).

use serde_json::Value;

use super::{
    Settings,
    key_path::{KeyPath, Step},
};

/// The settings' JSON schema, for editors and checks of a user's file. Keys with a default are
/// optional in it.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Settings).to_value();
    let defaults = super::defaults::defaults();
    optional(&mut schema, &defaults, &KeyPath::default());
    schema
}

/// The settings as TOML; `Serialize` masks the secrets.
pub fn shown(settings: &Settings) -> String {
    toml::to_string_pretty(settings)
        .expect("settings are tables of strings, numbers and lists, all of which TOML has")
}

/// Notes each default in the schema, and makes its key optional.
fn optional(schema: &mut Value, defaults: &Value, at: &KeyPath) {
    let Some(values) = at.find(defaults).and_then(Value::as_object) else {
        return;
    };
    for (key, default) in values {
        let Some(node) = node_mut(schema, at) else {
            return;
        };
        if let Some(required) = node.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|name| name != key);
        }
        if default.is_object() {
            optional(schema, defaults, &at.key(key));
        } else if let Some(property) = node
            .pointer_mut(&format!("/properties/{key}"))
            .and_then(Value::as_object_mut)
        {
            property.insert("default".into(), default.clone());
        }
    }
}

fn node_mut<'a>(schema: &'a mut Value, at: &KeyPath) -> Option<&'a mut Value> {
    let pointer = pointer_to(schema, at)?;
    schema.pointer_mut(&pointer)
}

/// The keys that may be at this place. Empty if any may.
pub(super) fn known_keys(schema: &Value, at: &KeyPath) -> Vec<String> {
    let properties = pointer_to(schema, at)
        .and_then(|pointer| schema.pointer(&pointer))
        .and_then(|node| node.get("properties"))
        .and_then(Value::as_object);
    properties
        .map(|properties| properties.keys().cloned().collect())
        .unwrap_or_default()
}

/// The JSON pointer to the schema's node for a place in the settings. References and options are
/// followed.
fn pointer_to(schema: &Value, at: &KeyPath) -> Option<String> {
    let mut pointer = resolved(schema, String::new())?;
    for step in &at.0 {
        let node = schema.pointer(&pointer)?;
        let next = match step {
            Step::Key(key)
                if node
                    .get("properties")
                    .is_some_and(|all| all.get(key).is_some()) =>
            {
                format!("{pointer}/properties/{key}")
            }
            Step::Key(_)
                if node
                    .get("additionalProperties")
                    .is_some_and(Value::is_object) =>
            {
                format!("{pointer}/additionalProperties")
            }
            Step::Index(_) if node.get("items").is_some() => format!("{pointer}/items"),
            _ => return None,
        };
        pointer = resolved(schema, next)?;
    }
    Some(pointer)
}

fn resolved(schema: &Value, mut pointer: String) -> Option<String> {
    // The schema that is generated today has no node that refers to itself directly. The bound is
    // for a change of its generator.
    for _ in 0..16 {
        let node = schema.pointer(&pointer)?;
        if let Some(reference) = node.get("$ref").and_then(Value::as_str) {
            pointer = reference.strip_prefix('#')?.to_owned();
        } else if let Some(any) = node.get("anyOf").and_then(Value::as_array) {
            let some = any
                .iter()
                .position(|branch| branch.get("type").is_none_or(|kind| kind != "null"))?;
            pointer = format!("{pointer}/anyOf/{some}");
        } else {
            return Some(pointer);
        }
    }
    None
}
