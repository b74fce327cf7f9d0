//! Tests of schemes as a whole, and what they share: a request that can be spoilt, and verifiers.

mod all;
mod codes;
mod handshakes;
mod identity;
mod items;
mod keys;
mod traps;
mod verify;

use std::collections::BTreeMap;

use bytes::Bytes;
use secrecy::SecretString;
use serde_json::Value;

use crate::{
    Catalog, Draft, Reason, Rejection, Request, Scheme, VerifiedRequest, Verifier, generate_secret,
    sign, spec::SourceSpec,
};

pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const URL: &str = "https://hooks.example.com/hooks/x";

pub(crate) fn catalog() -> Catalog {
    Catalog::new(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// Two fresh secrets; for RSA two keys of the tests.
pub(crate) fn two_secrets(scheme: &Scheme, rng: &mut impl rand::Rng) -> [SecretString; 2] {
    let fixed = [
        include_str!("../../../../tests/keys/rsa-1.pem"),
        include_str!("../../../../tests/keys/rsa-2.pem"),
    ];
    fixed.map(|key| generate_secret(scheme, rng).unwrap_or_else(|_| key.into()))
}

/// A catalog with this scheme in it, as `own`.
pub(crate) fn own(toml: &str) -> Catalog {
    let spec = toml::from_str(toml).unwrap_or_else(|error| panic!("{error}\n{toml}"));
    Catalog::new(&BTreeMap::from([("own".to_owned(), spec)]))
        .unwrap_or_else(|errors| panic!("{errors:?}\n{toml}"))
}

pub(crate) fn source(provider: &str) -> SourceSpec {
    SourceSpec {
        provider: provider.into(),
        ..SourceSpec::default()
    }
}

pub(crate) fn with_scheme(provider: &str, scheme: Value) -> SourceSpec {
    SourceSpec {
        scheme: scheme.as_object().cloned(),
        ..source(provider)
    }
}

pub(crate) fn verifier(source: &SourceSpec, secrets: &[&str]) -> Verifier {
    verifier_in(&catalog(), source, secrets)
}

pub(crate) fn verifier_in(catalog: &Catalog, source: &SourceSpec, secrets: &[&str]) -> Verifier {
    let secrets: Vec<SecretString> = secrets.iter().map(|secret| (*secret).into()).collect();
    Verifier::new(catalog, source, &secrets).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// A request as it would come, open to be spoilt.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) method: &'static str,
    pub(crate) url: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Sent {
    pub(crate) fn new(headers: &[(&str, &str)], body: &str) -> Self {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        Self {
            method: "POST",
            url: None,
            headers,
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    pub(crate) fn get(url: &str) -> Self {
        Self {
            method: "GET",
            url: Some(url.into()),
            ..Self::new(&[], "")
        }
    }

    pub(crate) fn signed(
        verifier: &Verifier,
        secret: &SecretString,
        event_type: &str,
        at: i64,
        body: &str,
    ) -> Self {
        Self::signed_bytes(verifier, secret, event_type, at, body.as_bytes())
    }

    pub(crate) fn signed_bytes(
        verifier: &Verifier,
        secret: &SecretString,
        event_type: &str,
        at: i64,
        body: &[u8],
    ) -> Self {
        let draft = Draft {
            id: "id_1",
            headers: &[],
            event_type: Some(event_type),
            unix_seconds: at,
            body,
            url: Some(URL),
            method: "POST",
        };
        let signed = sign(verifier.scheme(), secret, &draft).unwrap();
        Self {
            method: "POST",
            url: signed.url,
            headers: signed.headers,
            body: signed.body.into(),
        }
    }

    pub(crate) fn set(mut self, name: &str, change: impl Fn(&str) -> String) -> Self {
        let (_, value) = self
            .headers
            .iter_mut()
            .find(|(known, _)| known == name)
            .unwrap();
        *value = change(value);
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    pub(crate) fn plus(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        self.body = Bytes::copy_from_slice(body.as_bytes());
        self
    }

    pub(crate) fn url(mut self, url: &str) -> Self {
        self.url = Some(url.into());
        self
    }

    pub(crate) fn verify_at_ms(
        &self,
        verifier: &Verifier,
        now_ms: i64,
    ) -> Result<VerifiedRequest, Reason> {
        self.check(verifier, now_ms)
            .map_err(|rejection| rejection.reason)
    }

    pub(crate) fn check(
        &self,
        verifier: &Verifier,
        now_ms: i64,
    ) -> Result<VerifiedRequest, Rejection> {
        self.with_request(|request| verifier.verify(request, now_ms))
    }

    pub(crate) fn with_request<T>(&self, look: impl FnOnce(&Request<'_>) -> T) -> T {
        let headers: Vec<(&str, &[u8])> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        look(&Request {
            method: self.method,
            url: self.url.as_deref(),
            query: None,
            headers: &headers,
            body: &self.body,
        })
    }

    pub(crate) fn verify(
        &self,
        verifier: &Verifier,
        now: i64,
    ) -> Result<VerifiedRequest, &'static str> {
        self.verify_at_ms(verifier, now * 1000)
            .map_err(Reason::code)
    }

    pub(crate) fn reason(&self, verifier: &Verifier) -> &'static str {
        self.verify(verifier, NOW).err().unwrap_or("accepted")
    }

    /// The answer to a handshake, as text.
    pub(crate) fn answer(&self, verifier: &Verifier) -> Option<String> {
        let verified = self
            .verify(verifier, NOW)
            .unwrap_or_else(|reason| panic!("{reason}"));
        verified
            .challenge()
            .map(|answer| String::from_utf8(answer.body.to_vec()).unwrap())
    }
}
