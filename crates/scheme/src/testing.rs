//! What the tests of this layer share: a request that can be spoilt, and verifiers.

use std::collections::BTreeMap;

use bytes::Bytes;
use secrecy::SecretString;
use serde_json::Value;

use super::{Catalog, Draft, Reason, Rejection, Request, Scheme, VerifiedRequest, Verifier, generate_secret, sign};
use crate::spec::SourceSpec;

pub const NOW: i64 = 1_800_000_000;
pub const URL: &str = "https://hooks.example.com/hooks/x";

pub fn catalog() -> Catalog {
    Catalog::new(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// Two fresh secrets; for RSA two keys of the tests.
pub fn two_secrets(scheme: &Scheme, rng: &mut impl rand::Rng) -> [SecretString; 2] {
    let fixed = [include_str!("../../../tests/keys/rsa-1.pem"), include_str!("../../../tests/keys/rsa-2.pem")];
    fixed.map(|key| generate_secret(scheme, rng).unwrap_or_else(|_| key.into()))
}

/// A catalog with this scheme in it, as `own`.
pub fn own(toml: &str) -> Catalog {
    let spec = toml::from_str(toml).unwrap_or_else(|error| panic!("{error}\n{toml}"));
    Catalog::new(&BTreeMap::from([("own".to_owned(), spec)])).unwrap_or_else(|errors| panic!("{errors:?}\n{toml}"))
}

pub fn source(provider: &str) -> SourceSpec {
    SourceSpec { provider: provider.into(), ..SourceSpec::default() }
}

pub fn with_scheme(provider: &str, scheme: Value) -> SourceSpec {
    SourceSpec { scheme: scheme.as_object().cloned(), ..source(provider) }
}

pub fn verifier(source: &SourceSpec, secrets: &[&str]) -> Verifier {
    verifier_in(&catalog(), source, secrets)
}

pub fn verifier_in(catalog: &Catalog, source: &SourceSpec, secrets: &[&str]) -> Verifier {
    let secrets: Vec<SecretString> = secrets.iter().map(|secret| (*secret).into()).collect();
    Verifier::new(catalog, source, &secrets).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// A request as it would come, open to be spoilt.
#[derive(Clone, Debug)]
pub struct Sent {
    pub method: &'static str,
    pub url: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Sent {
    pub fn new(headers: &[(&str, &str)], body: &str) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Self { method: "POST", url: None, headers, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    pub fn get(url: &str) -> Self {
        Self { method: "GET", url: Some(url.into()), ..Self::new(&[], "") }
    }

    pub fn signed(verifier: &Verifier, secret: &SecretString, event_type: &str, at: i64, body: &str) -> Self {
        Self::signed_bytes(verifier, secret, event_type, at, body.as_bytes())
    }

    pub fn signed_bytes(verifier: &Verifier, secret: &SecretString, event_type: &str, at: i64, body: &[u8]) -> Self {
        let draft =
            Draft { id: "id_1", headers: &[], event_type: Some(event_type), unix_seconds: at, body, url: Some(URL), method: "POST" };
        let signed = sign(verifier.scheme(), secret, &draft).unwrap();
        Self { method: "POST", url: signed.url, headers: signed.headers, body: signed.body.into() }
    }

    pub fn set(mut self, name: &str, change: impl Fn(&str) -> String) -> Self {
        let (_, value) = self.headers.iter_mut().find(|(known, _)| known == name).unwrap();
        *value = change(value);
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    pub fn plus(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn body(mut self, body: &str) -> Self {
        self.body = Bytes::copy_from_slice(body.as_bytes());
        self
    }

    pub fn url(mut self, url: &str) -> Self {
        self.url = Some(url.into());
        self
    }

    pub fn verify_at_ms(&self, verifier: &Verifier, now_ms: i64) -> Result<VerifiedRequest, Reason> {
        self.check(verifier, now_ms).map_err(|rejection| rejection.reason)
    }

    pub fn check(&self, verifier: &Verifier, now_ms: i64) -> Result<VerifiedRequest, Rejection> {
        self.with_request(|request| verifier.verify(request, now_ms))
    }

    pub fn with_request<T>(&self, look: impl FnOnce(&Request<'_>) -> T) -> T {
        let headers: Vec<(&str, &[u8])> = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        look(&Request { method: self.method, url: self.url.as_deref(), query: None, headers: &headers, body: &self.body })
    }

    pub fn verify(&self, verifier: &Verifier, now: i64) -> Result<VerifiedRequest, &'static str> {
        self.verify_at_ms(verifier, now * 1000).map_err(Reason::code)
    }

    pub fn reason(&self, verifier: &Verifier) -> &'static str {
        self.verify(verifier, NOW).err().unwrap_or("accepted")
    }

    /// The answer to a handshake, as text.
    pub fn answer(&self, verifier: &Verifier) -> Option<String> {
        let verified = self.verify(verifier, NOW).unwrap_or_else(|reason| panic!("{reason}"));
        verified.challenge().map(|answer| String::from_utf8(answer.body.to_vec()).unwrap())
    }
}
