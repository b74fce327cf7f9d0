//! Verifies one request: the form of the signature, then the time, then the digest, and only then the event's key and type. The cheap
//! checks come first; every secret is tried in constant time.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use subtle::Choice;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Catalog, ChallengeAnswer, Reason, Rejection, Request, Scheme, SchemeError,
    candidates::{Candidates, TooMany},
    catalog::{Challenge, Plan, Time, strict},
    mac::{self, Key, key_bytes},
    selector::{Inputs, Place, Repeated, Resolved, Selector},
    template::{Absent, Template, Values},
};
use crate::{
    event::BodyDigest,
    settings::{
        Source,
        scheme::{Algorithm, Direction, TimeUnit},
    },
};

/// A longer key or type is no name any more.
const NAME_BYTES_MAX: usize = 255;
const CHALLENGE_BYTES_MAX: usize = 4096;

/// Proof that a request was verified: only `Verifier::verify` makes one, and the store takes nothing else.
#[derive(Clone, Debug)]
pub struct VerifiedRequest {
    body: Bytes,
    digest: BodyDigest,
    event_key: String,
    event_type: Option<String>,
    key_is_signed: bool,
    challenge: Option<ChallengeAnswer>,
}

impl VerifiedRequest {
    /// The exact bytes that came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    pub fn digest(&self) -> &BodyDigest {
        &self.digest
    }

    /// Never empty: where the request has none, the hex SHA-256 of the body; where it is longer than 255 bytes or has control
    /// characters, the hex SHA-256 of itself.
    pub fn event_key(&self) -> &str {
        &self.event_key
    }

    pub fn event_type(&self) -> Option<&str> {
        self.event_type.as_deref()
    }

    /// Whether the signature covers the event key (always where the body's digest is the key).
    pub fn key_is_signed(&self) -> bool {
        self.key_is_signed
    }

    /// Set where this is a handshake: answer this, record nothing.
    pub fn challenge(&self) -> Option<&ChallengeAnswer> {
        self.challenge.as_ref()
    }
}

/// A source's scheme with its secrets prepared.
pub struct Verifier {
    scheme: Arc<Scheme>,
    keys: Vec<Key>,
}

impl Challenge {
    fn comes_by(&self, method: &str) -> bool {
        method == self.method.as_deref().unwrap_or("POST")
    }
}

impl Verifier {
    /// `key` and scheme fields of the source override the scheme's own. Errors' keys are those of the source's table.
    pub fn new(catalog: &Catalog, source: &Source, secrets: &[SecretString]) -> Result<Self, Vec<SchemeError>> {
        let scheme = scheme_of(catalog, source)?;
        let (keys, mut errors) = keys_of(&scheme.plan, secrets);
        if secrets.is_empty() {
            errors.push(SchemeError::new("secrets", "is missing: without a secret nothing can be verified"));
        }
        if errors.is_empty() { Ok(Self { scheme, keys }) } else { Err(errors) }
    }

    /// The same, leaving out secrets that can't be used: with none left nothing matches.
    pub fn with_usable(catalog: &Catalog, source: &Source, secrets: &[SecretString]) -> Result<Self, Vec<SchemeError>> {
        let scheme = scheme_of(catalog, source)?;
        let (keys, _) = keys_of(&scheme.plan, secrets);
        Ok(Self { scheme, keys })
    }

    /// The scheme with the source's own fields in it.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// The header that is itself the secret (a shared token), lower-case: not for logs, nor for handlers.
    pub fn secret_header(&self) -> Option<&str> {
        let mut places = self.scheme.plan.signature.places().filter(|_| self.scheme.plan.algorithm == Algorithm::Token);
        places.find_map(|place| if let Place::Header(name) = place { Some(name.as_str()) } else { None })
    }

    /// Verifies one request at this time (unix milliseconds).
    pub fn verify(&self, request: &Request<'_>, now_unix_ms: i64) -> Result<VerifiedRequest, Rejection> {
        let plan = &self.scheme.plan;
        once(&plan.once, request)?;
        if let Some(answer) = self.unsigned_challenge(request)? {
            return Ok(accepted(request, None, None, false, Some(answer)));
        }
        let found = if plan.before.is_empty() { None } else { plan.before.find(request.body) };
        let mut inputs = Inputs { request, found, signature: None };
        let texts = signatures(plan, &inputs)?;
        let first = text_of(texts.first())?;
        inputs.signature = Some((&plan.grammar, first));
        let mut candidates = Candidates::default();
        for text in &texts {
            let too_many = |TooMany| rejection(Reason::MalformedSignature, "more signatures than are ever sent");
            plan.grammar.collect(text_of(Some(text))?, mac::width(plan.algorithm), &mut candidates).map_err(too_many)?;
        }
        if candidates.readable == 0 {
            return Err(rejection(Reason::MalformedSignature, "the signature has not the provider's form"));
        }
        let timestamp = match &plan.time {
            Some(time) => Some(timestamp(time, &inputs, now_unix_ms)?),
            None => None,
        };
        let id = match &plan.id {
            Some(selector) => resolve(selector, &inputs)?,
            None => None,
        };
        let id = id.as_ref().map(|(_, value)| &value[..]);
        self.compare(&Values { inputs: &inputs, timestamp: timestamp.as_deref(), id }, &candidates)?;
        self.accept(request, id)
    }

    fn compare(&self, values: &Values<'_>, candidates: &Candidates) -> Result<(), Rejection> {
        let content = match &self.scheme.plan.content {
            Some(template) => template.resolve(values).map_err(absent)?,
            None => Vec::new(),
        };
        let matched = self.keys.iter().fold(Choice::from(0), |found, key| found | key.matches(&content, &candidates.bytes));
        if matched.into() { Ok(()) } else { Err(rejection(Reason::NoMatch, "no signature matches any secret of the source")) }
    }

    /// What is read of a request whose signature is right.
    fn accept(&self, request: &Request<'_>, id: Option<&[u8]>) -> Result<VerifiedRequest, Rejection> {
        let plan = &self.scheme.plan;
        let found = if plan.after.is_empty() { None } else { plan.after.find(request.body) };
        let inputs = Inputs { request, found, signature: None };
        let answer = match &plan.challenge {
            Some(challenge) if !challenge.unsigned => answer(challenge, &inputs)?,
            _ => None,
        };
        let event_type = match &plan.event_type {
            Some(selector) => resolve(selector, &inputs)?.and_then(|(_, value)| name(&value).map(str::to_owned)),
            None => None,
        };
        let key = match &plan.key {
            Some(selector) => {
                resolve(selector, &inputs)?.filter(|(_, value)| !value.trim_ascii().is_empty()).map(|(alternative, value)| {
                    let signed =
                        selector.alternatives[alternative].iter().all(|part| is_signed(plan.content.as_ref(), &part.place, &value, id));
                    (name(&value).map_or_else(|| hex::encode(BodyDigest::of(&value).0), str::to_owned), signed)
                })
            }
            None => None,
        };
        let (key, signed) = key.map_or((None, true), |(key, signed)| (Some(key), signed));
        Ok(accepted(request, key, event_type, signed, answer))
    }

    fn unsigned_challenge(&self, request: &Request<'_>) -> Result<Option<ChallengeAnswer>, Rejection> {
        match &self.scheme.plan.challenge {
            Some(challenge) if challenge.unsigned && challenge.comes_by(request.method) => {
                let inputs = Inputs { request, found: self.scheme.plan.after.find(request.body), signature: None };
                answer(challenge, &inputs)
            }
            _ => Ok(None),
        }
    }
}

fn accepted(
    request: &Request<'_>,
    key: Option<String>,
    event_type: Option<String>,
    key_is_signed: bool,
    challenge: Option<ChallengeAnswer>,
) -> VerifiedRequest {
    let digest = BodyDigest::of(request.body);
    let event_key = key.unwrap_or_else(|| hex::encode(digest.0));
    VerifiedRequest { body: request.body.clone(), digest, event_key, event_type, key_is_signed, challenge }
}

fn rejection(reason: Reason, detail: &str) -> Rejection {
    Rejection { reason, detail: detail.into() }
}

fn repeated(Repeated(name): Repeated) -> Rejection {
    rejection(Reason::MalformedRequest, &format!("{name} stands more than once"))
}

/// Refuses a request that has one of these headers twice, before any of them is read.
fn once(names: &[String], request: &Request<'_>) -> Result<(), Rejection> {
    let mut seen = 0_u64;
    for (name, _) in request.headers {
        if let Some(index) = names.iter().position(|known| known == name) {
            if seen & 1 << index != 0 {
                return Err(repeated(Repeated((*name).into())));
            }
            seen |= 1 << index;
        }
    }
    Ok(())
}

fn absent(absent: Absent) -> Rejection {
    match absent {
        Absent::Piece(place) => rejection(Reason::MissingSignature, &format!("{place}, which is signed, is missing")),
        Absent::Url => rejection(Reason::Unsupported, "this provider signs the URL: set ingress.public_url"),
        Absent::Repeated(name) => repeated(Repeated(name)),
    }
}

fn resolve<'a>(selector: &Selector, inputs: &Inputs<'a>) -> Result<Resolved<'a>, Rejection> {
    selector.resolve(inputs).map_err(repeated)
}

fn signatures<'a>(plan: &Plan, inputs: &Inputs<'a>) -> Result<Vec<Cow<'a, [u8]>>, Rejection> {
    let texts = if plan.every {
        plan.signature.resolve_each(inputs).map_err(repeated)?
    } else {
        resolve(&plan.signature, inputs)?.map(|(_, text)| text).into_iter().collect()
    };
    if texts.is_empty() {
        return Err(rejection(Reason::MissingSignature, "the request has no signature where this provider puts it"));
    }
    Ok(texts)
}

fn text_of<'t>(text: Option<&'t Cow<'_, [u8]>>) -> Result<&'t str, Rejection> {
    text.and_then(|text| std::str::from_utf8(text).ok()).ok_or_else(|| rejection(Reason::MalformedSignature, "the signature is no text"))
}

/// The time's text as it was signed, once it is known to be near enough.
fn timestamp<'a>(time: &Time, inputs: &Inputs<'a>, now_unix_ms: i64) -> Result<Cow<'a, str>, Rejection> {
    let value = match time.from.resolve(inputs) {
        Ok(Some((_, value))) => value,
        Ok(None) => return Err(rejection(Reason::TimestampMissing, "the request has no time where this provider puts it")),
        Err(Repeated(name)) if inputs.signature.is_some() && time.from.places().any(|place| *place == Place::Signature(name.clone())) => {
            return Err(rejection(Reason::MalformedSignature, "the signature has more than one time"));
        }
        Err(error) => return Err(repeated(error)),
    };
    let malformed = || rejection(Reason::TimestampMalformed, "the time can't be read");
    let text = match value {
        Cow::Borrowed(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).map_err(|_| malformed())?),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).map_err(|_| malformed())?),
    };
    let unix_ms = unix_ms(time.unit, &text).ok_or_else(malformed)?;
    if let Some(tolerance_ms) = time.tolerance_ms {
        // A time in whole seconds is compared in whole seconds, as the providers' own libraries do.
        let now = if time.unit == TimeUnit::S { now_unix_ms.div_euclid(1000).saturating_mul(1000) } else { now_unix_ms };
        let age_ms = now.saturating_sub(unix_ms);
        if age_ms > tolerance_ms {
            return Err(rejection(Reason::TimestampTooOld, &format!("signed {} s ago", age_ms / 1000)));
        }
        if time.direction == Direction::Both && age_ms < -tolerance_ms {
            return Err(rejection(Reason::TimestampInFuture, &format!("signed {} s in the future", age_ms.saturating_neg() / 1000)));
        }
    }
    Ok(text)
}

fn unix_ms(unit: TimeUnit, text: &str) -> Option<i64> {
    if unit == TimeUnit::Rfc3339 {
        let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        return i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok();
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i64 = text.parse().ok()?;
    number.checked_mul(if unit == TimeUnit::S { 1000 } else { 1 })
}

/// A value that is short and clean enough to be a name.
fn name(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    (!text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control)).then_some(text)
}

/// Whether a part of the event key is covered. A token signs nothing; its body counts as what the sender meant.
fn is_signed(content: Option<&Template>, place: &Place, value: &[u8], id: Option<&[u8]>) -> bool {
    let Some(content) = content else { return matches!(place, Place::Body(_) | Place::Form(_)) };
    match place {
        Place::Body(_) | Place::Form(_) => content.has_body(),
        Place::Header(_) => content.has_id() && id == Some(value) || content.covers(place),
        Place::Query(_) => content.covers(place),
        Place::Signature(_) => false,
    }
}

fn answer(challenge: &Challenge, inputs: &Inputs<'_>) -> Result<Option<ChallengeAnswer>, Rejection> {
    if !challenge.comes_by(inputs.request.method) {
        return Ok(None);
    }
    let Some((_, mark)) = resolve(&challenge.when, inputs)? else { return Ok(None) };
    if challenge.equals.as_ref().is_some_and(|expected| expected.as_bytes() != &mark[..]) {
        return Ok(None);
    }
    let Some((_, value)) = resolve(&challenge.answer, inputs)? else { return Ok(None) };
    if value.len() > CHALLENGE_BYTES_MAX {
        return Ok(None);
    }
    Ok(Some(match &challenge.member {
        None => ChallengeAnswer { content_type: "text/plain", body: Bytes::from(value.into_owned()) },
        Some(member) => {
            let object = Value::Object(Map::from_iter([(member.clone(), Value::from(String::from_utf8_lossy(&value)))]));
            ChallengeAnswer { content_type: "application/json", body: Bytes::from(object.to_string()) }
        }
    }))
}

fn keys_of(plan: &Plan, secrets: &[SecretString]) -> (Vec<Key>, Vec<SchemeError>) {
    let (mut keys, mut errors) = (Vec::new(), Vec::new());
    for (index, secret) in secrets.iter().enumerate() {
        match key_bytes(&plan.steps, secret.expose_secret()).and_then(|bytes| Key::new(plan.algorithm, &bytes)) {
            Ok(key) => keys.push(key),
            Err(message) => errors.push(SchemeError::new(&format!("secrets[{index}]"), &message)),
        }
    }
    (keys, errors)
}

/// The provider's scheme, with what the source sets itself.
fn scheme_of(catalog: &Catalog, source: &Source) -> Result<Arc<Scheme>, Vec<SchemeError>> {
    let Some(scheme) = catalog.get(&source.provider) else {
        let known = catalog.names().collect::<Vec<_>>().join(", ");
        return Err(vec![SchemeError::new("provider", &format!("{:?} is not known: {known}", source.provider))]);
    };
    if source.key.is_none() && source.scheme.as_ref().is_none_or(Map::is_empty) {
        return Ok(Arc::clone(scheme));
    }
    let in_scheme = |error: SchemeError| error.within("scheme");
    let mut document = serde_json::to_value(&scheme.spec).map_err(|error| vec![SchemeError::new("scheme", &error.to_string())])?;
    merge(&mut document, Value::Object(without_shorthand(source.scheme.clone().unwrap_or_default())));
    let mut spec = strict(document).map_err(|error| vec![in_scheme(error)])?;
    let own_key = source.key.is_some();
    if own_key {
        spec.key.clone_from(&source.key);
    }
    let rename = |error: SchemeError| if own_key && error.key == "key" { error } else { in_scheme(error) };
    Scheme::new(&scheme.name, spec).map(Arc::new).map_err(|errors| errors.into_iter().map(rename).collect())
}

/// `header` and `prefix` are short for the two keys of `signature` that the generic schemes are mostly told.
fn without_shorthand(mut fields: Map<String, Value>) -> Map<String, Value> {
    let mut signature = Map::new();
    if let Some(header) = fields.remove("header") {
        let from = header.as_str().map_or(header.clone(), |names| Value::from(format!("header:{}", names.replace('|', "|header:"))));
        signature.insert("from".into(), from);
    }
    if let Some(prefix) = fields.remove("prefix") {
        signature.insert("prefix".into(), prefix);
    }
    if !signature.is_empty() {
        let mut short = Value::Object(signature);
        merge(&mut short, fields.remove("signature").unwrap_or_else(|| Value::Object(Map::new())));
        fields.insert("signature".into(), short);
    }
    fields
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
