//! Keys and the comparison of digests. A key is prepared once per secret. Every candidate is
//! compared with every secret in constant time, so that neither the time nor the order tells which
//! one matched.

use std::borrow::Cow;

use base64::Engine as _;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret as _, SecretSlice};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use sha3::Keccak256;
use subtle::{Choice, ConstantTimeEq as _};
use unicode_normalization::UnicodeNormalization as _;

use crate::{
    encoding::{PASTED, PASTED_URL, credentials},
    keys::asymmetric::{self, PublicKey, SIGNATURE_BYTES_MAX},
    locate::{
        signature_text::{Candidates, Width},
        template::Chunk,
    },
    spec::Algorithm,
};

/// One prepared secret.
pub(crate) enum Key {
    HmacSha1(Box<Hmac<Sha1>>),
    HmacSha256(Box<Hmac<Sha256>>),
    HmacSha384(Box<Hmac<Sha384>>),
    HmacSha512(Box<Hmac<Sha512>>),
    Sha1(SecretSlice<u8>),
    Sha256(SecretSlice<u8>),
    Keccak256(SecretSlice<u8>),
    /// The token's hash.
    Token([u8; 32]),
    Ed25519(Box<VerifyingKey>),
    Asymmetric(PublicKey),
}

/// Bytes of one candidate, as compared.
pub(crate) fn width(algorithm: Algorithm) -> Width {
    match algorithm {
        Algorithm::HmacSha1 | Algorithm::Sha1 => Width::Exactly(20),
        Algorithm::HmacSha256 | Algorithm::Sha256 | Algorithm::Keccak256 | Algorithm::Token => {
            Width::Exactly(32)
        }
        Algorithm::HmacSha384 => Width::Exactly(48),
        Algorithm::HmacSha512 | Algorithm::Ed25519 => Width::Exactly(64),
        Algorithm::EcdsaP256Sha256 => Width::UpTo(80),
        Algorithm::RsaSha256 | Algorithm::RsaSha1 => Width::UpTo(SIGNATURE_BYTES_MAX),
    }
}

impl Key {
    /// Prepares a key of these bytes; the error is the rest of a sentence that begins with the
    /// secret.
    pub(crate) fn new(algorithm: Algorithm, secret: &[u8]) -> Result<Self, String> {
        if secret.is_empty() {
            return Err("is empty: an empty secret would accept anybody".into());
        }
        Ok(match algorithm {
            Algorithm::HmacSha1 => Self::HmacSha1(Box::new(keyed(secret)?)),
            Algorithm::HmacSha256 => Self::HmacSha256(Box::new(keyed(secret)?)),
            Algorithm::HmacSha384 => Self::HmacSha384(Box::new(keyed(secret)?)),
            Algorithm::HmacSha512 => Self::HmacSha512(Box::new(keyed(secret)?)),
            Algorithm::Sha1 => Self::Sha1(secret.to_vec().into()),
            Algorithm::Sha256 => Self::Sha256(secret.to_vec().into()),
            Algorithm::Keccak256 => Self::Keccak256(secret.to_vec().into()),
            Algorithm::Token => Self::Token(Sha256::digest(secret).into()),
            Algorithm::Ed25519 => {
                let bytes =
                    public_half(secret).ok_or("is not an Ed25519 public key of 32 bytes")?;
                let key = VerifyingKey::from_bytes(bytes)
                    .map_err(|_| "is not an Ed25519 public key".to_owned())?;
                if key.is_weak() {
                    return Err("is a weak Ed25519 public key: it would accept anybody".into());
                }
                Self::Ed25519(Box::new(key))
            }
            Algorithm::RsaSha1 => {
                return Err(
                    "is for keys that are fetched (keys): SHA-1 is taken from nobody else".into(),
                );
            }
            Algorithm::EcdsaP256Sha256 | Algorithm::RsaSha256 => {
                Self::Asymmetric(PublicKey::new(algorithm, secret)?)
            }
        })
    }

    /// The digest of this content. None for a key that can only check, or that is itself what is
    /// sent.
    pub(crate) fn digest(&self, content: &[Chunk<'_>]) -> Option<Vec<u8>> {
        Some(match self {
            Self::HmacSha1(state) => mac(&**state, content).to_vec(),
            Self::HmacSha256(state) => mac(&**state, content).to_vec(),
            Self::HmacSha384(state) => mac(&**state, content).to_vec(),
            Self::HmacSha512(state) => mac(&**state, content).to_vec(),
            Self::Sha1(secret) => hash::<Sha1>(secret.expose_secret(), content).to_vec(),
            Self::Sha256(secret) => hash::<Sha256>(secret.expose_secret(), content).to_vec(),
            Self::Keccak256(secret) => hash::<Keccak256>(secret.expose_secret(), content).to_vec(),
            Self::Token(_) | Self::Ed25519(_) | Self::Asymmetric(_) => return None,
        })
    }

    /// Whether this is the hash of the token.
    pub(crate) fn is_token(&self, hash: &[u8]) -> Choice {
        if let Self::Token(known) = self {
            known.ct_eq(hash)
        } else {
            Choice::from(0)
        }
    }

    /// Whether any candidate (all of the algorithm's width) is right for this content.
    pub(crate) fn matches(&self, content: &[Chunk<'_>], candidates: &Candidates) -> Choice {
        match self {
            Self::HmacSha1(state) => any_equal(&mac(&**state, content), candidates),
            Self::HmacSha256(state) => any_equal(&mac(&**state, content), candidates),
            Self::HmacSha384(state) => any_equal(&mac(&**state, content), candidates),
            Self::HmacSha512(state) => any_equal(&mac(&**state, content), candidates),
            Self::Sha1(secret) => {
                any_equal(&hash::<Sha1>(secret.expose_secret(), content), candidates)
            }
            Self::Sha256(secret) => {
                any_equal(&hash::<Sha256>(secret.expose_secret(), content), candidates)
            }
            Self::Keccak256(secret) => any_equal(
                &hash::<Keccak256>(secret.expose_secret(), content),
                candidates,
            ),
            Self::Token(hash) => any_equal(hash, candidates),
            Self::Ed25519(key) => {
                // The key is public, so there is nothing that the time could tell.
                let message = joined(content, b"");
                let mut signatures = candidates.each().filter_map(|bytes| bytes.try_into().ok());
                let right = signatures.any(|bytes| {
                    key.verify_strict(&message, &Signature::from_bytes(bytes))
                        .is_ok()
                });
                Choice::from(u8::from(right))
            }
            Self::Asymmetric(key) => {
                let message = joined(content, b"");
                Choice::from(u8::from(
                    candidates
                        .each()
                        .any(|signature| key.is_right(&message, signature)),
                ))
            }
        }
    }
}

/// The digest that the provider would send. For Ed25519 the secret is the private seed, with or
/// without the public key behind it. For other public-key algorithms it is the private key. `fixed`
/// writes an ECDSA signature as JWS has it.
pub(crate) fn sign(
    algorithm: Algorithm,
    secret: &[u8],
    content: &[Chunk<'_>],
    fixed: bool,
) -> Result<Vec<u8>, String> {
    if matches!(algorithm, Algorithm::EcdsaP256Sha256 | Algorithm::RsaSha256) {
        return asymmetric::sign(algorithm, secret, &joined(content, b""), fixed);
    }
    if algorithm == Algorithm::Ed25519 {
        let seed = secret
            .first_chunk::<32>()
            .ok_or("is not an Ed25519 private seed of 32 bytes")?;
        return Ok(SigningKey::from_bytes(seed)
            .sign(&joined(content, b""))
            .to_bytes()
            .to_vec());
    }
    Ok(Key::new(algorithm, secret)?
        .digest(content)
        .unwrap_or_else(|| secret.to_vec()))
}

/// What precedes an Ed25519 public key in its standard wrapping (RFC 8410, section 4).
const SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// The public key from one of three forms: alone, wrapped, or in a key pair (64 bytes, the private
/// seed first) whose halves belong together.
fn public_half(secret: &[u8]) -> Option<&[u8; 32]> {
    let secret = secret.strip_prefix(&SPKI).unwrap_or(secret);
    match secret.split_first_chunk::<32>()? {
        (public, []) => Some(public),
        (seed, public) => {
            let public = public.try_into().ok()?;
            (SigningKey::from_bytes(seed).verifying_key().as_bytes() == public).then_some(public)
        }
    }
}

/// A key pair for Ed25519, from a private seed.
pub(crate) fn key_pair(seed: [u8; 32]) -> [u8; 64] {
    SigningKey::from_bytes(&seed).to_keypair_bytes()
}

fn keyed<M: hmac::KeyInit>(secret: &[u8]) -> Result<M, String> {
    M::new_from_slice(secret).map_err(|_| "has a length that the algorithm does not take".into())
}

fn mac<M: Mac + Clone>(state: &M, content: &[Chunk<'_>]) -> hmac::digest::Output<M> {
    let mut state = state.clone();
    for chunk in content {
        if let Chunk::Bytes(bytes) = chunk {
            state.update(bytes);
        }
    }
    state.finalize().into_bytes()
}

fn hash<D: Digest>(secret: &[u8], content: &[Chunk<'_>]) -> hmac::digest::Output<D> {
    let mut hash = D::new();
    for chunk in content {
        match chunk {
            Chunk::Bytes(bytes) => hash.update(bytes),
            Chunk::Secret => hash.update(secret),
        }
    }
    hash.finalize()
}

fn any_equal(expected: &[u8], candidates: &Candidates) -> Choice {
    candidates.each().fold(Choice::from(0), |found, candidate| {
        found | expected.ct_eq(candidate)
    })
}

/// The content as one message, with these bytes in the secret's place.
pub(crate) fn joined(content: &[Chunk<'_>], secret: &[u8]) -> Vec<u8> {
    content
        .iter()
        .flat_map(|chunk| {
            if let Chunk::Bytes(bytes) = chunk {
                &bytes[..]
            } else {
                secret
            }
        })
        .copied()
        .collect()
}

/// A step from the secret as the provider's page shows it to the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Removes a prefix if it is there; `*` stands for any run.
    Strip(String),
    Base64,
    Hex,
    Text,
    /// Unicode's compatibility decomposition.
    Nfkd,
    Credentials,
    /// Keeps what is behind the last of these, or everything if there is none.
    After(String),
    Sha1,
}

impl Step {
    /// Reads a step as it is written in a scheme.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("strip", prefix)) if !prefix.is_empty() && prefix != "*" => {
                Ok(Self::Strip(prefix.into()))
            }
            None if text == "base64" => Ok(Self::Base64),
            None if text == "hex" => Ok(Self::Hex),
            None if text == "text" => Ok(Self::Text),
            None if text == "nfkd" => Ok(Self::Nfkd),
            None if text == "credentials" => Ok(Self::Credentials),
            None if text == "sha1" => Ok(Self::Sha1),
            Some(("after", separator)) if !separator.is_empty() => {
                Ok(Self::After(separator.into()))
            }
            _ => Err(format!(
                "{text:?} is no step: write \"strip:PREFIX\", \"base64\", \"hex\", \"text\", \"nfkd\", \"credentials\", \"after:SEPARATOR\" or \"sha1\""
            )),
        }
    }

    fn apply(&self, secret: Vec<u8>) -> Result<Vec<u8>, String> {
        match self {
            Self::Strip(prefix) => {
                Ok(without_prefix(&secret, prefix).map_or(secret.clone(), <[u8]>::to_vec))
            }
            Self::Base64 => {
                let text = without_armour(secret.trim_ascii());
                let text = &text[..];
                PASTED
                    .decode(text)
                    .or_else(|_| PASTED_URL.decode(text))
                    .map_err(|_| "is not base64".into())
            }
            Self::Hex => hex::decode(secret.trim_ascii()).map_err(|_| "is not hex".into()),
            Self::Text => Ok(secret),
            Self::After(separator) => {
                let start = memchr::memmem::rfind(&secret, separator.as_bytes())
                    .map_or(0, |at| at + separator.len());
                Ok(secret[start..].to_vec())
            }
            Self::Sha1 => Ok(Sha1::digest(&secret).to_vec()),
            Self::Credentials => {
                let text = std::str::from_utf8(&secret).map_err(|_| "is no text")?;
                Ok(credentials(text)
                    .ok_or("says Basic and is not base64")?
                    .into_owned())
            }
            Self::Nfkd => Ok(std::str::from_utf8(&secret)
                .map_err(|_| "is no text")?
                .nfkd()
                .collect::<String>()
                .into_bytes()),
        }
    }
}

/// PEM is base64 between two lines, in lines (RFC 7468).
fn without_armour(secret: &[u8]) -> Cow<'_, [u8]> {
    if !secret.starts_with(b"-----BEGIN ") {
        return Cow::Borrowed(secret);
    }
    let lines = secret
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.starts_with(b"-----"));
    Cow::Owned(lines.flatten().copied().collect())
}

fn without_prefix<'s>(secret: &'s [u8], prefix: &str) -> Option<&'s [u8]> {
    let mut parts = prefix.split('*');
    let mut rest = secret.strip_prefix(parts.next().unwrap_or_default().as_bytes())?;
    for part in parts {
        rest = &rest[memchr::memmem::find(rest, part.as_bytes())? + part.len()..];
    }
    Some(rest)
}

/// The part of a secret that precedes the key.
pub(crate) fn key_name<'s>(steps: &[Step], secret: &'s str) -> Option<&'s str> {
    let separator = steps.iter().find_map(|step| {
        if let Step::After(separator) = step {
            Some(separator)
        } else {
            None
        }
    })?;
    secret.rsplit_once(separator.as_str()).map(|(name, _)| name)
}

/// The key's bytes, from a secret as it is written in the settings.
pub(crate) fn key_bytes(steps: &[Step], secret: &str) -> Result<Vec<u8>, String> {
    steps
        .iter()
        .try_fold(secret.as_bytes().to_vec(), |secret, step| {
            step.apply(secret)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_lead_from_what_is_shown_to_the_key() {
        for (steps, secret, expected) in [
            (
                &["strip:whsec_", "base64"][..],
                "whsec_AAEC",
                Ok(vec![0, 1, 2]),
            ),
            (&["strip:whsec_", "base64"], "AAEC", Ok(vec![0, 1, 2])),
            (
                &["strip:whsec_", "base64"],
                "whsec_A-_A",
                Ok(vec![3, 239, 192]),
            ),
            (
                &["strip:signkey-*-"],
                "signkey-prod-12ab",
                Ok(b"12ab".to_vec()),
            ),
            (&["hex"], "00fF", Ok(vec![0, 255])),
            (
                &["base64"],
                "-----BEGIN PUBLIC KEY-----\r\nAA\nEC\n-----END PUBLIC KEY-----\n",
                Ok(vec![0, 1, 2]),
            ),
            (&["credentials"], "Bearer x y", Ok(b"x y".to_vec())),
            (&["credentials"], "basic dTpw", Ok(b"u:p".to_vec())),
            (&["credentials"], "u:p", Ok(b"u:p".to_vec())),
            (
                &["credentials"],
                "Basic !",
                Err("says Basic and is not base64".into()),
            ),
            (&["nfkd"], "ﬁ é", Ok("fi e\u{301}".into())),
            (&[], "whsec_x", Ok(b"whsec_x".to_vec())),
            (&["hex"], "0g", Err("is not hex".into())),
            (&["base64"], "!", Err("is not base64".into())),
        ] {
            let steps: Vec<Step> = steps
                .iter()
                .map(|step| Step::parse(step).unwrap())
                .collect();
            assert_eq!(key_bytes(&steps, secret), expected, "{secret}");
        }
        assert!(Step::parse("strip:").is_err() && Step::parse("rot13").is_err());
    }

    #[test]
    fn an_empty_or_a_weak_key_is_refused() {
        assert!(Key::new(Algorithm::HmacSha256, b"").is_err());
        assert!(Key::new(Algorithm::Token, b"").is_err());
        assert!(Key::new(Algorithm::Ed25519, &[0; 32]).is_err());
        assert!(Key::new(Algorithm::Ed25519, b"short").is_err());
        assert!(Key::new(Algorithm::Ed25519, &key_pair([7; 32])).is_ok());
        let torn = [
            key_pair([7; 32])[..32].to_vec(),
            key_pair([8; 32])[32..].to_vec(),
        ]
        .concat();
        assert!(Key::new(Algorithm::Ed25519, &torn).is_err());
    }
}
