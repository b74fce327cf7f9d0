//! The values that hold where nobody sets another.

use serde_json::Value;

/// The text of config/default.toml.
pub(super) const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Its values.
pub(super) fn defaults() -> Value {
    toml::from_str(DEFAULTS).expect("config/default.toml is built in, and a test loads it")
}
