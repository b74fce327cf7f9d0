//! Where the events of one request are.

use std::fmt;

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, Visitor},
};

use crate::spec::{identity::Dedup, one_or_many::OneOrMany};

/// Where the events of one request are: a place alone, or a table.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ItemsSpec {
    /// A place alone: `body:` or `body:PATH`.
    From(String),
    /// A place, and what tells the events apart.
    Table(ItemsTable),
}

/// Where the events of one request are, and what tells them apart.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ItemsTable {
    /// `body:` or `body:PATH`, of a list.
    pub from: String,
    /// Selector of an item's event key, where `body:` is the item, or several that are joined;
    /// default: the scheme's `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<OneOrMany<String>>,
    /// What makes two items the same event; default: `key` where there is one, else `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedup: Option<Dedup>,
    /// Selector of an item's event type; default: the scheme's `type`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// A request of more items stays one event; default: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count_max: Option<usize>,
    /// Split only where the source says `items = true`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

impl ItemsSpec {
    /// As a table, also where it is a place alone.
    pub fn table(&self) -> ItemsTable {
        match self {
            Self::From(from) => ItemsTable {
                from: from.clone(),
                ..ItemsTable::default()
            },
            Self::Table(table) => table.clone(),
        }
    }
}

/// By hand, as the derived one hides what is wrong inside.
impl<'de> Deserialize<'de> for ItemsSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = ItemsSpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a place or a table")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(ItemsSpec::From(text.into()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                ItemsTable::deserialize(de::value::MapAccessDeserializer::new(map))
                    .map(ItemsSpec::Table)
            }
        }
        deserializer.deserialize_any(Either)
    }
}
