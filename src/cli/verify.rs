//! `hookonce verify`: accept or reject, and why; for one request, or for one JSON object a line.
//! Prints no secret.

use std::{
    collections::HashMap,
    io::{BufRead, Write},
};

use anyhow::Context as _;
use base64::Engine as _;
use bytes::Bytes;
use hookonce_scheme::{
    BASE64, Catalog, ChallengeAnswer, KeySet, Reason, Rejection, Request, VerifiedRequest, Verifier,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    clock::Clock,
    settings::{Dedup, OneOrMany, scheme::SourceSpec},
};

/// How many verifiers are kept. When there are as many, all are dropped and made anew as needed.
const VERIFIERS_MAX: usize = 1024;

/// One request to verify, and with what.
#[derive(Default)]
pub struct Case {
    pub provider: String,
    pub secrets: Vec<SecretString>,
    pub verify_token: Option<SecretString>,
    /// This and the next three are as a source's fields of the same names.
    pub key: Option<OneOrMany<String>>,
    pub dedup: Option<Dedup>,
    pub ignore: Vec<String>,
    pub scheme: Option<Map<String, Value>>,
    pub method: String,
    pub url: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// What would be fetched from the provider: a certificate in PEM, or a set of keys.
    pub keys: Option<String>,
}

/// What `verify` says; one line of `--jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub id: Value,
    pub verdict: &'static str,
    pub reason: Option<&'static str>,
    pub event_key: Option<String>,
    /// What makes another request the same event.
    pub dedup: Option<Dedup>,
    pub event_type: Option<String>,
    /// Why the type that the request says is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub type_dropped: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub challenge_answer: Option<String>,
    /// For people; not part of the line format.
    #[serde(skip)]
    pub detail: Option<String>,
}

impl Verdict {
    pub fn is_accepted(&self) -> bool {
        self.reason.is_none()
    }

    fn rejected(rejection: Rejection) -> Self {
        Self {
            id: Value::Null,
            verdict: "reject",
            reason: Some(rejection.reason.code()),
            event_key: None,
            dedup: None,
            event_type: None,
            type_dropped: None,
            challenge_answer: None,
            detail: Some(rejection.detail.into_owned()),
        }
    }
}

/// Verifiers by what they are made of, so that many requests to a few sources prepare each scheme
/// and secret once.
pub struct Verifiers<'a> {
    catalog: &'a Catalog,
    made: HashMap<Made, Result<Verifier, (Reason, String)>>,
}

/// What a verifier is made of. The source's own scheme is kept as its JSON text.
#[derive(PartialEq, Eq, Hash)]
struct Made {
    provider: String,
    secrets: Vec<String>,
    verify_token: Option<String>,
    key: Option<Vec<String>>,
    dedup: Option<Dedup>,
    ignore: Vec<String>,
    scheme: Option<String>,
}

impl<'a> Verifiers<'a> {
    pub fn new(catalog: &'a Catalog) -> Self {
        Self {
            catalog,
            made: HashMap::new(),
        }
    }

    fn get(&mut self, case: &Case) -> &Result<Verifier, (Reason, String)> {
        let made = Made {
            provider: case.provider.clone(),
            secrets: case
                .secrets
                .iter()
                .map(|secret| secret.expose_secret().to_owned())
                .collect(),
            verify_token: case
                .verify_token
                .as_ref()
                .map(|token| token.expose_secret().to_owned()),
            key: case.key.as_ref().map(|key| key.as_slice().to_vec()),
            dedup: case.dedup,
            ignore: case.ignore.clone(),
            scheme: case
                .scheme
                .as_ref()
                .map(|scheme| Value::Object(scheme.clone()).to_string()),
        };
        if self.made.len() >= VERIFIERS_MAX && !self.made.contains_key(&made) {
            self.made.clear();
        }
        self.made
            .entry(made)
            .or_insert_with(|| build(self.catalog, case))
    }
}

fn build(catalog: &Catalog, case: &Case) -> Result<Verifier, (Reason, String)> {
    if catalog.get(&case.provider).is_none() {
        return Err((Reason::UnknownProvider, catalog.not_known(&case.provider)));
    }
    let source = SourceSpec {
        provider: case.provider.clone(),
        key: case.key.clone(),
        dedup: case.dedup,
        ignore: case.ignore.clone(),
        scheme: case.scheme.clone(),
        learn_secret: true,
        ..SourceSpec::default()
    };
    Verifier::with_usable(catalog, &source, &case.secrets)
        .map(|verifier| verifier.with_verify_token(case.verify_token.as_ref()))
        .map_err(|errors| {
            (
                Reason::Unsupported,
                errors
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("; "),
            )
        })
}

/// Verifies one request as of this time, in unix milliseconds.
pub fn verify_one(case: &Case, now_unix_ms: i64, verifiers: &mut Verifiers<'_>) -> Verdict {
    let verifier = match verifiers.get(case) {
        Ok(verifier) => verifier,
        Err((reason, detail)) => return Verdict::rejected(Rejection::new(*reason, detail.clone())),
    };
    let names: Vec<String> = case
        .headers
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    let values = case
        .headers
        .iter()
        .map(|(_, value)| value.trim_matches([' ', '\t']).as_bytes());
    let headers: Vec<(&str, &[u8])> = names.iter().map(String::as_str).zip(values).collect();
    let request = Request {
        method: &case.method,
        url: case.url.as_deref(),
        query: None,
        headers: &headers,
        body: &case.body,
    };
    match verified(verifier, &request, case.keys.as_deref(), now_unix_ms) {
        Ok(verified) => Verdict {
            id: Value::Null,
            verdict: "accept",
            reason: None,
            event_key: verified.event_key().map(str::to_owned),
            dedup: Some(verified.dedup()),
            event_type: verified.event_type().map(str::to_owned),
            type_dropped: verified.type_dropped(),
            challenge_answer: verified.challenge().map(shown),
            detail: None,
        },
        Err(rejection) => Verdict::rejected(rejection),
    }
}

/// Verifies, with the given keys if the scheme needs the provider's. They are forgotten afterwards,
/// because they count for this request alone.
fn verified(
    verifier: &Verifier,
    request: &Request<'_>,
    keys: Option<&str>,
    now_unix_ms: i64,
) -> Result<VerifiedRequest, Rejection> {
    let rejection = match (verifier.verify(request, now_unix_ms), keys) {
        (Err(rejection), Some(keys)) if rejection.needs.is_some() => (rejection, keys),
        (checked, _) => return checked,
    };
    let (Rejection { needs, .. }, keys) = rejection;
    let need = needs.expect("just seen");
    let set = KeySet::read(need.format, keys.as_bytes()).map_err(|error| {
        Rejection::new(
            Reason::Unsupported,
            format!("the keys that were given: {error}"),
        )
    })?;
    verifier.known_keys().put(&need, set, now_unix_ms);
    let checked = verifier.verify(request, now_unix_ms);
    verifier.known_keys().forget(&need);
    checked
}

/// The answer's body. If that is empty, the value of its first header.
fn shown(answer: &ChallengeAnswer) -> String {
    match answer.headers.first() {
        Some((_, value)) if answer.body.is_empty() => value.clone(),
        _ => String::from_utf8_lossy(&answer.body).into_owned(),
    }
}

/// One JSON object a line in, one verdict a line out, in the same order. A line that can't be read
/// is a verdict too.
pub fn verify_jsonl(
    mut input: impl BufRead,
    output: impl Write,
    catalog: &Catalog,
) -> anyhow::Result<()> {
    let mut output = std::io::BufWriter::new(output);
    let mut line = Vec::new();
    let mut verifiers = Verifiers::new(catalog);
    loop {
        line.clear();
        if input
            .read_until(b'\n', &mut line)
            .context("can't read the requests")?
            == 0
        {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        serde_json::to_writer(&mut output, &verdict_of(&line, &mut verifiers))?;
        output
            .write_all(b"\n")
            .context("can't write the verdicts")?;
    }
    output.flush().context("can't write the verdicts")
}

/// One line of `--jsonl`'s input.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    provider: String,
    #[serde(default)]
    secrets: Vec<String>,
    verify_token: Option<String>,
    method: Option<String>,
    url: Option<String>,
    #[serde(default)]
    headers: Value,
    #[serde(default)]
    body_base64: String,
    now: Option<f64>,
    key: Option<OneOrMany<String>>,
    dedup: Option<Dedup>,
    #[serde(default)]
    ignore: Vec<String>,
    scheme: Option<Map<String, Value>>,
    /// A certificate in PEM or a set of keys, as text or as JSON.
    keys: Option<Value>,
}

fn verdict_of(line: &[u8], verifiers: &mut Verifiers<'_>) -> Verdict {
    let malformed = |id: Value, detail: String| Verdict {
        id,
        ..Verdict::rejected(Rejection::new(Reason::MalformedRequest, detail))
    };
    let line: Line = match serde_json::from_slice(line) {
        Ok(line) => line,
        Err(error) => {
            let id = serde_json::from_slice::<Value>(line)
                .ok()
                .and_then(|mut value| value.get_mut("id").map(Value::take));
            return malformed(id.unwrap_or_default(), error.to_string());
        }
    };
    let Some(headers) = headers_of(&line.headers) else {
        return malformed(
            line.id,
            "`headers` is no object and no list of pairs".into(),
        );
    };
    let body = match BASE64.decode(&line.body_base64) {
        Ok(body) => body.into(),
        Err(error) => return malformed(line.id, format!("`body_base64`: {error}")),
    };
    let now_unix_ms = line.now.map_or_else(
        || Clock::System.unix_ms(),
        |seconds| (seconds * 1000.0) as i64,
    );
    let case = Case {
        provider: line.provider,
        secrets: line.secrets.into_iter().map(SecretString::from).collect(),
        verify_token: line.verify_token.map(SecretString::from),
        key: line.key,
        dedup: line.dedup,
        ignore: line.ignore,
        scheme: line.scheme,
        method: line
            .method
            .map_or_else(|| "POST".into(), |method| method.to_ascii_uppercase()),
        url: line.url,
        headers,
        body,
        keys: line.keys.map(|keys| {
            keys.as_str()
                .map_or_else(|| keys.to_string(), str::to_owned)
        }),
    };
    Verdict {
        id: line.id,
        ..verify_one(&case, now_unix_ms, verifiers)
    }
}

/// `{name: value}`, `{name: [value, …]}` or `[[name, value], …]`.
fn headers_of(value: &Value) -> Option<Vec<(String, String)>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let mut headers = Vec::new();
    match value {
        Value::Null => {}
        Value::Object(object) => {
            for (name, value) in object {
                match value {
                    Value::Array(values) => {
                        for value in values {
                            headers.push((name.clone(), text(value)?));
                        }
                    }
                    value => headers.push((name.clone(), text(value)?)),
                }
            }
        }
        Value::Array(pairs) => {
            for pair in pairs {
                let [name, value] = pair.as_array()?.as_slice() else {
                    return None;
                };
                headers.push((text(name)?, text(value)?));
            }
        }
        _ => return None,
    }
    Some(headers)
}

#[cfg(test)]
mod tests;
