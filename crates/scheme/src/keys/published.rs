//! Public keys that the provider publishes: where a request says they are, whether that is one of the provider's places, and what was
//! fetched from there. Nothing is fetched here: a check that lacks a key says which, and whoever called brings it and checks again.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use base64::Engine as _;
use ed25519_dalek::{Signature, VerifyingKey};
use ring::signature::RsaPublicKeyComponents;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;

use crate::{
    compiler::Compiler,
    encoding::BASE64_URL,
    glob,
    keys::asymmetric::{self, PublicKey},
    locate::{
        json::Pointers,
        selector::{Inputs, Place, Selector},
    },
    rejection::{Need, Reason, Rejection},
    spec::{Algorithm, KeyFormat, SchemeSpec},
};

/// Keys in one answer, and answers that are remembered.
const SET_MAX: usize = 64;
const KNOWN_MAX: usize = 256;
const URL_BYTES_MAX: usize = 1024;
/// A rotated key is found within this time at the latest; keys that are asked for by their id, and certificates, don't change.
const FRESH_MS: i64 = 3600 * 1000;
const FRESH_LONG_MS: i64 = 24 * FRESH_MS;

/// A scheme's `[keys]`.
pub(crate) struct Keys {
    from: Origin,
    hosts: Vec<String>,
    path: String,
    format: KeyFormat,
    /// What must be one of the source's secrets: the provider signs for all of its customers.
    expect: Option<Selector>,
    post: BTreeMap<String, String>,
}

enum Origin {
    Url(String),
    At(Selector),
}

/// The keys of one answer.
#[derive(Debug)]
pub struct KeySet(Vec<Fetched>);

#[derive(Debug)]
struct Fetched {
    id: Option<String>,
    key: Public,
    /// Unix milliseconds; a certificate's.
    valid: Option<(i64, i64)>,
}

enum Public {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    Certified(PublicKey),
    P256(PublicKey),
    Ed25519(Box<VerifyingKey>),
}

impl std::fmt::Debug for Public {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rsa { .. } | Self::Certified(_) => "RSA",
            Self::P256(_) => "P-256",
            Self::Ed25519(_) => "Ed25519",
        })
    }
}

/// What was fetched, until when it counts. In memory, bounded.
#[derive(Default)]
pub struct KnownKeys(RwLock<HashMap<String, (Arc<KeySet>, i64)>>);

impl KnownKeys {
    pub(crate) fn get(&self, id: &str, now_unix_ms: i64) -> Option<Arc<KeySet>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(id).filter(|(_, until)| now_unix_ms < *until).map(|(set, _)| set.clone())
    }

    pub fn put(&self, need: &Need, set: KeySet, now_unix_ms: i64) {
        let fresh = if need.format == KeyFormat::X509 || need.post.is_some() { FRESH_LONG_MS } else { FRESH_MS };
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX && !known.contains_key(&need.id) {
            let oldest = known.iter().min_by_key(|(_, (_, until))| *until).map(|(id, _)| id.clone());
            oldest.map(|id| known.remove(&id));
        }
        known.insert(need.id.clone(), (Arc::new(set), now_unix_ms.saturating_add(fresh)));
    }

    pub fn forget(&self, need: &Need) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&need.id);
    }
}

impl Compiler {
    pub(crate) fn keys(&mut self, spec: &SchemeSpec, before: &mut Pointers) -> Option<Keys> {
        let keys = spec.keys.as_ref()?;
        self.demand(
            spec.algorithm.as_slice().iter().all(|algorithm| algorithm.is_public()),
            "algorithm",
            "must be one of public keys, as they are fetched (keys)",
        );
        let is_url = keys.from.contains("://");
        let from = if is_url {
            let sound = Url::parse(&keys.from).is_ok_and(|url| url.scheme() == "https" && url.has_host());
            self.demand(sound, "keys.from", "must start with https://, or name a place (header:NAME, body:PATH)");
            Some(Origin::Url(keys.from.clone()))
        } else {
            self.selector("keys.from", &keys.from, before).map(Origin::At)
        };
        self.demand(is_url || !keys.hosts.is_empty(), "keys.hosts", "is missing: whoever sends a request would choose the key");
        for (index, host) in keys.hosts.iter().enumerate() {
            let labels = host.split('.').filter(|label| !label.is_empty()).count();
            let fixed = host.rsplit('.').take(2).all(|label| !label.contains(['*', '{']));
            self.demand(labels > 1 && fixed, &format!("keys.hosts[{index}]"), "must be a host, whose last two parts have no *");
        }
        let expect = keys.expect.as_deref().and_then(|text| self.selector("keys.expect", text, before));
        let contents = spec.content.as_ref().map_or(&[][..], |content| content.as_slice());
        let personal = expect.is_some() || !keys.post.is_empty() || contents.iter().any(|content| content.contains("{secret}"));
        self.demand(
            personal,
            "keys.expect",
            "is missing: the provider's keys sign for all its customers, so something must be this source's own",
        );
        let path = keys.path.clone().unwrap_or_else(|| "*".into());
        Some(Keys { from: from?, hosts: keys.hosts.clone(), path, format: keys.format, expect, post: keys.post.clone() })
    }
}

impl Keys {
    /// The keys for this request; `key_id` is what its token names.
    pub(crate) fn find(
        &self,
        inputs: &Inputs<'_>,
        key_id: Option<&str>,
        secrets: &[SecretString],
        known: &KnownKeys,
        now_unix_ms: i64,
    ) -> Result<(Arc<KeySet>, Need), Rejection> {
        let mut need = self.need(inputs, key_id, secrets)?;
        let Some(set) = known.get(&need.id, now_unix_ms) else { return Err(Rejection::lacking(need)) };
        need.is_refresh = true;
        Ok((set, need))
    }

    /// Which keys there are for this request, by their names; or from where they are to be had. None where it names no place that is allowed.
    pub(crate) fn told(&self, inputs: &Inputs<'_>, key_id: Option<&str>, known: &KnownKeys, now_unix_ms: i64) -> Option<String> {
        let need = self.need(inputs, key_id, &[]).ok()?;
        let wanted = key_id.map_or_else(String::new, |id| format!(", the token names {id:?}"));
        Some(match known.get(&need.id, now_unix_ms) {
            Some(set) => format!("the keys of {}: {}{wanted}", need.url, set.names()),
            None => format!("no key of {} is here: it was not fetched, or not to be had{wanted}", need.url),
        })
    }

    fn need(&self, inputs: &Inputs<'_>, key_id: Option<&str>, secrets: &[SecretString]) -> Result<Need, Rejection> {
        let url = match &self.from {
            Origin::Url(url) => url.clone(),
            Origin::At(selector) => {
                let found = selector.resolve(inputs)?;
                let (_, value) =
                    found.ok_or_else(|| Rejection::new(Reason::MissingSignature, "the request does not say where its key is"))?;
                self.allowed(&value).ok_or_else(|| Rejection::new(Reason::NoMatch, "the key's URL is none of the provider's"))?
            }
        };
        let (id, post) = if self.post.is_empty() {
            (url.clone(), None)
        } else {
            let key_id = key_id.filter(|id| id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic()));
            let key_id = key_id.ok_or_else(|| Rejection::new(Reason::MalformedSignature, "the token names no key"))?;
            (format!("{url}#{key_id}"), Some(self.posted(key_id, secrets)))
        };
        Ok(Need { id, url, format: self.format, post, is_refresh: false })
    }

    fn posted(&self, key_id: &str, secrets: &[SecretString]) -> SecretString {
        let secret = secrets.first().map_or("", |secret| secret.expose_secret());
        let (user, password) = secret.split_once(':').unwrap_or((secret, ""));
        let filled = |text: &str| text.replace("{kid}", key_id).replace("{user}", user).replace("{password}", password);
        let object: serde_json::Map<String, serde_json::Value> =
            self.post.iter().map(|(name, text)| (name.clone(), filled(text).into())).collect();
        serde_json::Value::Object(object).to_string().into()
    }

    /// The URL, where it is on one of the provider's hosts, by https and at the default port.
    pub(crate) fn allowed(&self, url: &[u8]) -> Option<String> {
        let url = self.on_host(url)?;
        glob::matches(&self.path, url.path()).then(|| url.into())
    }

    /// The same at any path.
    pub(crate) fn on_host(&self, url: &[u8]) -> Option<Url> {
        let text = std::str::from_utf8(url).ok().filter(|text| text.len() <= URL_BYTES_MAX)?;
        let url = Url::parse(text).ok()?;
        let plain = url.scheme() == "https" && url.port().is_none() && url.username().is_empty() && url.password().is_none();
        let host = url.domain()?;
        (plain && self.hosts.iter().any(|known| is_host(known, host))).then_some(url)
    }

    /// Whether what must be the source's own is one of its secrets.
    pub(crate) fn expects(&self, inputs: &Inputs<'_>, secrets: &[SecretString]) -> Result<(), Rejection> {
        let Some(selector) = &self.expect else { return Ok(()) };
        let value = selector.resolve(inputs)?.map(|(_, value)| value);
        let own = value.is_some_and(|value| secrets.iter().any(|secret| secret.expose_secret().as_bytes() == &value[..]));
        let place = selector.places().next().map(Place::to_string).unwrap_or_default();
        if own { Ok(()) } else { Err(Rejection::new(Reason::NoMatch, format!("{place} is none of the source's secrets"))) }
    }
}

/// `*` stands for letters, digits and hyphens within one part of a name, `{region}` for the name of a cloud's region and nothing else: what stands
/// there may otherwise be anybody's (`sns.s3.amazonaws.com` is a bucket).
fn is_host(pattern: &str, host: &str) -> bool {
    let (pattern, host): (Vec<&str>, Vec<&str>) = (pattern.split('.').collect(), host.split('.').collect());
    let fits = |(pattern, label): (&&str, &&str)| {
        !label.is_empty()
            && (*pattern == REGION && is_region(label) || glob::matches(pattern, label))
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    pattern.len() == host.len() && pattern.iter().zip(&host).all(fits)
}

const REGION: &str = "{region}";

/// As Amazon names its regions (docs.aws.amazon.com/global-infrastructure/latest/regions): two letters, words, a number (`us-gov-west-1`).
fn is_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let [area, words @ .., number] = parts.as_slice() else { return false };
    let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    area.len() == 2
        && !words.is_empty()
        && [area].into_iter().chain(words).all(is_word)
        && matches!(number.len(), 1 | 2)
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// One key as RFC 7517 has it. What is of no use here is passed over.
#[derive(Deserialize)]
struct Jwk {
    kid: Option<String>,
    kty: String,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Jwks {
    Set { keys: Vec<serde_json::Value> },
    One { key: serde_json::Value },
    Bare(serde_json::Value),
}

impl KeySet {
    /// Reads what was fetched. Keys of other kinds are left out; with none left it is an error.
    pub fn read(format: KeyFormat, bytes: &[u8]) -> Result<Self, String> {
        let keys = match format {
            KeyFormat::X509 => vec![certificate(bytes)?],
            KeyFormat::Jwks => {
                let all = match serde_json::from_slice(bytes).map_err(|error| format!("is no set of keys: {error}"))? {
                    Jwks::Set { keys } => keys,
                    Jwks::One { key } | Jwks::Bare(key) => vec![key],
                };
                if all.len() > SET_MAX {
                    return Err(format!("has more than {SET_MAX} keys"));
                }
                all.into_iter().filter_map(|key| fetched(serde_json::from_value(key).ok()?)).collect()
            }
        };
        if keys.is_empty() { Err("has no key that can be used".into()) } else { Ok(Self(keys)) }
    }

    /// Whether any of these signatures is right under a key that is named so (any, where none is named) and is valid at this time.
    pub(crate) fn is_right<'s>(
        &self,
        algorithm: Algorithm,
        key_id: Option<&str>,
        message: &[u8],
        signatures: impl Iterator<Item = &'s [u8]> + Clone,
        now_unix_ms: i64,
    ) -> bool {
        let usable = self.0.iter().filter(|key| key_id.is_none() || key.id.as_deref() == key_id);
        let mut valid = usable.filter(|key| key.valid.is_none_or(|(from, until)| (from..=until).contains(&now_unix_ms)));
        valid.any(|key| signatures.clone().any(|signature| key.key.is_right(algorithm, message, signature)))
    }

    /// What its keys are called, else their kind.
    fn names(&self) -> String {
        let name = |key: &Fetched| key.id.as_ref().map_or_else(|| format!("{:?}", key.key), |id| format!("{id:?}"));
        self.0.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// Whether all that is here is out of date.
    pub(crate) fn is_expired(&self, now_unix_ms: i64) -> bool {
        self.0.iter().all(|key| key.valid.is_some_and(|(from, until)| !(from..=until).contains(&now_unix_ms)))
    }
}

impl Public {
    fn is_right(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match (self, algorithm) {
            (Self::Rsa { modulus, exponent }, Algorithm::RsaSha256 | Algorithm::RsaSha1) => {
                let key = RsaPublicKeyComponents { n: modulus, e: exponent };
                key.verify(asymmetric::rsa(algorithm), message, signature).is_ok()
            }
            (Self::Certified(key), Algorithm::RsaSha256 | Algorithm::RsaSha1) => key.is_right_rsa(algorithm, message, signature),
            (Self::P256(key), Algorithm::EcdsaP256Sha256) => key.is_right(message, signature),
            (Self::Ed25519(key), Algorithm::Ed25519) => {
                Signature::from_slice(signature).is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
            }
            _ => false,
        }
    }
}

fn fetched(jwk: Jwk) -> Option<Fetched> {
    let bytes = |text: &Option<String>| BASE64_URL.decode(text.as_deref()?).ok();
    let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            let modulus = bytes(&jwk.n)?;
            // ring takes no leading zero.
            let start = modulus.iter().position(|byte| *byte != 0)?;
            Public::Rsa { modulus: modulus[start..].to_vec(), exponent: bytes(&jwk.e)? }
        }
        ("EC", Some("P-256")) => {
            let point = [&[4][..], &bytes(&jwk.x)?, &bytes(&jwk.y)?].concat();
            (point.len() == 65).then_some(Public::P256(PublicKey::EcdsaP256(point)))?
        }
        ("OKP", Some("Ed25519")) => {
            let key = VerifyingKey::from_bytes(&bytes(&jwk.x)?.try_into().ok()?).ok()?;
            (!key.is_weak()).then(|| Public::Ed25519(Box::new(key)))?
        }
        _ => return None,
    };
    Some(Fetched { id: jwk.kid, key, valid: None })
}

/// The first certificate of a PEM text. Its dates are held to; who issued it is not asked: it came from the provider's own host, by https.
fn certificate(pem: &[u8]) -> Result<Fetched, String> {
    let wrong = |_| "is no certificate in PEM".to_owned();
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).map_err(|error| wrong(error.to_string()))?;
    let certificate = pem.parse_x509().map_err(|error| wrong(error.to_string()))?;
    let validity = certificate.validity();
    let unix_ms = |time: x509_parser::time::ASN1Time| time.timestamp().saturating_mul(1000);
    let key = PublicKey::new(Algorithm::RsaSha256, certificate.public_key().raw)?;
    let valid = Some((unix_ms(validity.not_before), unix_ms(validity.not_after)));
    Ok(Fetched { id: None, key: Public::Certified(key), valid })
}
