//! Keys that the provider publishes: what is asked for, from where, and what is then believed.

mod sns;
mod tokens;

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use ed25519_dalek::{Signer as _, SigningKey};
use ring::signature::RsaKeyPair;
use serde_json::{Value, json};

use super::*;
use crate::{
    KeySet, Need,
    keys::{
        asymmetric,
        key::{Step, key_bytes},
    },
    spec::{Algorithm, KeyFormat},
};

const RSA_1: &str = include_str!("../../../../../tests/keys/rsa-1.pem");
const RSA_2: &str = include_str!("../../../../../tests/keys/rsa-2.pem");
const CERTIFICATE_1: &str = include_str!("../../../../../tests/keys/rsa-1-certificate.pem");
const TOPIC: &str = "arn:aws:sns:us-west-2:123456789012:MyTopic";

fn der(pem: &str) -> Vec<u8> {
    key_bytes(&[Step::Base64], pem).unwrap()
}

fn signed(pem: &str, message: &str) -> Vec<u8> {
    asymmetric::sign(Algorithm::RsaSha256, &der(pem), message.as_bytes(), false).unwrap()
}

fn jwk(id: &str, pem: &str) -> Value {
    let key = RsaKeyPair::from_pkcs8(&der(pem)).unwrap();
    let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    // Of its DER (RFC 8017, appendix A.1.1): a key of 2048 bits.
    let modulus = key.public().as_ref()[9..265].to_vec();
    json!({"kty": "RSA", "alg": "RS256", "use": "sig", "kid": id, "n": text(&modulus), "e": text(&[1, 0, 1])})
}

fn token(header: &Value, claims: &Value, sign: impl Fn(&str) -> Vec<u8>) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(sign(&signed)))
}

/// A verifier of a catalog of its own, so that what one test fetched no other knows.
fn fresh(provider: &str, secret: &str) -> (Catalog, Verifier) {
    let catalog = catalog();
    let verifier = verifier_in(&catalog, &source(provider), &[secret]);
    (catalog, verifier)
}

/// The key that the check lacks.
fn lacks(verifier: &Verifier, sent: &Sent) -> Need {
    *sent
        .check(verifier, NOW * 1000)
        .err()
        .and_then(|rejection| rejection.needs)
        .expect("something to fetch")
}

fn give(verifier: &Verifier, need: &Need, text: &str) {
    verifier.known_keys().put(
        need,
        KeySet::read(need.format, text.as_bytes()).unwrap(),
        NOW * 1000,
    );
}

fn reason(checked: &Result<VerifiedRequest, Rejection>) -> &'static str {
    checked
        .as_ref()
        .map_or_else(|rejection| rejection.reason.code(), |_| "accepted")
}

#[test]
fn paypal_signs_its_headers_the_webhook_and_a_sum_of_the_body() {
    let (_catalog, verifier) = fresh("paypal", "WH-ID-1");
    let body = r#"{"id":"WH-1","event_type":"PAYMENT.CAPTURE.COMPLETED"}"#;
    let sent = |webhook: &str, url: &str| {
        let signature = signed(
            RSA_1,
            &format!(
                "t-1|2027-01-15T08:00:00Z|{webhook}|{}",
                crc32fast::hash(body.as_bytes())
            ),
        );
        Sent::new(
            &[
                ("paypal-transmission-id", "t-1"),
                ("paypal-transmission-time", "2027-01-15T08:00:00Z"),
                ("paypal-auth-algo", "SHA256withRSA"),
                ("paypal-cert-url", url),
                (
                    "paypal-transmission-sig",
                    &BASE64_STANDARD.encode(signature),
                ),
            ],
            body,
        )
    };
    let url = "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-1";
    give(
        &verifier,
        &lacks(&verifier, &sent("WH-ID-1", url)),
        CERTIFICATE_1,
    );
    let verified = sent("WH-ID-1", url).check(&verifier, NOW * 1000).unwrap();
    assert_eq!(
        (
            verified.event_key().unwrap_or_default(),
            verified.event_type()
        ),
        ("WH-1", Some("PAYMENT.CAPTURE.COMPLETED"))
    );
    assert!(
        !verified.key_is_signed(),
        "a sum is no signature of the body"
    );
    assert_eq!(
        reason(&sent("WH-ID-2", url).check(&verifier, NOW * 1000)),
        "no_match",
        "another webhook's"
    );
    assert_eq!(
        reason(&sent("WH-ID-1", url).body("{}").check(&verifier, NOW * 1000)),
        "no_match"
    );
    assert_eq!(
        reason(
            &sent("WH-ID-1", url)
                .set("paypal-auth-algo", |_| "SHA1withRSA".into())
                .check(&verifier, NOW * 1000)
        ),
        "no_match"
    );
    for url in [
        "https://api.paypal.com.evil.example/v1/notifications/certs/1",
        "https://api.paypal.com/v1/other/1",
    ] {
        assert!(
            sent("WH-ID-1", url)
                .check(&verifier, NOW * 1000)
                .err()
                .unwrap()
                .needs
                .is_none(),
            "{url}"
        );
    }
}

#[test]
fn fal_is_believed_for_this_user_with_any_of_its_keys() {
    let (_catalog, verifier) = fresh("fal-ai", "user-1");
    let key = SigningKey::from_bytes(&[7; 32]);
    let body = r#"{"request_id":"r1","status":"OK"}"#;
    let digest = hex::encode(crate::digest::BodyDigest::of(body.as_bytes()).0);
    let sent = |user: &str, key: &SigningKey| {
        let signature = hex::encode(
            key.sign(format!("r1\n{user}\n{NOW}\n{digest}").as_bytes())
                .to_bytes(),
        );
        Sent::new(
            &[
                ("x-fal-webhook-request-id", "r1"),
                ("x-fal-webhook-user-id", user),
                ("x-fal-webhook-timestamp", &NOW.to_string()),
                ("x-fal-webhook-signature", &signature),
            ],
            body,
        )
    };
    let public = |key: &SigningKey| json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64_URL_SAFE_NO_PAD.encode(key.verifying_key())});
    let other = SigningKey::from_bytes(&[8; 32]);
    give(
        &verifier,
        &lacks(&verifier, &sent("user-1", &key)),
        &json!({"keys": [public(&other), public(&key)]}).to_string(),
    );
    assert_eq!(
        sent("user-1", &key)
            .check(&verifier, NOW * 1000)
            .unwrap()
            .event_key()
            .unwrap_or_default(),
        format!(
            "r1.OK.{}",
            hex::encode(crate::digest::BodyDigest::of(&sent("user-1", &key).body).0)
        )
    );
    let others = sent("user-2", &key).check(&verifier, NOW * 1000);
    assert_eq!(
        (reason(&others), others.err().unwrap().needs.is_none()),
        ("no_match", true)
    );
    assert_eq!(
        reason(&sent("user-1", &SigningKey::from_bytes(&[9; 32])).check(&verifier, NOW * 1000)),
        "no_match"
    );
    assert_eq!(
        reason(&sent("user-1", &key).check(&verifier, (NOW + 301) * 1000)),
        "timestamp_too_old"
    );
}

#[test]
fn what_is_no_key_is_an_error_and_never_a_panic() {
    for (format, text) in [
        (KeyFormat::X509, ""),
        (
            KeyFormat::X509,
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ),
        (KeyFormat::X509, RSA_1),
        (KeyFormat::Jwks, ""),
        (KeyFormat::Jwks, "{}"),
        (KeyFormat::Jwks, r#"{"keys":[]}"#),
        (
            KeyFormat::Jwks,
            r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}"#,
        ),
        (
            KeyFormat::Jwks,
            r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#,
        ),
        (
            KeyFormat::Jwks,
            r#"{"keys":[{"kty":"RSA","n":"","e":"AQAB"}]}"#,
        ),
    ] {
        assert!(KeySet::read(format, text.as_bytes()).is_err(), "{text}");
    }
    let many = json!({"keys": vec![jwk("a", RSA_1); 65]}).to_string();
    assert!(KeySet::read(KeyFormat::Jwks, many.as_bytes()).is_err());
}

#[test]
fn a_scheme_whose_keys_anybody_could_choose_is_refused() {
    let errors = |keys: &str, more: &str| {
        let text = format!(
            "algorithm = 'rsa-sha256'\n{more}\nsignature = {{ from = 'header:x' }}\nkeys = {{ format = 'x509', {keys} }}"
        );
        let spec = toml::from_str(&text).unwrap();
        let errors = Catalog::new(&std::collections::BTreeMap::from([(
            "own".to_owned(),
            spec,
        )]))
        .err()
        .unwrap_or_default();
        errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    for (keys, more, expected) in [
        (
            "from = 'header:cert', expect = 'body:a'",
            "",
            "providers.own.keys.hosts: is missing",
        ),
        (
            "from = 'header:cert', hosts = ['*.com'], expect = 'body:a'",
            "",
            "providers.own.keys.hosts[0]: must be",
        ),
        (
            "from = 'header:cert', hosts = ['keys.{region}.com'], expect = 'body:a'",
            "",
            "providers.own.keys.hosts[0]: must be",
        ),
        (
            "from = 'header:cert', hosts = ['example'], expect = 'body:a'",
            "",
            "providers.own.keys.hosts[0]: must be",
        ),
        (
            "from = 'http://x.example/', expect = 'body:a'",
            "",
            "providers.own.keys.from: must start with https",
        ),
        (
            "from = 'nowhere', hosts = ['x.example'], expect = 'body:a'",
            "",
            "providers.own.keys.from: \"nowhere\" names no place",
        ),
        (
            "from = 'https://x.example/'",
            "",
            "providers.own.keys.expect: is missing",
        ),
        (
            "from = 'https://x.example/'",
            "content = '{secret}{body}'",
            "",
        ),
        ("from = 'https://x.example/', expect = 'body:a'", "", ""),
    ] {
        let found = errors(keys, more);
        assert!(
            found.starts_with(expected) && (expected.is_empty() == found.is_empty()),
            "{keys}: {found}"
        );
    }
    let secret = verifier(&source("aws-sns"), &[TOPIC]);
    assert_eq!(secret.scheme().spec.algorithm.as_slice().len(), 2);
    let missing = Verifier::new(&catalog(), &source("aws-sns"), &[])
        .err()
        .unwrap_or_default();
    assert_eq!(
        missing
            .iter()
            .map(|error| error.key.as_str())
            .collect::<Vec<_>>(),
        ["secrets"],
        "without a topic anybody's would do"
    );
    assert_eq!(Reason::Unsupported.code(), "unsupported");
}
