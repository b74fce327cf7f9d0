//! Signs as a provider does: from the same scheme data that verifies. For `send`, for `dev`'s generated secrets and for tests.

use base64::Engine as _;
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Request, Scheme, SchemeError,
    mac::{self, Step, key_bytes},
    selector::{Inputs, Part, Place, Selector},
    template::{Absent, Chunk, Values},
};
use crate::settings::scheme::{Algorithm, TimeUnit};

/// What is to be sent.
pub struct Draft<'a> {
    pub id: &'a str,
    pub event_type: Option<&'a str>,
    pub unix_seconds: i64,
    pub body: &'a [u8],
    pub url: Option<&'a str>,
    pub method: &'a str,
}

/// The headers that the provider would send with the body: content type, signature, time, id and type. Names are lower-case.
pub fn sign(scheme: &Scheme, secret: &SecretString, draft: &Draft<'_>) -> Result<Vec<(String, String)>, SchemeError> {
    let plan = &scheme.plan;
    let content_type = scheme.spec.content_type.as_deref().unwrap_or("application/json");
    let mut headers = vec![("content-type".to_owned(), content_type.to_owned())];
    for selector in [&plan.id, &plan.key].into_iter().flatten() {
        place(selector, draft.id, &mut headers);
    }
    if let (Some(selector), Some(event_type)) = (&plan.event_type, draft.event_type) {
        place(selector, event_type, &mut headers);
    }
    let timestamp = plan.time.as_ref().map(|time| written(time.unit, draft.unix_seconds));
    if let (Some(time), Some(timestamp)) = (&plan.time, &timestamp) {
        place(&time.from, timestamp, &mut headers);
    }

    let key = key_bytes(&plan.steps, secret.expose_secret()).map_err(|message| SchemeError::new("secret", &message))?;
    let digest = {
        let body = Bytes::copy_from_slice(draft.body);
        let borrowed: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let request = Request { method: draft.method, url: draft.url, headers: &borrowed, body: &body };
        let inputs = Inputs { request: &request, found: plan.before.find(&body), signature: None };
        let in_body = match &plan.time {
            Some(time) if matches!(time.from.alternatives[0][0].place, Place::Body(_)) => time.from.resolve(&inputs).ok().flatten(),
            _ => None,
        };
        let in_body = in_body.map(|(_, value)| String::from_utf8_lossy(&value).into_owned());
        let values = Values { inputs: &inputs, timestamp: in_body.as_deref().or(timestamp.as_deref()), id: Some(draft.id.as_bytes()) };
        let content: Vec<Chunk<'_>> = match &plan.content {
            Some(template) => template.resolve(&values).map_err(unsignable)?,
            None => Vec::new(),
        };
        mac::sign(plan.algorithm, &key, &content).map_err(|message| SchemeError::new("secret", &message))?
    };

    let leading: Vec<(&str, &str)> = match (&plan.time, &timestamp) {
        (Some(time), Some(timestamp)) => match &time.from.alternatives[0][0].place {
            Place::Signature(name) => vec![(name, timestamp)],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    match &plan.signature.alternatives[0][0].place {
        Place::Header(name) => headers.push((name.clone(), plan.grammar.write(&leading, &digest))),
        _ => return Err(SchemeError::new("signature.from", "only signatures in headers can be made")),
    }
    Ok(headers)
}

fn unsignable(absent: Absent) -> SchemeError {
    SchemeError::new(
        "content",
        &match absent {
            Absent::Piece(place) => format!("the request has no {place}, which is signed"),
            Absent::Url => "this provider signs the URL: name it".into(),
            Absent::Repeated(name) => format!("{name} stands twice"),
        },
    )
}

fn written(unit: TimeUnit, unix_seconds: i64) -> String {
    match unit {
        TimeUnit::S => unix_seconds.to_string(),
        TimeUnit::Ms => unix_seconds.saturating_mul(1000).to_string(),
        TimeUnit::Rfc3339 => {
            OffsetDateTime::from_unix_timestamp(unix_seconds).ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
        }
    }
}

/// Puts a value into the headers that the selector's first alternative names. Where parts are joined, its dotted pieces go to them in turn.
fn place(selector: &Selector, value: &str, headers: &mut Vec<(String, String)>) {
    let Some(parts) = selector.alternatives.iter().find(|parts| parts.iter().any(|part| matches!(part.place, Place::Header(_)))) else {
        return;
    };
    let pieces: Vec<&str> = if parts.len() == 1 { vec![value] } else { value.splitn(parts.len(), '.').collect() };
    for (Part { place, .. }, piece) in parts.iter().zip(pieces) {
        if let Place::Header(name) = place
            && !headers.iter().any(|(known, _)| known == name)
        {
            headers.push((name.clone(), piece.to_owned()));
        }
    }
}

/// A fresh secret in the form that the provider gives out; for Ed25519 the private seed, as only a sender has.
pub fn generate_secret(scheme: &Scheme, rng: &mut impl rand::Rng) -> SecretString {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    let mut text = match scheme.plan.steps.iter().rev().find(|step| matches!(step, Step::Base64 | Step::Hex)) {
        Some(Step::Base64) => base64::engine::general_purpose::STANDARD.encode(bytes),
        None if scheme.plan.algorithm == Algorithm::Ed25519 => hex::encode(&bytes[..16]),
        _ => hex::encode(bytes),
    };
    for step in &scheme.plan.steps {
        if let Step::Strip(prefix) = step {
            text.insert_str(0, &prefix.replace('*', "dev"));
        }
    }
    if let Some(start) = &scheme.spec.secret_starts {
        text.insert_str(0, start);
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::provider::Catalog;

    #[test]
    fn secrets_have_the_providers_form() {
        let catalog = Catalog::new(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:?}"));
        let mut rng = StdRng::seed_from_u64(1);
        for (provider, start, length) in [
            ("stripe", "whsec_", 70),
            ("standard-webhooks", "whsec_", 50),
            ("svix", "whsec_", 50),
            ("github", "", 64),
            ("slack", "", 64),
            ("shopify", "", 64),
        ] {
            let secret = generate_secret(catalog.get(provider).unwrap(), &mut rng);
            let secret = secret.expose_secret();
            assert!(secret.starts_with(start) && secret.len() == length, "{provider}: {secret}");
        }
        let twice = [(); 2].map(|()| generate_secret(catalog.get("github").unwrap(), &mut rng).expose_secret().to_owned());
        assert_ne!(twice[0], twice[1]);
    }

    #[test]
    fn headers_are_those_the_provider_sends() {
        let catalog = Catalog::new(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:?}"));
        let draft =
            |event_type| Draft { id: "id1", event_type: Some(event_type), unix_seconds: 99, body: b"{}", url: None, method: "POST" };
        let names = |provider, event_type| {
            let headers = sign(catalog.get(provider).unwrap(), &"whsec_AAEC".into(), &draft(event_type)).unwrap();
            headers.into_iter().collect::<BTreeMap<_, _>>()
        };
        let github = names("github", "pull_request.opened");
        assert_eq!((github["x-github-event"].as_str(), github["x-github-delivery"].as_str()), ("pull_request", "id1"));
        assert!(github["x-hub-signature-256"].starts_with("sha256="));
        assert!(names("stripe", "a.b")["stripe-signature"].starts_with("t=99,v1="));
        assert_eq!(names("svix", "a.b")["svix-timestamp"], "99");
        assert_eq!(names("shopify", "orders/create")["x-shopify-topic"], "orders/create");
        assert_eq!(names("token", "x")["authorization"], "Bearer whsec_AAEC");
    }
}
