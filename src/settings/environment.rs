//! The environment as a layer of settings: `HOOKONCE__SOURCES__STRIPE__SECRET=…`, and `…_FILE` for
//! a value kept in a file. It knows which names mean which keys, not what the values mean.
//! HOOKONCE_CONFIG and other names with one underscore are options, not settings.

use config::{Map, Value as ConfigValue, ValueKind};
use serde_json::Value;

use super::{
    key_path::{KeyPath, Step},
    show::known_keys,
};

const PREFIX: &str = "HOOKONCE__";
const FILE_SUFFIX: &str = "_FILE";

#[derive(Default)]
pub(super) struct EnvironmentLayer {
    pub values: Map<String, ConfigValue>,
    pub problems: Vec<(KeyPath, String)>,
}

/// `below` is the merged tree of the weaker layers. Its names decide which key `STANDARD_WEBHOOKS`
/// means.
pub(super) fn layer(
    variables: &[(String, String)],
    below: &Value,
    schema: &Value,
) -> EnvironmentLayer {
    let mut layer = EnvironmentLayer::default();
    for (variable, value) in variables {
        let upper = variable.to_ascii_uppercase();
        let Some(name) = upper.strip_prefix(PREFIX) else {
            continue;
        };
        let (name, from_file) = name
            .strip_suffix(FILE_SUFFIX)
            .map_or((name, false), |name| (name, true));
        let segments: Vec<&str> = name.split("__").collect();
        if segments.iter().any(|segment| segment.is_empty()) {
            layer.problems.push((
                KeyPath::default().key(variable),
                "is no key: write HOOKONCE__TABLE__KEY, two underscores between".into(),
            ));
            continue;
        }
        let path = segments.iter().fold(KeyPath::default(), |path, segment| {
            path.key(&resolve(segment, &path, below, schema))
        });
        match if from_file {
            read(value)
        } else {
            Ok(value.clone())
        } {
            Ok(text) => insert(&mut layer.values, &path.0, text),
            Err(message) => layer.problems.push((path, message)),
        }
    }
    layer
}

/// The key that a segment names at this place: an existing one, else one that may be there, else a
/// new one in lower case.
fn resolve(segment: &str, at: &KeyPath, below: &Value, schema: &Value) -> String {
    let same = |name: &&String| name.to_ascii_uppercase().replace('-', "_") == segment;
    let there = at
        .find(below)
        .and_then(Value::as_object)
        .and_then(|table| table.keys().find(same).cloned());
    there
        .or_else(|| known_keys(schema, at).iter().find(same).cloned())
        .unwrap_or_else(|| segment.to_ascii_lowercase())
}

fn read(file: &str) -> Result<String, String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("can't read {file}: {error}"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

fn insert(table: &mut Map<String, ConfigValue>, path: &[Step], text: String) {
    let Some((Step::Key(key), rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        table.insert(key.clone(), ConfigValue::new(None, text));
        return;
    }
    let entry = table
        .entry(key.clone())
        .or_insert_with(|| ConfigValue::new(None, Map::<String, ConfigValue>::new()));
    if let ValueKind::Table(inner) = &mut entry.kind {
        insert(inner, rest, text);
    }
}
