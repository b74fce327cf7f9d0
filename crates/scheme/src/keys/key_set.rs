//! Public keys that were fetched from where a provider publishes them, and the memory of them. It
//! is not decided here who fetches them, and from where.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use base64::Engine as _;
use ed25519_dalek::{Signature, VerifyingKey};
use ring::signature::RsaPublicKeyComponents;
use serde::Deserialize;

use crate::{
    encoding::BASE64_URL,
    keys::asymmetric::{self, PublicKey},
    rejection::Need,
    spec::{Algorithm, KeyFormat},
};

/// The most keys in one answer, and the most answers that are remembered.
const SET_MAX: usize = 64;
const KNOWN_MAX: usize = 256;
/// A rotated key is found after this time at the latest. Certificates, and keys that are asked for
/// by their id, do not change, so they count for longer.
const FRESH_MS: i64 = 3600 * 1000;
const FRESH_LONG_MS: i64 = 24 * FRESH_MS;

/// The public keys of one answer: RSA, P-256 and Ed25519.
#[derive(Debug)]
pub struct KeySet(Vec<Fetched>);

#[derive(Debug)]
struct Fetched {
    id: Option<String>,
    key: Public,
    /// When a certificate is valid, in unix milliseconds.
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

/// What was fetched, and until when it counts: an hour, or a day for certificates and for keys that
/// are asked for by their id. It is in memory and has 256 answers at most.
#[derive(Default)]
pub struct KnownKeys(RwLock<HashMap<String, (Arc<KeySet>, i64)>>);

impl KnownKeys {
    /// What was fetched under this name and counts at this time (unix milliseconds).
    pub(crate) fn get(&self, id: &str, now_unix_ms: i64) -> Option<Arc<KeySet>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known
            .get(id)
            .filter(|(_, until)| now_unix_ms < *until)
            .map(|(set, _)| set.clone())
    }

    /// Keeps what was fetched for this need at this time (unix milliseconds). If there is no room,
    /// the answer that would expire first is dropped.
    pub fn put(&self, need: &Need, set: KeySet, now_unix_ms: i64) {
        let fresh = if need.format == KeyFormat::X509 || need.post.is_some() {
            FRESH_LONG_MS
        } else {
            FRESH_MS
        };
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX && !known.contains_key(&need.id) {
            let oldest = known
                .iter()
                .min_by_key(|(_, (_, until))| *until)
                .map(|(id, _)| id.clone());
            oldest.map(|id| known.remove(&id));
        }
        known.insert(
            need.id.clone(),
            (Arc::new(set), now_unix_ms.saturating_add(fresh)),
        );
    }

    /// Drops what was fetched for this need.
    pub fn forget(&self, need: &Need) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&need.id);
    }
}

/// One key (RFC 7517). Members that are of no use here are ignored.
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
    /// Reads what was fetched, at most 64 keys. Keys of other kinds are left out.
    ///
    /// # Errors
    ///
    /// What is no set of keys or no certificate, has too many keys, or none that can be used; as
    /// the rest of a sentence that begins with where it came from.
    pub fn read(format: KeyFormat, bytes: &[u8]) -> Result<Self, String> {
        let keys = match format {
            KeyFormat::X509 => vec![certificate(bytes)?],
            KeyFormat::Jwks => {
                let all = match serde_json::from_slice(bytes)
                    .map_err(|error| format!("is no set of keys: {error}"))?
                {
                    Jwks::Set { keys } => keys,
                    Jwks::One { key } | Jwks::Bare(key) => vec![key],
                };
                if all.len() > SET_MAX {
                    return Err(format!("has more than {SET_MAX} keys"));
                }
                all.into_iter()
                    .filter_map(|key| fetched(serde_json::from_value(key).ok()?))
                    .collect()
            }
        };
        if keys.is_empty() {
            Err("has no key that can be used".into())
        } else {
            Ok(Self(keys))
        }
    }

    /// Whether any of these signatures is right under a key of this name that is valid at this
    /// time. Without a name, every key is tried.
    pub(crate) fn is_right<'s>(
        &self,
        algorithm: Algorithm,
        key_id: Option<&str>,
        message: &[u8],
        signatures: impl Iterator<Item = &'s [u8]> + Clone,
        now_unix_ms: i64,
    ) -> bool {
        let usable = self
            .0
            .iter()
            .filter(|key| key_id.is_none() || key.id.as_deref() == key_id);
        let mut valid = usable.filter(|key| {
            key.valid
                .is_none_or(|(from, until)| (from..=until).contains(&now_unix_ms))
        });
        valid.any(|key| {
            signatures
                .clone()
                .any(|signature| key.key.is_right(algorithm, message, signature))
        })
    }

    /// The names of its keys, or their kinds if they have none.
    pub(crate) fn names(&self) -> String {
        let name = |key: &Fetched| {
            key.id
                .as_ref()
                .map_or_else(|| format!("{:?}", key.key), |id| format!("{id:?}"))
        };
        self.0.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// Whether every key here is out of date.
    pub(crate) fn is_expired(&self, now_unix_ms: i64) -> bool {
        self.0.iter().all(|key| {
            key.valid
                .is_some_and(|(from, until)| !(from..=until).contains(&now_unix_ms))
        })
    }
}

impl Public {
    fn is_right(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match (self, algorithm) {
            (Self::Rsa { modulus, exponent }, Algorithm::RsaSha256 | Algorithm::RsaSha1) => {
                let key = RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                };
                key.verify(asymmetric::rsa(algorithm), message, signature)
                    .is_ok()
            }
            (Self::Certified(key), Algorithm::RsaSha256 | Algorithm::RsaSha1) => {
                key.is_right_rsa(algorithm, message, signature)
            }
            (Self::P256(key), Algorithm::EcdsaP256Sha256) => key.is_right(message, signature),
            (Self::Ed25519(key), Algorithm::Ed25519) => Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
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
            Public::Rsa {
                modulus: modulus[start..].to_vec(),
                exponent: bytes(&jwk.e)?,
            }
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
    Some(Fetched {
        id: jwk.kid,
        key,
        valid: None,
    })
}

/// The first certificate of a PEM text. Its dates are enforced. Its issuer is not checked, because
/// it came by https from the provider's own host.
fn certificate(pem: &[u8]) -> Result<Fetched, String> {
    let wrong = |_| "is no certificate in PEM".to_owned();
    let (_, pem) =
        x509_parser::pem::parse_x509_pem(pem).map_err(|error| wrong(error.to_string()))?;
    let certificate = pem.parse_x509().map_err(|error| wrong(error.to_string()))?;
    let validity = certificate.validity();
    let unix_ms = |time: x509_parser::time::ASN1Time| time.timestamp().saturating_mul(1000);
    let key = PublicKey::new(Algorithm::RsaSha256, certificate.public_key().raw)?;
    let valid = Some((unix_ms(validity.not_before), unix_ms(validity.not_after)));
    Ok(Fetched {
        id: None,
        key: Public::Certified(key),
        valid,
    })
}
