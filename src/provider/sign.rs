//! Signs as a provider does: from the same scheme data that verifies. For `send`, for `dev`'s generated secrets and for tests.

use base64::Engine as _;
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Request, Scheme, SchemeError,
    mac::{self, Step, key_bytes},
    plan::Plan,
    put::Outgoing,
    selector::{Inputs, Part, Place},
    template::{Absent, Values},
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

/// What the provider would send. Header names are lower-case.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Content type, signature, time, id and type, where they stand in headers.
    pub headers: Vec<(String, String)>,
    /// As in the draft, but for what the provider puts into it: a signature, a time, a token.
    pub body: Vec<u8>,
    pub url: Option<String>,
}

/// Signs as the provider does.
pub fn sign(scheme: &Scheme, secret: &SecretString, draft: &Draft<'_>) -> Result<Signed, SchemeError> {
    let plan = scheme.plan().map_err(|mut errors| errors.remove(0))?;
    let content_type = scheme.spec.content_type.as_deref().unwrap_or("application/json");
    let headers = vec![("content-type".to_owned(), content_type.to_owned())];
    let mut outgoing = Outgoing { headers, body: draft.body.to_vec(), url: draft.url.map(str::to_owned) };
    for selector in [&plan.id, &plan.key].into_iter().flatten() {
        outgoing.put_in_headers(selector, draft.id);
    }
    if let (Some(selector), Some(event_type)) = (&plan.event_type, draft.event_type) {
        outgoing.put_in_headers(selector, event_type);
    }
    let timestamp = plan.time.as_ref().map(|time| written(time.unit, draft.unix_seconds));
    if let (Some(part), Some(timestamp)) = (time_part(plan), &timestamp) {
        outgoing.put(part, timestamp);
    }
    complete(plan, draft, &mut outgoing);

    let digest = digest(plan, secret, draft, &outgoing, timestamp.as_deref())?;
    let leading: Vec<(&str, &str)> = match (time_part(plan), &timestamp) {
        (Some(Part { place: Place::Signature(name), .. }), Some(timestamp)) => vec![(name, timestamp)],
        _ => Vec::new(),
    };
    let part = &plan.signature.alternatives[0][0];
    if !outgoing.put(part, &plan.grammar.write(&leading, &digest)) {
        return Err(SchemeError::new("signature.from", &format!("this request has no room for {}", part.place)));
    }
    Ok(Signed { headers: outgoing.headers, body: outgoing.body, url: outgoing.url })
}

fn time_part(plan: &Plan) -> Option<&Part> {
    plan.time.as_ref().map(|time| &time.from.alternatives[0][0])
}

/// Fills in what the content names and the draft has not: nonces, tokens, further headers. Of several contents it is the last, which is
/// the plain one.
fn complete(plan: &Plan, draft: &Draft<'_>, outgoing: &mut Outgoing) {
    let selectors = plan.contents.last().into_iter().flat_map(|content| content.selectors());
    for part in selectors.filter_map(|selector| selector.alternatives[0].first()) {
        let is_time = part.written.contains("time");
        let value = if is_time { written(TimeUnit::Rfc3339, draft.unix_seconds) } else { draft.id.to_owned() };
        outgoing.put(part, &value);
    }
}

fn digest(
    plan: &Plan,
    secret: &SecretString,
    draft: &Draft<'_>,
    outgoing: &Outgoing,
    timestamp: Option<&str>,
) -> Result<Vec<u8>, SchemeError> {
    let key = key_bytes(&plan.steps, secret.expose_secret()).map_err(|message| SchemeError::new("secret", &message))?;
    let body = Bytes::copy_from_slice(&outgoing.body);
    let headers: Vec<(&str, &[u8])> = outgoing.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let request = Request { method: draft.method, url: outgoing.url.as_deref(), query: None, headers: &headers, body: &body };
    let found = plan.before.find(&body);
    let inputs = Inputs { request: &request, found: found.as_ref(), signature: None };
    let there = plan.time.as_ref().and_then(|time| time.from.resolve(&inputs).ok().flatten());
    let there = there.map(|(_, value)| String::from_utf8_lossy(&value).into_owned());
    let timestamp = there.as_deref().or(timestamp);
    let values = Values { inputs: &inputs, timestamp, id: Some(draft.id.as_bytes()), mac: None, url_decode: plan.url_decode.as_deref() };
    let mut content = Ok(Vec::new());
    for template in &plan.contents {
        content = template.resolve(&values);
        if !matches!(content, Err(Absent::Piece(_))) {
            break;
        }
    }
    let content = content.map_err(unsignable)?;
    mac::sign(plan.algorithms[0], &key, &content).map_err(|message| SchemeError::new("secret", &message))
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

/// A fresh secret in the form that the provider gives out; for Ed25519 a key pair, as only a sender has.
pub fn generate_secret(scheme: &Scheme, rng: &mut impl rand::Rng) -> Result<SecretString, SchemeError> {
    let plan = scheme.plan().map_err(|mut errors| errors.remove(0))?;
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    let bytes = if plan.algorithms[0] == Algorithm::Ed25519 { mac::key_pair(bytes).to_vec() } else { bytes.to_vec() };
    let mut text = match plan.steps.iter().rev().find(|step| matches!(step, Step::Base64 | Step::Hex)) {
        Some(Step::Base64) => base64::engine::general_purpose::STANDARD.encode(bytes),
        _ => hex::encode(bytes),
    };
    // What is taken off first stands first.
    for step in plan.steps.iter().rev() {
        if let Step::Strip(prefix) = step {
            text.insert_str(0, &prefix.replace('*', "dev"));
        }
    }
    if let Some(start) = &scheme.spec.secret_starts {
        text.insert_str(0, start);
    }
    Ok(text.into())
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
            let secret = generate_secret(catalog.get(provider).unwrap(), &mut rng).unwrap();
            let secret = secret.expose_secret();
            assert!(secret.starts_with(start) && secret.len() == length, "{provider}: {secret}");
        }
        let twice = [(); 2].map(|()| generate_secret(catalog.get("github").unwrap(), &mut rng).unwrap().expose_secret().to_owned());
        assert_ne!(twice[0], twice[1]);
    }

    #[test]
    fn headers_are_those_the_provider_sends() {
        let catalog = Catalog::new(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:?}"));
        let draft =
            |event_type| Draft { id: "id1", event_type: Some(event_type), unix_seconds: 99, body: b"{}", url: None, method: "POST" };
        let names = |provider, event_type| {
            let headers = sign(catalog.get(provider).unwrap(), &"whsec_AAEC".into(), &draft(event_type)).unwrap();
            headers.headers.into_iter().collect::<BTreeMap<_, _>>()
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
