//! Tokens, canonical requests, public keys and signatures in the body: what is accepted, and the
//! attacks that must not be.

mod fields;
mod tokens;

use base64::{
    Engine as _, engine::general_purpose::STANDARD as BASE64,
    engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::{
    keys::{
        asymmetric,
        key::{self, Step},
    },
    locate::jws,
    spec::Algorithm,
};

fn built_in(provider: &str, secrets: &[&str]) -> Verifier {
    verifier(&source(provider), secrets)
}

fn hs256(key: &[u8], text: &str) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key)
        .unwrap()
        .chain_update(text)
        .finalize()
        .into_bytes()
        .to_vec()
}

fn sha1(key: &[u8], text: &str) -> Vec<u8> {
    Hmac::<Sha1>::new_from_slice(key)
        .unwrap()
        .chain_update(text)
        .finalize()
        .into_bytes()
        .to_vec()
}

/// A token with these claims, signed with HMAC whatever its header says.
fn token(header: Value, claims: &Value, key: &[u8]) -> String {
    let signed = format!(
        "{}.{}",
        BASE64_URL.encode(header.to_string()),
        BASE64_URL.encode(claims.to_string())
    );
    let signature = BASE64_URL.encode(hs256(key, &signed));
    format!("{signed}.{signature}")
}

/// The public half of an RSA key of 2048 bits, as its owner publishes it (SubjectPublicKeyInfo).
fn published(private: &str) -> String {
    let key =
        ring::signature::RsaKeyPair::from_pkcs8(&key::key_bytes(&[Step::Base64], private).unwrap())
            .unwrap();
    let start = hex::decode("30820122300d06092a864886f70d01010105000382010f00").unwrap();
    let info = [&start, ring::signature::KeyPair::public_key(&key).as_ref()].concat();
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        BASE64.encode(info)
    )
}

#[test]
fn a_public_key_is_never_a_secret() {
    let body = r#"{"event":{"id":"1","type":"user.create"}}"#;
    let claims = json!({ "request_body_sha256": BASE64.encode(Sha256::digest(body)) });
    let reason = |verifier: &Verifier, token: &str| {
        Sent::new(&[("x-fusionauth-signature-jwt", token)], body).reason(verifier)
    };
    let private = include_str!("../../../../../tests/keys/rsa-1.pem");
    let public = published(private);
    let own = built_in("fusionauth", &["secret", &public]);
    let signed = jws::unsigned(Algorithm::RsaSha256, claims.as_object().unwrap());
    let der = key::key_bytes(&[Step::Base64], private).unwrap();
    let signature = asymmetric::sign(Algorithm::RsaSha256, &der, signed.as_bytes(), true).unwrap();
    assert_eq!(
        reason(&own, &format!("{signed}.{}", BASE64_URL.encode(signature))),
        "accepted",
        "the key's form tells its kind"
    );
    assert_eq!(
        reason(&own, &token(json!({ "alg": "HS256" }), &claims, b"secret")),
        "accepted",
        "beside a secret"
    );
    for key in [
        public.as_bytes(),
        public.trim().as_bytes(),
        &key::key_bytes(&[Step::Base64], &public).unwrap(),
    ] {
        assert_eq!(
            reason(&own, &token(json!({ "alg": "HS256" }), &claims, key)),
            "no_match"
        );
    }
    for provider in ["github", "netlify", "hubspot-v1", "gitlab"] {
        let errors = Verifier::new(&catalog(), &source(provider), &[public.as_str().into()])
            .err()
            .unwrap();
        assert!(
            errors[0]
                .to_string()
                .starts_with("secrets[0]: is a public key"),
            "{provider}: {errors:?}"
        );
    }
}

#[test]
fn public_keys_come_in_their_usual_forms() {
    let sendgrid = catalog();
    let sendgrid = sendgrid.get("sendgrid").unwrap();
    let secret = generate_secret(sendgrid, &mut rand::rng()).unwrap();
    let verifier = built_in("sendgrid", &[secret.expose_secret()]);
    let sent = Sent::signed(
        &verifier,
        &secret,
        "open",
        NOW,
        "[{\"event\":\"open\",\"sg_event_id\":\"1\"}]\r\n",
    );
    assert_eq!(sent.reason(&verifier), "accepted");
    assert_eq!(
        sent.clone()
            .body("[{\"event\":\"open\",\"sg_event_id\":\"1\"}]")
            .reason(&verifier),
        "no_match",
        "without its CR LF"
    );
    assert_eq!(
        sent.clone()
            .set("x-twilio-email-event-webhook-timestamp", |_| (NOW + 1)
                .to_string())
            .reason(&verifier),
        "no_match"
    );
    for (algorithm, key) in [
        (Algorithm::EcdsaP256Sha256, &[0_u8; 91][..]),
        (Algorithm::RsaSha256, b"x"),
        (Algorithm::RsaSha256, &[4; 300]),
    ] {
        assert!(asymmetric::PublicKey::new(algorithm, key).is_err());
    }
    let rsa = BASE64.decode(
        include_str!("../../../../../tests/keys/rsa-1.pem")
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect::<String>(),
    );
    assert!(
        asymmetric::PublicKey::new(Algorithm::EcdsaP256Sha256, &rsa.unwrap()).is_err(),
        "a key of another kind"
    );
}
