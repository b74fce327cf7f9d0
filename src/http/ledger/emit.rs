//! Events that a step emits with its result: which source they come from, what makes two of them
//! the same event, and where they go.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::place::maybe_name;
use crate::{
    contract::{DeliveryId, EventId},
    event::{BodyDigest, digest_of, emitted_key_of, key_part, tenants_event_key},
    http::{
        error::ApiError,
        object::Object,
        tokens::{Grant, Need},
    },
    ids,
    routing::Routes,
    settings::{LEDGER_SOURCE, Settings},
    store::ledger::Emitted,
};

const KEY_BYTES_MAX: usize = 1024;

/// One event as it is sent: the body of its deliveries is `data`, byte for byte.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmitBody {
    source: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    key: Option<String>,
    #[schemars(with = "serde_json::Value")]
    data: Box<RawValue>,
}

impl EmitBody {
    /// Extends the digest of a call by this event.
    pub fn digest_after(&self, before: &[u8; 32]) -> [u8; 32] {
        let or_none = |text: &Option<String>| {
            text.as_ref()
                .map_or_else(|| "-".to_owned(), |text| format!("+{text}"))
        };
        digest_of([
            &*hex::encode(before),
            &or_none(&self.source),
            &or_none(&self.event_type),
            &or_none(&self.key),
            self.data.get(),
        ])
    }
}

/// The entries as they were sent. The error of one says which it is.
pub fn read(emit: Vec<Box<RawValue>>) -> Result<Vec<EmitBody>, ApiError> {
    let entry = |(index, raw): (usize, Box<RawValue>)| match serde_json::from_str(raw.get()) {
        Ok(Object(body)) => Ok(body),
        Err(error) => Err(ApiError::MalformedBody(format!("emit[{index}]: {error}"))),
    };
    emit.into_iter().enumerate().map(entry).collect()
}

/// The events, ready to be recorded.
pub fn events(
    settings: &Settings,
    grant: &Grant,
    tenant: &str,
    run: &str,
    step: &str,
    emit: Vec<EmitBody>,
) -> Result<Vec<Emitted>, ApiError> {
    let most = settings.ledger.emit_max;
    if emit.len() > most {
        return Err(ApiError::InvalidParameter(format!(
            "emit: {} events, at most {most} (ledger.emit_max)",
            emit.len()
        )));
    }
    emit.into_iter()
        .enumerate()
        .map(|(index, body)| event(settings, grant, tenant, (run, step, index), body))
        .collect()
}

fn event(
    settings: &Settings,
    grant: &Grant,
    tenant: &str,
    at: (&str, &str, usize),
    body: EmitBody,
) -> Result<Emitted, ApiError> {
    let source = body.source.as_deref().unwrap_or(LEDGER_SOURCE);
    let configured = settings.sources.get(source);
    if source != LEDGER_SOURCE {
        // Handlers trust that a configured source is its provider. A worker's token does not
        // suffice to speak in its name.
        if !grant.operate {
            return Err(ApiError::InsufficientScope(Need::Operate));
        }
        if configured.is_none() {
            return Err(ApiError::UnknownSource {
                what: format!("emit[{}].source", at.2),
                name: source.to_owned(),
            });
        }
    }
    maybe_name(&format!("emit[{}].type", at.2), body.event_type.as_deref())?;
    let event_key = event_key(tenant, at, body.key.as_deref())?;
    let data: String = Box::<str>::from(body.data).into();
    let deliveries = Routes::of(settings, source)
        .destinations(body.event_type.as_deref())
        .into_iter()
        .map(|destination| (DeliveryId(ids::new()), destination.clone()))
        .collect();
    Ok(Emitted {
        id: EventId(ids::new()),
        key: emitted_key_of(source, tenant, &event_key),
        source: source.into(),
        event_key,
        event_type: body.event_type,
        digest: BodyDigest::of(data.as_bytes()),
        body: data,
        window_seconds: configured
            .and_then(|source| source.window)
            .unwrap_or(settings.retention.keys)
            .as_secs_f64(),
        deliveries,
    })
}

/// The event's key: the caller's, or run, step and number. A tenant's keys are told apart by its
/// name.
fn event_key(
    tenant: &str,
    (run, step, index): (&str, &str, usize),
    key: Option<&str>,
) -> Result<String, ApiError> {
    let key = match key {
        Some(key)
            if key.is_empty() || key.len() > KEY_BYTES_MAX || key.chars().any(char::is_control) =>
        {
            return Err(ApiError::InvalidParameter(format!(
                "emit[{index}].key: 1 to {KEY_BYTES_MAX} bytes without control characters"
            )));
        }
        Some(key) => key.to_owned(),
        None => format!("{}/{}/{index}", key_part(run), key_part(step)),
    };
    Ok(tenants_event_key(tenant, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_different_places_differ() {
        let keys: std::collections::BTreeSet<String> = [
            event_key("", ("a", "b", 0), None),
            event_key("", ("a/b", "c", 0), None),
            event_key("", ("a", "b/c", 0), None),
            event_key("a", ("a", "b", 0), None),
            event_key("a/b", ("", "", 0), Some("c")),
            event_key("a", ("", "", 0), Some("b/c")),
            event_key("", ("a", "b", 1), None),
        ]
        .map(|key| key.ok().unwrap())
        .into();
        assert_eq!(keys.len(), 7, "{keys:?}");
        // Two keys that read the same are still different.
        let (own, others) = (
            event_key("one", ("", "", 0), Some("k")).ok().unwrap(),
            event_key("", ("", "", 0), Some("one/k")).ok().unwrap(),
        );
        assert_eq!(own, others);
        assert_ne!(
            emitted_key_of("ledger", "one", &own),
            emitted_key_of("ledger", "", &others)
        );
        assert!(event_key("", ("a", "b", 0), Some("")).is_err());
    }
}
