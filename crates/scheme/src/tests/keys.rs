//! Keys that the provider publishes: what is asked for, from where, and what is then believed.

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

const RSA_1: &str = include_str!("../../../../tests/keys/rsa-1.pem");
const RSA_2: &str = include_str!("../../../../tests/keys/rsa-2.pem");
const CERTIFICATE_1: &str = include_str!("../../../../tests/keys/rsa-1-certificate.pem");
const SNS_1: &str = include_str!("../../../../tests/keys/sns-version-1.json");
const TOPIC: &str = "arn:aws:sns:us-west-2:123456789012:MyTopic";
const SNS_CERTIFICATE: &str = "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem";

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
    *sent.check(verifier, NOW * 1000).err().and_then(|rejection| rejection.needs).expect("something to fetch")
}

fn give(verifier: &Verifier, need: &Need, text: &str) {
    verifier.known_keys().put(need, KeySet::read(need.format, text.as_bytes()).unwrap(), NOW * 1000);
}

fn reason(checked: &Result<VerifiedRequest, Rejection>) -> &'static str {
    checked.as_ref().map_or_else(|rejection| rejection.reason.code(), |_| "accepted")
}

fn sns(change: impl Fn(&mut Value)) -> Sent {
    let mut message: Value = serde_json::from_str(SNS_1).unwrap();
    message["SignatureVersion"] = "2".into();
    change(&mut message);
    let names: &[&str] = match message["Type"].as_str().unwrap() {
        "Notification" => &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"],
        _ => &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"],
    };
    let part = |name: &&str| message[*name].as_str().map(|value| format!("{name}\n{value}\n"));
    let content: String = names.iter().filter_map(part).collect();
    message["Signature"] = BASE64_STANDARD.encode(signed(RSA_1, &content)).into();
    Sent::new(&[("content-type", "text/plain; charset=UTF-8")], &message.to_string())
}

#[test]
fn sns_messages_of_both_versions_are_verified_with_the_certificate_that_they_name() {
    let (_catalog, verifier) = fresh("aws-sns", TOPIC);
    let first = Sent::new(&[], SNS_1);
    let need = lacks(&verifier, &first);
    assert_eq!((need.url.as_str(), need.format, need.is_refresh), (SNS_CERTIFICATE, KeyFormat::X509, false));
    give(&verifier, &need, CERTIFICATE_1);
    let without_subject = sns(|message| drop(message.as_object_mut().unwrap().remove("Subject")));
    for sent in [first.clone(), sns(|_| {}), without_subject] {
        let verified = sent.check(&verifier, NOW * 1000).unwrap();
        assert_eq!(
            (verified.event_key().unwrap_or_default(), verified.event_type()),
            ("22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324", Some("Notification"))
        );
    }
    let text = String::from_utf8(first.body.to_vec()).unwrap();
    for (from, to) in [("Hello", "Hullo"), ("22b80b92", "22b80b93"), ("My First", "My Third"), ("00:54:06", "00:54:07")] {
        assert_eq!(reason(&first.clone().body(&text.replace(from, to)).check(&verifier, NOW * 1000)), "no_match", "{from}");
    }
    assert_eq!(reason(&first.check(&verifier, 7_258_118_400_000)), "unsupported", "a year on, the certificate is fetched anew");
    give(&verifier, &need, CERTIFICATE_1);
    verifier.known_keys().put(&need, KeySet::read(KeyFormat::X509, CERTIFICATE_1.as_bytes()).unwrap(), 7_258_118_400_000);
    let expired = first.check(&verifier, 7_258_118_400_000);
    assert_eq!((reason(&expired), expired.err().unwrap().needs.is_none()), ("no_match", true), "and is then out of date");
}

#[test]
fn another_topics_message_and_another_hosts_certificate_are_refused_before_anything_is_fetched() {
    let (_catalog, verifier) = fresh("aws-sns", "arn:aws:sns:us-west-2:123456789012:Another");
    let refused = Sent::new(&[], SNS_1).check(&verifier, NOW * 1000);
    assert_eq!((reason(&refused), refused.err().unwrap().needs.is_none()), ("no_match", true), "anybody may have a topic");
    let (_catalog, verifier) = fresh("aws-sns", TOPIC);
    for url in [
        "http://sns.us-west-2.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.us-west-2.amazonaws.com.evil.example/SimpleNotificationService-1.pem",
        "https://evil.example/SimpleNotificationService-1.pem",
        "https://sns.us-west-2.amazonaws.com:8443/SimpleNotificationService-1.pem",
        "https://user@sns.us-west-2.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.a.b.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.us-west-2.amazonaws.com@evil.example/SimpleNotificationService-1.pem",
        "https://sns.us-west-2.amazonaws.com\\@evil.example/SimpleNotificationService-1.pem",
        "https://s3.us-west-2.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns..amazonaws.com/SimpleNotificationService-1.pem",
        // Buckets, which anybody may own.
        "https://sns.s3.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.s3-us-west-2.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.s3-website-us-west-2.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.s3-accelerate.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.us-west.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.us-2.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.us-west-2a.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.{region}.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.us-west-2.amazonaws.com/?Action=GetEndpoint&x=.pem",
        "https://127.0.0.1/SimpleNotificationService-1.pem",
        "not a url",
    ] {
        let refused = sns(|message| message["SigningCertURL"] = url.into()).check(&verifier, NOW * 1000);
        assert_eq!((reason(&refused), refused.err().unwrap().needs.is_none()), ("no_match", true), "{url}");
    }
    let china = sns(|message| message["SigningCertURL"] = "https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-1.pem".into());
    assert!(lacks(&verifier, &china).url.contains("amazonaws.com.cn/"));
    for region in ["us-gov-west-1", "ap-southeast-7", "me-central-1"] {
        let url = format!("https://sns.{region}.amazonaws.com/SimpleNotificationService-1.pem");
        let there = sns(|message| message["SigningCertURL"] = url.clone().into());
        assert_eq!(lacks(&verifier, &there).url, url);
    }
}

#[test]
fn a_subscription_is_confirmed_on_the_providers_hosts_alone() {
    let (_catalog, verifier) = fresh("aws-sns", TOPIC);
    let url = "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&TopicArn=x&Token=t";
    let confirmation = |url: &str| {
        sns(|message| {
            message["Type"] = "SubscriptionConfirmation".into();
            message["Token"] = "t".into();
            message["SubscribeURL"] = url.into();
        })
    };
    give(&verifier, &lacks(&verifier, &confirmation(url)), CERTIFICATE_1);
    let verified = confirmation(url).check(&verifier, NOW * 1000).unwrap();
    assert_eq!((verified.visit(), verified.challenge().map(|answer| answer.status)), (Some(url), Some(200)));
    let elsewhere = confirmation("https://evil.example/?Action=ConfirmSubscription").check(&verifier, NOW * 1000);
    assert_eq!(reason(&elsewhere), "no_match", "rightly signed, and still not called");
    let moved = confirmation(url);
    let text = String::from_utf8(moved.body.to_vec()).unwrap().replace("Token=t", "Token=u");
    assert_eq!(reason(&moved.body(&text).check(&verifier, NOW * 1000)), "no_match");
}

fn push(claims: &Value, key_id: &str, pem: &str) -> Sent {
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": key_id});
    let token = token(&header, claims, |message| signed(pem, message));
    Sent::new(&[("authorization", &format!("Bearer {token}"))], r#"{"message":{"data":"eA==","messageId":"m1"},"subscription":"s"}"#)
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
    assert_eq!((need.url.as_str(), need.format), ("https://www.googleapis.com/oauth2/v3/certs", KeyFormat::Jwks));
    give(&verifier, &need, &json!({"keys": [jwk("a", RSA_1), {"kty": "oct", "k": "x"}, {"kty": "EC"}, 7]}).to_string());
    let verified = good.check(&verifier, NOW * 1000).unwrap();
    assert_eq!(verified.event_key().unwrap_or_default(), "m1.s");
    for (name, value, expected) in [
        ("aud", json!("https://other.example/"), "no_match"),
        ("iss", json!("https://evil.example"), "no_match"),
        ("email", json!("other@project.iam.gserviceaccount.com"), "no_match"),
        ("email_verified", json!(false), "no_match"),
        ("exp", json!(NOW - 60), "timestamp_too_old"),
        ("exp", Value::Null, "no_match"),
    ] {
        assert_eq!(reason(&push(&claims(name, value.clone()), "a", RSA_1).check(&verifier, NOW * 1000)), expected, "{name} {value}");
    }
    assert_eq!(
        reason(&push(&claims("sub", "1".into()), "a", RSA_2).check(&verifier, NOW * 1000)),
        "no_match",
        "another key under this name"
    );
    let rotated = push(&claims("sub", "1".into()), "b", RSA_2);
    let need = lacks(&verifier, &rotated);
    assert!(need.is_refresh, "a name that is not in the set asks for the set again");
    give(&verifier, &need, &json!({"keys": [jwk("a", RSA_1), jwk("b", RSA_2)]}).to_string());
    assert!(rotated.check(&verifier, NOW * 1000).is_ok() && good.check(&verifier, NOW * 1000).is_ok());
    assert_eq!(reason(&good.check(&verifier, (NOW + 3599) * 1000)), "accepted");
    assert!(good.check(&verifier, (NOW + 3600) * 1000).err().unwrap().needs.is_some(), "a set counts for an hour");
}

#[test]
fn paypal_signs_its_headers_the_webhook_and_a_sum_of_the_body() {
    let (_catalog, verifier) = fresh("paypal", "WH-ID-1");
    let body = r#"{"id":"WH-1","event_type":"PAYMENT.CAPTURE.COMPLETED"}"#;
    let sent = |webhook: &str, url: &str| {
        let signature = signed(RSA_1, &format!("t-1|2027-01-15T08:00:00Z|{webhook}|{}", crc32fast::hash(body.as_bytes())));
        Sent::new(
            &[
                ("paypal-transmission-id", "t-1"),
                ("paypal-transmission-time", "2027-01-15T08:00:00Z"),
                ("paypal-auth-algo", "SHA256withRSA"),
                ("paypal-cert-url", url),
                ("paypal-transmission-sig", &BASE64_STANDARD.encode(signature)),
            ],
            body,
        )
    };
    let url = "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-1";
    give(&verifier, &lacks(&verifier, &sent("WH-ID-1", url)), CERTIFICATE_1);
    let verified = sent("WH-ID-1", url).check(&verifier, NOW * 1000).unwrap();
    assert_eq!((verified.event_key().unwrap_or_default(), verified.event_type()), ("WH-1", Some("PAYMENT.CAPTURE.COMPLETED")));
    assert!(!verified.key_is_signed(), "a sum is no signature of the body");
    assert_eq!(reason(&sent("WH-ID-2", url).check(&verifier, NOW * 1000)), "no_match", "another webhook's");
    assert_eq!(reason(&sent("WH-ID-1", url).body("{}").check(&verifier, NOW * 1000)), "no_match");
    assert_eq!(reason(&sent("WH-ID-1", url).set("paypal-auth-algo", |_| "SHA1withRSA".into()).check(&verifier, NOW * 1000)), "no_match");
    for url in ["https://api.paypal.com.evil.example/v1/notifications/certs/1", "https://api.paypal.com/v1/other/1"] {
        assert!(sent("WH-ID-1", url).check(&verifier, NOW * 1000).err().unwrap().needs.is_none(), "{url}");
    }
}

#[test]
fn fal_is_believed_for_this_user_with_any_of_its_keys() {
    let (_catalog, verifier) = fresh("fal-ai", "user-1");
    let key = SigningKey::from_bytes(&[7; 32]);
    let body = r#"{"request_id":"r1","status":"OK"}"#;
    let digest = hex::encode(crate::digest::BodyDigest::of(body.as_bytes()).0);
    let sent = |user: &str, key: &SigningKey| {
        let signature = hex::encode(key.sign(format!("r1\n{user}\n{NOW}\n{digest}").as_bytes()).to_bytes());
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
    give(&verifier, &lacks(&verifier, &sent("user-1", &key)), &json!({"keys": [public(&other), public(&key)]}).to_string());
    assert_eq!(
        sent("user-1", &key).check(&verifier, NOW * 1000).unwrap().event_key().unwrap_or_default(),
        format!("r1.OK.{}", hex::encode(crate::digest::BodyDigest::of(&sent("user-1", &key).body).0))
    );
    let others = sent("user-2", &key).check(&verifier, NOW * 1000);
    assert_eq!((reason(&others), others.err().unwrap().needs.is_none()), ("no_match", true));
    assert_eq!(reason(&sent("user-1", &SigningKey::from_bytes(&[9; 32])).check(&verifier, NOW * 1000)), "no_match");
    assert_eq!(reason(&sent("user-1", &key).check(&verifier, (NOW + 301) * 1000)), "timestamp_too_old");
}

#[test]
fn plaid_is_asked_for_the_key_by_its_name() {
    let (_catalog, verifier) = fresh("plaid", "client-1:s3cret");
    let pair = asymmetric::generate(Algorithm::EcdsaP256Sha256).unwrap();
    let public = {
        use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pair, &ring::rand::SystemRandom::new())
            .unwrap()
            .public_key()
            .as_ref()
            .to_vec()
    };
    let body = "{\n  \"webhook_type\": \"ITEM\", \"webhook_code\": \"ERROR\"\n}";
    let sent = |iat: i64, body_of: &str| {
        let claims = json!({"iat": iat, "request_body_sha256": hex::encode(crate::digest::BodyDigest::of(body_of.as_bytes()).0)});
        let sign = |message: &str| asymmetric::sign(Algorithm::EcdsaP256Sha256, &pair, message.as_bytes(), true).unwrap();
        Sent::new(&[("plaid-verification", &token(&json!({"alg": "ES256", "kid": "k-1", "typ": "JWT"}), &claims, sign))], body)
    };
    let need = lacks(&verifier, &sent(NOW, body));
    assert_eq!(need.url, "https://production.plaid.com/webhook_verification_key/get");
    let posted = need.post.clone().map(|text| secrecy::ExposeSecret::expose_secret(&text).to_owned()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&posted).unwrap(), json!({"client_id": "client-1", "secret": "s3cret", "key_id": "k-1"}));
    assert!(!format!("{need:?}").contains("s3cret"));
    let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let key = json!({"key": {"alg": "ES256", "crv": "P-256", "kid": "k-1", "kty": "EC", "use": "sig", "x": text(&public[1..33]),
                             "y": text(&public[33..]), "created_at": 1, "expired_at": null}, "request_id": "x"});
    give(&verifier, &need, &key.to_string());
    let verified = sent(NOW, body).check(&verifier, NOW * 1000).unwrap();
    let digest = hex::encode(crate::digest::BodyDigest::of(body.as_bytes()).0);
    assert_eq!((verified.event_type(), verified.event_key()), (Some("ITEM.ERROR"), Some(format!("{NOW}.{digest}").as_str())));
    let later = sent(NOW + 1, body).check(&verifier, NOW * 1000).unwrap();
    assert_ne!(later.event_key(), verified.event_key(), "the same words at another time are another event");
    assert_eq!(reason(&sent(NOW, "{}").check(&verifier, NOW * 1000)), "no_match", "another body");
    assert_eq!(reason(&sent(NOW - 301, body).check(&verifier, NOW * 1000)), "timestamp_too_old");
    let other = sent(NOW, body).set("plaid-verification", |token| {
        let header = BASE64_URL_SAFE_NO_PAD.encode(json!({"alg": "ES256", "kid": "k-2"}).to_string());
        format!("{header}{}", &token[token.find('.').unwrap()..])
    });
    assert_ne!(lacks(&verifier, &other).id, need.id);
}

#[test]
fn what_is_no_key_is_an_error_and_never_a_panic() {
    for (format, text) in [
        (KeyFormat::X509, ""),
        (KeyFormat::X509, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        (KeyFormat::X509, RSA_1),
        (KeyFormat::Jwks, ""),
        (KeyFormat::Jwks, "{}"),
        (KeyFormat::Jwks, r#"{"keys":[]}"#),
        (KeyFormat::Jwks, r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}"#),
        (KeyFormat::Jwks, r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#),
        (KeyFormat::Jwks, r#"{"keys":[{"kty":"RSA","n":"","e":"AQAB"}]}"#),
    ] {
        assert!(KeySet::read(format, text.as_bytes()).is_err(), "{text}");
    }
    let many = json!({"keys": vec![jwk("a", RSA_1); 65]}).to_string();
    assert!(KeySet::read(KeyFormat::Jwks, many.as_bytes()).is_err());
}

#[test]
fn a_scheme_whose_keys_anybody_could_choose_is_refused() {
    let errors = |keys: &str, more: &str| {
        let text = format!("algorithm = 'rsa-sha256'\n{more}\nsignature = {{ from = 'header:x' }}\nkeys = {{ format = 'x509', {keys} }}");
        let spec = toml::from_str(&text).unwrap();
        let errors = Catalog::new(&std::collections::BTreeMap::from([("own".to_owned(), spec)])).err().unwrap_or_default();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    for (keys, more, expected) in [
        ("from = 'header:cert', expect = 'body:a'", "", "providers.own.keys.hosts: is missing"),
        ("from = 'header:cert', hosts = ['*.com'], expect = 'body:a'", "", "providers.own.keys.hosts[0]: must be"),
        ("from = 'header:cert', hosts = ['keys.{region}.com'], expect = 'body:a'", "", "providers.own.keys.hosts[0]: must be"),
        ("from = 'header:cert', hosts = ['example'], expect = 'body:a'", "", "providers.own.keys.hosts[0]: must be"),
        ("from = 'http://x.example/', expect = 'body:a'", "", "providers.own.keys.from: must start with https"),
        ("from = 'nowhere', hosts = ['x.example'], expect = 'body:a'", "", "providers.own.keys.from: \"nowhere\" names no place"),
        ("from = 'https://x.example/'", "", "providers.own.keys.expect: is missing"),
        ("from = 'https://x.example/'", "content = '{secret}{body}'", ""),
        ("from = 'https://x.example/', expect = 'body:a'", "", ""),
    ] {
        let found = errors(keys, more);
        assert!(found.starts_with(expected) && (expected.is_empty() == found.is_empty()), "{keys}: {found}");
    }
    let secret = verifier(&source("aws-sns"), &[TOPIC]);
    assert_eq!(secret.scheme().spec.algorithm.as_slice().len(), 2);
    let missing = Verifier::new(&catalog(), &source("aws-sns"), &[]).err().unwrap_or_default();
    assert_eq!(missing.iter().map(|error| error.key.as_str()).collect::<Vec<_>>(), ["secrets"], "without a topic anybody's would do");
    assert_eq!(Reason::Unsupported.code(), "unsupported");
}

#[test]
fn constant_contacts_detached_signatures_are_of_the_body_and_of_its_header() {
    let (_catalog, verifier) = fresh("constant-contact", "api-key-1");
    let sent = |pem: &str, body: &str, signed_body: &str, at: i64| {
        let header =
            BASE64_URL_SAFE_NO_PAD.encode(json!({"alg": "RS256", "b64": false, "crit": ["b64"], "kid": "c-1", "iat": at}).to_string());
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signed(pem, &format!("{header}.{signed_body}")));
        Sent::new(&[("x-ctct-webhook-sig", &format!("{header}..{signature}"))], body)
    };
    let body = r#"{"url":"https://api.example/1","api_key":"api-key-1","event_type":"tier.increase"}"#;
    let good = sent(RSA_1, body, body, NOW);
    let need = lacks(&verifier, &good);
    assert_eq!(need.url, "https://developer.constantcontact.com/.well-known/jwks.json");
    give(&verifier, &need, &json!({"keys": [jwk("c-1", RSA_1)]}).to_string());
    let first = good.check(&verifier, NOW * 1000).unwrap();
    assert_eq!(first.event_type(), Some("tier.increase"));
    let later = sent(RSA_1, body, body, NOW + 1).check(&verifier, NOW * 1000).unwrap();
    assert_ne!(first.event_key(), later.event_key(), "the same words signed later are another event");
    let refused = |sent: Sent| reason(&sent.check(&verifier, NOW * 1000));
    assert_eq!(refused(sent(RSA_1, &body.replace("increase", "decrease"), body, NOW)), "no_match", "another body");
    assert_eq!(refused(sent(RSA_2, body, body, NOW)), "no_match", "another key");
    let others = body.replace("api-key-1", "api-key-2");
    assert_eq!(refused(sent(RSA_1, &others, &others, NOW)), "no_match", "another partner's");
}
