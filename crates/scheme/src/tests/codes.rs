//! Tokens, canonical requests, public keys and signatures in the body: what is accepted, and the
//! attacks that must not be.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64, engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL};
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
    Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(text).finalize().into_bytes().to_vec()
}

fn sha1(key: &[u8], text: &str) -> Vec<u8> {
    Hmac::<Sha1>::new_from_slice(key).unwrap().chain_update(text).finalize().into_bytes().to_vec()
}

/// A token with these claims, signed with HMAC whatever its header says.
fn token(header: Value, claims: &Value, key: &[u8]) -> String {
    let signed = format!("{}.{}", BASE64_URL.encode(header.to_string()), BASE64_URL.encode(claims.to_string()));
    let signature = BASE64_URL.encode(hs256(key, &signed));
    format!("{signed}.{signature}")
}

fn livekit_claims(body: &str) -> Value {
    json!({ "iss": "APIkey", "nbf": NOW - 5, "exp": NOW + 60, "sha256": BASE64.encode(Sha256::digest(body)) })
}

#[test]
fn a_token_binds_its_body_and_its_time() {
    let verifier = built_in("livekit", &["other", "secret"]);
    let body = r#"{"id":"EV_1","event":"room_started"}"#;
    let hs = || json!({ "alg": "HS256", "typ": "JWT" });
    let reason = |token: &str, body: &str| Sent::new(&[("authorization", token)], body).reason(&verifier);
    let good = token(hs(), &livekit_claims(body), b"secret");
    assert_eq!(reason(&good, body), "accepted");
    assert_eq!(reason(&format!("Bearer {good}"), body), "accepted");
    assert_eq!(reason(&good, &body.replace("EV_1", "EV_2")), "no_match");
    assert_eq!(reason(&token(hs(), &livekit_claims(body), b"stranger"), body), "no_match");
    let with = |name: &str, value: Value| {
        let mut claims = livekit_claims(body);
        claims[name] = value;
        reason(&token(hs(), &claims, b"secret"), body)
    };
    assert_eq!(with("exp", json!(NOW - 10)), "timestamp_too_old");
    assert_eq!(with("exp", json!(NOW - 9)), "accepted");
    assert_eq!(with("nbf", json!(NOW + 11)), "timestamp_in_future");
    assert_eq!(with("exp", json!("soon")), "timestamp_malformed");
    assert_eq!(with("exp", Value::Null), "no_match", "a token without an end");
    assert_eq!(with("sha256", Value::Null), "no_match", "a token that binds no body");
    let doubled = Sent::new(&[("authorization", &good), ("authorization", &good)], body);
    assert_eq!(doubled.reason(&verifier), "malformed_request");
}

#[test]
fn a_token_chooses_no_algorithm() {
    let body = r#"{"event":{"id":"1","type":"user.create"}}"#;
    let claims = json!({ "request_body_sha256": BASE64.encode(Sha256::digest(body)) });
    let reason = |verifier: &Verifier, token: &str| Sent::new(&[("x-fusionauth-signature-jwt", token)], body).reason(verifier);
    let hmac = built_in("fusionauth", &["secret"]);
    let good = token(json!({ "alg": "HS256" }), &claims, b"secret");
    assert_eq!(reason(&hmac, &good), "accepted");
    for header in [json!({ "alg": "none" }), json!({ "alg": "NONE" }), json!({}), json!({ "alg": "PS256" })] {
        assert_eq!(reason(&hmac, &token(header.clone(), &claims, b"secret")), "malformed_signature", "{header}");
    }
    for header in [json!({ "alg": "HS384" }), json!({ "alg": "RS256" }), json!({ "alg": "EdDSA" })] {
        assert_eq!(reason(&hmac, &token(header.clone(), &claims, b"secret")), "no_match", "{header}");
    }
    let (signed, _) = good.rsplit_once('.').unwrap();
    assert_ne!(reason(&hmac, &format!("{signed}.")), "accepted");
    let none = format!("{}.{}.", BASE64_URL.encode(r#"{"alg":"none"}"#), BASE64_URL.encode(claims.to_string()));
    assert_eq!(reason(&hmac, &none), "malformed_signature");

    // The public key, known to all, as the secret of an HMAC.
    let private = include_str!("../../../../tests/keys/rsa-1.pem");
    let rsa =
        SourceSpec { scheme: json!({ "algorithm": "rsa-sha256", "secret": ["base64"] }).as_object().cloned(), ..source("fusionauth") };
    let rsa = verifier(&rsa, &[private]);
    let confused = token(json!({ "alg": "HS256" }), &claims, private.as_bytes());
    assert_eq!(reason(&rsa, &confused), "malformed_signature");
}

/// The public half of an RSA key of 2048 bits, as its owner publishes it (SubjectPublicKeyInfo).
fn published(private: &str) -> String {
    let key = ring::signature::RsaKeyPair::from_pkcs8(&key::key_bytes(&[Step::Base64], private).unwrap()).unwrap();
    let start = hex::decode("30820122300d06092a864886f70d01010105000382010f00").unwrap();
    let info = [&start, ring::signature::KeyPair::public_key(&key).as_ref()].concat();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64.encode(info))
}

#[test]
fn a_public_key_is_never_a_secret() {
    let body = r#"{"event":{"id":"1","type":"user.create"}}"#;
    let claims = json!({ "request_body_sha256": BASE64.encode(Sha256::digest(body)) });
    let reason = |verifier: &Verifier, token: &str| Sent::new(&[("x-fusionauth-signature-jwt", token)], body).reason(verifier);
    let private = include_str!("../../../../tests/keys/rsa-1.pem");
    let public = published(private);
    let own = built_in("fusionauth", &["secret", &public]);
    let signed = jws::unsigned(Algorithm::RsaSha256, claims.as_object().unwrap());
    let der = key::key_bytes(&[Step::Base64], private).unwrap();
    let signature = asymmetric::sign(Algorithm::RsaSha256, &der, signed.as_bytes(), true).unwrap();
    assert_eq!(reason(&own, &format!("{signed}.{}", BASE64_URL.encode(signature))), "accepted", "the key's form tells its kind");
    assert_eq!(reason(&own, &token(json!({ "alg": "HS256" }), &claims, b"secret")), "accepted", "beside a secret");
    for key in [public.as_bytes(), public.trim().as_bytes(), &key::key_bytes(&[Step::Base64], &public).unwrap()] {
        assert_eq!(reason(&own, &token(json!({ "alg": "HS256" }), &claims, key)), "no_match");
    }
    for provider in ["github", "netlify", "hubspot-v1", "gitlab"] {
        let errors = Verifier::new(&catalog(), &source(provider), &[public.as_str().into()]).err().unwrap();
        assert!(errors[0].to_string().starts_with("secrets[0]: is a public key"), "{provider}: {errors:?}");
    }
}

#[test]
fn tokens_with_public_keys_are_verified() {
    let keys = [
        ("rsa-sha256", include_str!("../../../../tests/keys/rsa-1.pem").to_owned()),
        ("ecdsa-p256-sha256", BASE64.encode(asymmetric::generate(Algorithm::EcdsaP256Sha256).unwrap())),
        ("ed25519", BASE64.encode(key::key_pair([7; 32]))),
    ];
    for (algorithm, key) in keys {
        let source = with_scheme("fusionauth", json!({ "algorithm": algorithm, "secret": ["base64"] }));
        let verifier = verifier(&source, &[&key]);
        let sent = Sent::signed(&verifier, &key.as_str().into(), "user.create", NOW, r#"{"event":{"id":"1","type":"user.create"}}"#);
        assert_eq!(sent.reason(&verifier), "accepted", "{algorithm}");
        assert_eq!(sent.body("{}").reason(&verifier), "no_match", "{algorithm}");
    }
}

#[test]
fn a_token_names_the_url() {
    let qstash = built_in("qstash", &["current", "next"]);
    let claims = |sub: &str| json!({ "iss": "Upstash", "sub": sub, "exp": NOW + 300, "nbf": NOW, "body": format!("{}=", BASE64_URL.encode(Sha256::digest("hi"))) });
    let sent = |sub: &str| Sent::new(&[("upstash-signature", &token(json!({ "alg": "HS256" }), &claims(sub), b"next"))], "hi");
    assert_eq!(sent(URL).url(URL).reason(&qstash), "accepted");
    assert_eq!(sent(URL).reason(&qstash), "accepted", "the URL is not known here");
    assert_eq!(sent("https://elsewhere.example/").url(URL).reason(&qstash), "no_match");
    let bird = built_in("messagebird", &["key"]);
    let sent = Sent::signed(&bird, &"key".into(), "", NOW, "{}");
    assert_eq!(sent.reason(&bird), "accepted");
    assert_eq!(sent.clone().url("https://elsewhere.example/").reason(&bird), "no_match");
    assert_eq!(Sent { url: None, ..sent.clone() }.reason(&bird), "unsupported");
    let mut claims = json!({ "iss": "MessageBird", "nbf": NOW, "exp": NOW + 60, "jti": "j", "url_hash": hex::encode(Sha256::digest(URL)) });
    let bare = |claims: &Value| token(json!({ "alg": "HS256" }), claims, b"key");
    let empty = |claims: &Value| Sent::new(&[("messagebird-signature-jwt", &bare(claims))], "").url(URL);
    assert_eq!(empty(&claims).reason(&bird), "accepted", "an empty body has no hash");
    assert_eq!(empty(&claims).body("{}").reason(&bird), "no_match");
    claims["payload_hash"] = hex::encode(Sha256::digest("{}")).into();
    assert_eq!(empty(&claims).reason(&bird), "no_match");
}

#[test]
fn twilio_signs_forms_or_the_hash_of_the_body() {
    let twilio = built_in("twilio", &["12345"]);
    // The example of Twilio's own documentation.
    let url = "https://mycompany.com/myapp.php?foo=1&bar=2";
    let body = "CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212";
    let sent = Sent::new(&[("x-twilio-signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8=")], body).url(url);
    assert_eq!(sent.reason(&twilio), "accepted");
    assert_eq!(sent.clone().url(&url.replace(".com", ".com:443")).reason(&twilio), "accepted", "with the port, too");
    assert_eq!(sent.clone().url(&url.replace(".com", ".com:8443")).reason(&twilio), "accepted", "as Twilio's own libraries do");
    assert_eq!(sent.clone().url(&format!("{url}&x=1")).reason(&twilio), "no_match");
    assert_eq!(sent.clone().body(&body.replace("1234&", "1235&")).reason(&twilio), "no_match");
    assert_eq!(sent.clone().body(&format!("{body}&More=1")).reason(&twilio), "no_match");
    assert_eq!(sent.clone().body("{}").reason(&twilio), "missing_signature", "a JSON body that nothing covers");
    let signed =
        |url: &str, text: &str, body: &str| Sent::new(&[("x-twilio-signature", &BASE64.encode(sha1(b"12345", text)))], body).url(url);
    let json = r#"{"a":1}"#;
    let hashed = format!("{URL}?bodySHA256={}", hex::encode(Sha256::digest(json)));
    assert_eq!(signed(&hashed, &hashed, json).reason(&twilio), "accepted");
    assert_eq!(signed(&hashed, &hashed, r#"{"a":2}"#).reason(&twilio), "no_match");
    assert_eq!(signed(&hashed, &hashed, "a=1").reason(&twilio), "no_match");
    // A signature of an empty form, with a hash that the sender did not sign.
    let planted = signed(URL, URL, json);
    assert_eq!(planted.clone().url(&hashed).reason(&twilio), "no_match");
    let headers: Vec<(&str, &[u8])> = planted.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let query = hashed.split_once('?').map(|(_, query)| query);
    let request = super::Request { method: "POST", url: Some(URL), query, headers: &headers, body: &planted.body };
    assert!(twilio.verify(&request, NOW * 1000).is_err(), "the hash must be in the URL that is signed");
}

#[test]
fn mandrill_reads_its_events_out_of_the_form() {
    let mandrill = built_in("mandrill", &["key"]);
    let events = r#"[{"event":"open","_id":"m1","ts":1},{"event":"click","_id":"m2","ts":2}]"#;
    let body: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("mandrill_events", events).finish();
    let signature = BASE64.encode(sha1(b"key", &format!("{URL}mandrill_events{events}")));
    let sent = Sent::new(&[("x-mandrill-signature", &signature)], &body).url(URL);
    let verified = sent.verify(&mandrill, NOW).unwrap();
    assert_eq!((verified.event_key().unwrap_or_default(), verified.event_type()), ("m1,m2.open,click.1,2", Some("open,click")));
    assert_eq!(sent.body(&body.replace("m1", "m3")).reason(&mandrill), "no_match");
}

#[test]
fn adyen_signs_fields_of_the_only_item() {
    // The example of Adyen's own documentation.
    let adyen = built_in("adyen", &["44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"]);
    let item = |success: &str| {
        json!({ "NotificationRequestItem": {
            "pspReference": "7914073381342284", "merchantAccountCode": "TestMerchant", "merchantReference": "TestPayment-1407325143704",
            "amount": { "value": 1130, "currency": "EUR" }, "eventCode": "AUTHORISATION", "success": success,
            "additionalData": { "hmacSignature": "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0=" } } })
    };
    let reason = |items: Value| Sent::new(&[], &json!({ "live": "false", "notificationItems": items }).to_string()).reason(&adyen);
    assert_eq!(reason(json!([item("true")])), "accepted");
    assert_eq!(reason(json!([item("false")])), "no_match");
    assert_eq!(reason(json!([item("true"), item("true")])), "no_match", "a second one is not looked at");
}

#[test]
fn braintree_gives_no_signature_of_an_event_away() {
    let braintree = built_in("braintree", &["public|private"]);
    let key = Sha1::digest("private");
    let payload = "PG5vdGlmaWNhdGlvbi8+\n";
    let form = |signature: &str| {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("bt_signature", signature).append_pair("bt_payload", payload).finish()
    };
    let right = hex::encode(sha1(&key, payload));
    assert_eq!(Sent::new(&[], &form(&format!("stranger|{}&public|{right}", "0".repeat(40)))).reason(&braintree), "accepted");
    assert_eq!(Sent::new(&[], &form(&format!("public|{}", "0".repeat(40)))).reason(&braintree), "no_match");
    let challenge = Sent::get(&format!("{URL}?bt_challenge=20f9f8ed05f77439fe955c977e4c8a53"));
    let expected = format!("public|{}", hex::encode(sha1(&key, "20f9f8ed05f77439fe955c977e4c8a53")));
    assert_eq!(challenge.answer(&braintree), Some(expected));
    assert_eq!(challenge.url(&format!("{URL}?bt_challenge=PG5vdGlmaWNhdGlvbi8%2B")).reason(&braintree), "missing_signature");
    let x = built_in("x-twitter", &["s"]);
    assert_eq!(Sent::get(&format!("{URL}?crc_token=%7B%22for_user_id%22:1%7D")).reason(&x), "missing_signature", "JSON is no challenge");
    let answer: Value = serde_json::from_str(&Sent::get(&format!("{URL}?crc_token=word")).answer(&x).unwrap()).unwrap();
    let borrowed = Sent::new(&[("x-twitter-webhooks-signature", answer["response_token"].as_str().unwrap())], "word");
    assert_eq!(borrowed.reason(&x), "no_match", "a digest that was given away");
}

#[test]
fn dropbox_sign_signs_a_member_of_a_form() {
    let dropbox = built_in("dropbox-sign", &["key"]);
    let hash = hex::encode(hs256(b"key", "1348177752signature_request_sent"));
    let json = json!({ "event": { "event_time": "1348177752", "event_type": "signature_request_sent", "event_hash": hash },
                       "signature_request": { "signature_request_id": "r1" } });
    let body = format!("--x\r\nContent-Disposition: form-data; name=\"json\"\r\n\r\n{json}\r\n--x--\r\n");
    let verified = Sent::new(&[], &body).verify(&dropbox, NOW).unwrap();
    assert_eq!(verified.event_key().unwrap_or_default(), "r1.signature_request_sent.1348177752");
    assert_eq!(Sent::new(&[], &body.replace("_sent", "_signed")).reason(&dropbox), "no_match");
}

#[test]
fn public_keys_come_in_their_usual_forms() {
    let sendgrid = catalog();
    let sendgrid = sendgrid.get("sendgrid").unwrap();
    let secret = generate_secret(sendgrid, &mut rand::rng()).unwrap();
    let verifier = built_in("sendgrid", &[secret.expose_secret()]);
    let sent = Sent::signed(&verifier, &secret, "open", NOW, "[{\"event\":\"open\",\"sg_event_id\":\"1\"}]\r\n");
    assert_eq!(sent.reason(&verifier), "accepted");
    assert_eq!(sent.clone().body("[{\"event\":\"open\",\"sg_event_id\":\"1\"}]").reason(&verifier), "no_match", "without its CR LF");
    assert_eq!(sent.clone().set("x-twilio-email-event-webhook-timestamp", |_| (NOW + 1).to_string()).reason(&verifier), "no_match");
    for (algorithm, key) in [(Algorithm::EcdsaP256Sha256, &[0_u8; 91][..]), (Algorithm::RsaSha256, b"x"), (Algorithm::RsaSha256, &[4; 300])]
    {
        assert!(asymmetric::PublicKey::new(algorithm, key).is_err());
    }
    let rsa =
        BASE64.decode(include_str!("../../../../tests/keys/rsa-1.pem").lines().filter(|line| !line.starts_with('-')).collect::<String>());
    assert!(asymmetric::PublicKey::new(Algorithm::EcdsaP256Sha256, &rsa.unwrap()).is_err(), "a key of another kind");
}
