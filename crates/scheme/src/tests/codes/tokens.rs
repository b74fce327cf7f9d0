//! Tokens that sign themselves, and what binds them to their request.

use super::*;

fn livekit_claims(body: &str) -> Value {
    json!({ "iss": "APIkey", "nbf": NOW - 5, "exp": NOW + 60, "sha256": BASE64.encode(Sha256::digest(body)) })
}

#[test]
fn a_token_binds_its_body_and_its_time() {
    let verifier = built_in("livekit", &["other", "secret"]);
    let body = r#"{"id":"EV_1","event":"room_started"}"#;
    let hs = || json!({ "alg": "HS256", "typ": "JWT" });
    let reason =
        |token: &str, body: &str| Sent::new(&[("authorization", token)], body).reason(&verifier);
    let good = token(hs(), &livekit_claims(body), b"secret");
    assert_eq!(reason(&good, body), "accepted");
    assert_eq!(reason(&format!("Bearer {good}"), body), "accepted");
    assert_eq!(reason(&good, &body.replace("EV_1", "EV_2")), "no_match");
    assert_eq!(
        reason(&token(hs(), &livekit_claims(body), b"stranger"), body),
        "no_match"
    );
    let with = |name: &str, value: Value| {
        let mut claims = livekit_claims(body);
        claims[name] = value;
        reason(&token(hs(), &claims, b"secret"), body)
    };
    assert_eq!(with("exp", json!(NOW - 10)), "timestamp_too_old");
    assert_eq!(with("exp", json!(NOW - 9)), "accepted");
    assert_eq!(with("nbf", json!(NOW + 11)), "timestamp_in_future");
    assert_eq!(with("exp", json!("soon")), "timestamp_malformed");
    assert_eq!(
        with("exp", Value::Null),
        "no_match",
        "a token without an end"
    );
    assert_eq!(
        with("sha256", Value::Null),
        "no_match",
        "a token that binds no body"
    );
    let doubled = Sent::new(&[("authorization", &good), ("authorization", &good)], body);
    assert_eq!(doubled.reason(&verifier), "malformed_request");
}

#[test]
fn a_token_chooses_no_algorithm() {
    let body = r#"{"event":{"id":"1","type":"user.create"}}"#;
    let claims = json!({ "request_body_sha256": BASE64.encode(Sha256::digest(body)) });
    let reason = |verifier: &Verifier, token: &str| {
        Sent::new(&[("x-fusionauth-signature-jwt", token)], body).reason(verifier)
    };
    let hmac = built_in("fusionauth", &["secret"]);
    let good = token(json!({ "alg": "HS256" }), &claims, b"secret");
    assert_eq!(reason(&hmac, &good), "accepted");
    for header in [
        json!({ "alg": "none" }),
        json!({ "alg": "NONE" }),
        json!({}),
        json!({ "alg": "PS256" }),
    ] {
        assert_eq!(
            reason(&hmac, &token(header.clone(), &claims, b"secret")),
            "malformed_signature",
            "{header}"
        );
    }
    for header in [
        json!({ "alg": "HS384" }),
        json!({ "alg": "RS256" }),
        json!({ "alg": "EdDSA" }),
    ] {
        assert_eq!(
            reason(&hmac, &token(header.clone(), &claims, b"secret")),
            "no_match",
            "{header}"
        );
    }
    let (signed, _) = good.rsplit_once('.').unwrap();
    assert_ne!(reason(&hmac, &format!("{signed}.")), "accepted");
    let none = format!(
        "{}.{}.",
        BASE64_URL.encode(r#"{"alg":"none"}"#),
        BASE64_URL.encode(claims.to_string())
    );
    assert_eq!(reason(&hmac, &none), "malformed_signature");

    // The attack: the public key, which everybody knows, is the secret of an HMAC.
    let private = include_str!("../../../../../tests/keys/rsa-1.pem");
    let rsa = SourceSpec {
        scheme: json!({ "algorithm": "rsa-sha256", "secret": ["base64"] })
            .as_object()
            .cloned(),
        ..source("fusionauth")
    };
    let rsa = verifier(&rsa, &[private]);
    let confused = token(json!({ "alg": "HS256" }), &claims, private.as_bytes());
    assert_eq!(reason(&rsa, &confused), "malformed_signature");
}

#[test]
fn tokens_with_public_keys_are_verified() {
    let keys = [
        (
            "rsa-sha256",
            include_str!("../../../../../tests/keys/rsa-1.pem").to_owned(),
        ),
        (
            "ecdsa-p256-sha256",
            BASE64.encode(asymmetric::generate(Algorithm::EcdsaP256Sha256).unwrap()),
        ),
        ("ed25519", BASE64.encode(key::key_pair([7; 32]))),
    ];
    for (algorithm, key) in keys {
        let source = with_scheme(
            "fusionauth",
            json!({ "algorithm": algorithm, "secret": ["base64"] }),
        );
        let verifier = verifier(&source, &[&key]);
        let sent = Sent::signed(
            &verifier,
            &key.as_str().into(),
            "user.create",
            NOW,
            r#"{"event":{"id":"1","type":"user.create"}}"#,
        );
        assert_eq!(sent.reason(&verifier), "accepted", "{algorithm}");
        assert_eq!(sent.body("{}").reason(&verifier), "no_match", "{algorithm}");
    }
}

#[test]
fn a_token_names_the_url() {
    let qstash = built_in("qstash", &["current", "next"]);
    let claims = |sub: &str| json!({ "iss": "Upstash", "sub": sub, "exp": NOW + 300, "nbf": NOW, "body": format!("{}=", BASE64_URL.encode(Sha256::digest("hi"))) });
    let sent = |sub: &str| {
        Sent::new(
            &[(
                "upstash-signature",
                &token(json!({ "alg": "HS256" }), &claims(sub), b"next"),
            )],
            "hi",
        )
    };
    assert_eq!(sent(URL).url(URL).reason(&qstash), "accepted");
    assert_eq!(
        sent(URL).reason(&qstash),
        "accepted",
        "the URL is not known here"
    );
    assert_eq!(
        sent("https://elsewhere.example/").url(URL).reason(&qstash),
        "no_match"
    );
    let bird = built_in("messagebird", &["key"]);
    let sent = Sent::signed(&bird, &"key".into(), "", NOW, "{}");
    assert_eq!(sent.reason(&bird), "accepted");
    assert_eq!(
        sent.clone().url("https://elsewhere.example/").reason(&bird),
        "no_match"
    );
    assert_eq!(
        Sent {
            url: None,
            ..sent.clone()
        }
        .reason(&bird),
        "unsupported"
    );
    let mut claims = json!({ "iss": "MessageBird", "nbf": NOW, "exp": NOW + 60, "jti": "j", "url_hash": hex::encode(Sha256::digest(URL)) });
    let bare = |claims: &Value| token(json!({ "alg": "HS256" }), claims, b"key");
    let empty =
        |claims: &Value| Sent::new(&[("messagebird-signature-jwt", &bare(claims))], "").url(URL);
    assert_eq!(
        empty(&claims).reason(&bird),
        "accepted",
        "an empty body has no hash"
    );
    assert_eq!(empty(&claims).body("{}").reason(&bird), "no_match");
    claims["payload_hash"] = hex::encode(Sha256::digest("{}")).into();
    assert_eq!(empty(&claims).reason(&bird), "no_match");
}
