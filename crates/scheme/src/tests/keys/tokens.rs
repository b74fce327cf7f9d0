//! Tokens that name the key that signed them.

use super::*;

fn push(claims: &Value, key_id: &str, pem: &str) -> Sent {
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": key_id});
    let token = token(&header, claims, |message| signed(pem, message));
    Sent::new(
        &[("authorization", &format!("Bearer {token}"))],
        r#"{"message":{"data":"eA==","messageId":"m1"},"subscription":"s"}"#,
    )
    .url(URL)
}

#[test]
fn pubsub_pushes_are_googles_to_this_url_by_this_account() {
    let (_catalog, verifier) = fresh("google-pubsub", "push@project.iam.gserviceaccount.com");
    let claims = |name: &str, value: Value| {
        let mut claims = json!({"aud": URL, "azp": "1", "email": "push@project.iam.gserviceaccount.com", "email_verified": true,
                                "exp": NOW + 3600, "iat": NOW, "iss": "https://accounts.google.com", "sub": "1"});
        claims[name] = value;
        claims
    };
    let good = push(&claims("sub", "1".into()), "a", RSA_1);
    let need = lacks(&verifier, &good);
    assert_eq!(
        (need.url.as_str(), need.format),
        (
            "https://www.googleapis.com/oauth2/v3/certs",
            KeyFormat::Jwks
        )
    );
    give(
        &verifier,
        &need,
        &json!({"keys": [jwk("a", RSA_1), {"kty": "oct", "k": "x"}, {"kty": "EC"}, 7]}).to_string(),
    );
    let verified = good.check(&verifier, NOW * 1000).unwrap();
    assert_eq!(verified.event_key().unwrap_or_default(), "m1.s");
    for (name, value, expected) in [
        ("aud", json!("https://other.example/"), "no_match"),
        ("iss", json!("https://evil.example"), "no_match"),
        (
            "email",
            json!("other@project.iam.gserviceaccount.com"),
            "no_match",
        ),
        ("email_verified", json!(false), "no_match"),
        ("exp", json!(NOW - 60), "timestamp_too_old"),
        ("exp", Value::Null, "no_match"),
    ] {
        assert_eq!(
            reason(&push(&claims(name, value.clone()), "a", RSA_1).check(&verifier, NOW * 1000)),
            expected,
            "{name} {value}"
        );
    }
    assert_eq!(
        reason(&push(&claims("sub", "1".into()), "a", RSA_2).check(&verifier, NOW * 1000)),
        "no_match",
        "another key under this name"
    );
    let rotated = push(&claims("sub", "1".into()), "b", RSA_2);
    let need = lacks(&verifier, &rotated);
    assert!(
        need.is_refresh,
        "a name that is not in the set asks for the set again"
    );
    give(
        &verifier,
        &need,
        &json!({"keys": [jwk("a", RSA_1), jwk("b", RSA_2)]}).to_string(),
    );
    assert!(
        rotated.check(&verifier, NOW * 1000).is_ok() && good.check(&verifier, NOW * 1000).is_ok()
    );
    assert_eq!(
        reason(&good.check(&verifier, (NOW + 3599) * 1000)),
        "accepted"
    );
    assert!(
        good.check(&verifier, (NOW + 3600) * 1000)
            .err()
            .unwrap()
            .needs
            .is_some(),
        "a set counts for an hour"
    );
}

#[test]
fn plaid_is_asked_for_the_key_by_its_name() {
    let (_catalog, verifier) = fresh("plaid", "client-1:s3cret");
    let pair = asymmetric::generate(Algorithm::EcdsaP256Sha256).unwrap();
    let public = {
        use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
        EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            &pair,
            &ring::rand::SystemRandom::new(),
        )
        .unwrap()
        .public_key()
        .as_ref()
        .to_vec()
    };
    let body = "{\n  \"webhook_type\": \"ITEM\", \"webhook_code\": \"ERROR\"\n}";
    let sent = |iat: i64, body_of: &str| {
        let claims = json!({"iat": iat, "request_body_sha256": hex::encode(crate::digest::BodyDigest::of(body_of.as_bytes()).0)});
        let sign = |message: &str| {
            asymmetric::sign(Algorithm::EcdsaP256Sha256, &pair, message.as_bytes(), true).unwrap()
        };
        Sent::new(
            &[(
                "plaid-verification",
                &token(
                    &json!({"alg": "ES256", "kid": "k-1", "typ": "JWT"}),
                    &claims,
                    sign,
                ),
            )],
            body,
        )
    };
    let need = lacks(&verifier, &sent(NOW, body));
    assert_eq!(
        need.url,
        "https://production.plaid.com/webhook_verification_key/get"
    );
    let posted = need
        .post
        .clone()
        .map(|text| secrecy::ExposeSecret::expose_secret(&text).to_owned())
        .unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&posted).unwrap(),
        json!({"client_id": "client-1", "secret": "s3cret", "key_id": "k-1"})
    );
    assert!(!format!("{need:?}").contains("s3cret"));
    let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let key = json!({"key": {"alg": "ES256", "crv": "P-256", "kid": "k-1", "kty": "EC", "use": "sig", "x": text(&public[1..33]),
                             "y": text(&public[33..]), "created_at": 1, "expired_at": null}, "request_id": "x"});
    give(&verifier, &need, &key.to_string());
    let verified = sent(NOW, body).check(&verifier, NOW * 1000).unwrap();
    let digest = hex::encode(crate::digest::BodyDigest::of(body.as_bytes()).0);
    assert_eq!(
        (verified.event_type(), verified.event_key()),
        (Some("ITEM.ERROR"), Some(format!("{NOW}.{digest}").as_str()))
    );
    let later = sent(NOW + 1, body).check(&verifier, NOW * 1000).unwrap();
    assert_ne!(
        later.event_key(),
        verified.event_key(),
        "the same words at another time are another event"
    );
    assert_eq!(
        reason(&sent(NOW, "{}").check(&verifier, NOW * 1000)),
        "no_match",
        "another body"
    );
    assert_eq!(
        reason(&sent(NOW - 301, body).check(&verifier, NOW * 1000)),
        "timestamp_too_old"
    );
    let other = sent(NOW, body).set("plaid-verification", |token| {
        let header =
            BASE64_URL_SAFE_NO_PAD.encode(json!({"alg": "ES256", "kid": "k-2"}).to_string());
        format!("{header}{}", &token[token.find('.').unwrap()..])
    });
    assert_ne!(lacks(&verifier, &other).id, need.id);
}

#[test]
fn constant_contacts_detached_signatures_are_of_the_body_and_of_its_header() {
    let (_catalog, verifier) = fresh("constant-contact", "api-key-1");
    let sent = |pem: &str, body: &str, signed_body: &str, at: i64| {
        let header = BASE64_URL_SAFE_NO_PAD.encode(
            json!({"alg": "RS256", "b64": false, "crit": ["b64"], "kid": "c-1", "iat": at})
                .to_string(),
        );
        let signature =
            BASE64_URL_SAFE_NO_PAD.encode(signed(pem, &format!("{header}.{signed_body}")));
        Sent::new(
            &[("x-ctct-webhook-sig", &format!("{header}..{signature}"))],
            body,
        )
    };
    let body =
        r#"{"url":"https://api.example/1","api_key":"api-key-1","event_type":"tier.increase"}"#;
    let good = sent(RSA_1, body, body, NOW);
    let need = lacks(&verifier, &good);
    assert_eq!(
        need.url,
        "https://developer.constantcontact.com/.well-known/jwks.json"
    );
    give(
        &verifier,
        &need,
        &json!({"keys": [jwk("c-1", RSA_1)]}).to_string(),
    );
    let first = good.check(&verifier, NOW * 1000).unwrap();
    assert_eq!(first.event_type(), Some("tier.increase"));
    let later = sent(RSA_1, body, body, NOW + 1)
        .check(&verifier, NOW * 1000)
        .unwrap();
    assert_ne!(
        first.event_key(),
        later.event_key(),
        "the same words signed later are another event"
    );
    let refused = |sent: Sent| reason(&sent.check(&verifier, NOW * 1000));
    assert_eq!(
        refused(sent(
            RSA_1,
            &body.replace("increase", "decrease"),
            body,
            NOW
        )),
        "no_match",
        "another body"
    );
    assert_eq!(
        refused(sent(RSA_2, body, body, NOW)),
        "no_match",
        "another key"
    );
    let others = body.replace("api-key-1", "api-key-2");
    assert_eq!(
        refused(sent(RSA_1, &others, &others, NOW)),
        "no_match",
        "another partner's"
    );
}
