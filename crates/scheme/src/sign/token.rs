//! Tokens that sign themselves (JWS, RFC 7515), with the claims that a scheme looks at.

use base64::Engine as _;
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use crate::{
    error::SchemeError,
    keys::key::{self, key_bytes},
    locate::{
        jws,
        piece::Values,
        selector::{Inputs, Part, Place},
        template::{Chunk, bytes_of},
    },
    plan::{bind::Must, compiled::Plan},
    request::Request,
    sign::{draft::Draft, put::Outgoing},
};

/// How long a token is valid.
const TOKEN_SECONDS: i64 = 300;

/// A token whose claims are what the scheme asks for, signed.
pub(super) fn token(
    plan: &Plan,
    secret: &SecretString,
    draft: &Draft<'_>,
    outgoing: &Outgoing,
) -> Result<String, SchemeError> {
    let claims = claims(plan, draft, outgoing);
    let signed = jws::unsigned(plan.algorithms[0], &claims);
    let key = key_bytes(&plan.steps, secret.expose_secret())
        .map_err(|message| SchemeError::new("secret", &message))?;
    let digest = key::sign(
        plan.algorithms[0],
        &key,
        &[Chunk::Bytes(signed.as_bytes().into())],
        true,
    );
    let digest = digest.map_err(|message| SchemeError::new("secret", &message))?;
    Ok(format!(
        "{signed}.{}",
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
    ))
}

fn claims(plan: &Plan, draft: &Draft<'_>, outgoing: &Outgoing) -> Map<String, Value> {
    let mut claims = Map::new();
    let body = Bytes::copy_from_slice(&outgoing.body);
    let headers = outgoing.header_bytes();
    let request = Request {
        method: draft.method,
        url: outgoing.url.as_deref(),
        query: None,
        headers: &headers,
        body: &body,
    };
    let inputs = Inputs {
        request: &request,
        found: None,
        signature: None,
    };
    for bind in &plan.binds {
        let (Some(name), Must::Be(template)) = (bind.claim(), &bind.must) else {
            continue;
        };
        let Ok(chunks) = template.resolve(&Values::none(&inputs)) else {
            continue;
        };
        let text = bytes_of(&chunks);
        claims.insert(name.into(), String::from_utf8_lossy(&text).into());
    }
    let keys = plan
        .identity
        .key
        .iter()
        .flat_map(|key| key.values(draft.id));
    let types = plan
        .event_type
        .iter()
        .filter_map(|selector| Some((selector, draft.event_type?)));
    for (selector, value) in keys.chain(types) {
        if let Some(Part {
            place: Place::Signature(name),
            ..
        }) = selector.alternatives[0].first()
        {
            claims.insert(name.clone(), value.into());
        }
    }
    claims.insert("iat".into(), draft.unix_seconds.into());
    claims.insert("nbf".into(), draft.unix_seconds.into());
    claims.insert("exp".into(), (draft.unix_seconds + TOKEN_SECONDS).into());
    claims.entry("jti").or_insert_with(|| draft.id.into());
    claims
}
