//! Verification as providers and attackers see it: published vectors, what each scheme signs, and
//! what is nearly that.

mod keys_of_events;
mod sources;

use bytes::Bytes;
use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::json;

use super::*;
use crate::{BodyDigest, ChallengeAnswer, Verified, spec::Dedup};

#[test]
fn published_vectors_are_accepted() {
    let github = verifier(&source("github"), &["It's a Secret to Everybody"]);
    let digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let signature = format!("sha256={digest}");
    let sent = Sent::new(
        &[
            ("x-hub-signature-256", &signature),
            ("x-github-delivery", "d1"),
            ("x-github-event", "ping"),
        ],
        "Hello, World!",
    );
    let verified = sent.verify(&github, NOW).unwrap();
    assert_eq!(
        (
            verified.event_key().unwrap_or_default(),
            verified.event_type(),
            verified.key_is_signed()
        ),
        ("d1", Some("ping"), false)
    );
    assert!(
        sent.clone()
            .set("x-hub-signature-256", |_| format!(
                "sha256={}",
                digest.to_uppercase()
            ))
            .verify(&github, NOW)
            .is_ok()
    );

    let body = r#"{"event_type":"ping","data":{"success":true}}"#;
    for provider in ["standard-webhooks", "svix"] {
        let standard = verifier(&source(provider), &["whsec_plJ3nmyCDGBKInavdOK15jsl"]);
        for names in [
            ["webhook-id", "webhook-timestamp", "webhook-signature"],
            ["svix-id", "svix-timestamp", "svix-signature"],
        ] {
            let values = [
                "msg_loFOjxBNrRLzqYUf",
                "1731705121",
                "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
            ];
            let headers: Vec<(&str, &str)> = names.into_iter().zip(values).collect();
            let verified = Sent::new(&headers, body)
                .verify(&standard, 1_731_705_121)
                .unwrap();
            let seen = (
                verified.event_key().unwrap_or_default(),
                verified.event_type(),
                verified.key_is_signed(),
            );
            assert_eq!(seen, ("msg_loFOjxBNrRLzqYUf", Some("ping"), true));
        }
    }
    // Slack's documentation, "Verifying requests from Slack".
    let slack = verifier(&source("slack"), &["8f742231b10e8888abcd99yyyzzz85a5"]);
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let signature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
    let sent = Sent::new(
        &[
            ("x-slack-request-timestamp", "1531420618"),
            ("x-slack-signature", signature),
        ],
        body,
    );
    let verified = sent.verify(&slack, 1_531_420_618).unwrap();
    let trigger = "398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    assert_eq!(
        (verified.event_key(), verified.event_type()),
        (Some(trigger), Some("/webhook-collect"))
    );
}

#[test]
fn stripe_counts_v1_alone() {
    let stripe = verifier(&source("stripe"), &["whsec_old", "whsec_new"]);
    let sent = Sent::signed(
        &stripe,
        &"whsec_new".into(),
        "charge.refunded",
        NOW,
        r#"{"id":"evt_1","type":"charge.refunded"}"#,
    );
    let right = sent
        .headers
        .iter()
        .find(|(name, _)| name == "stripe-signature")
        .unwrap()
        .1
        .clone();
    let digest = right.split_once("v1=").unwrap().1.to_owned();
    let zeros = "0".repeat(64);
    for (header, reason) in [
        (format!("t={NOW},v1={digest}"), "accepted"),
        (
            format!("t={NOW},v1={zeros},v1={digest},v0={zeros}"),
            "accepted",
        ),
        (format!("v1={digest},t={NOW}"), "accepted"),
        (format!("t={NOW},v1={}", digest.to_uppercase()), "accepted"),
        (format!("t={NOW},v0={digest}"), "malformed_signature"),
        (format!("t={NOW},v1={zeros}"), "no_match"),
        (format!("t={NOW},v1="), "malformed_signature"),
        (
            format!("t={NOW},v1={}", "zz".repeat(32)),
            "malformed_signature",
        ),
        (format!("t={NOW},v1={}", &digest[..62]), "no_match"),
        (format!("v1={digest}"), "timestamp_missing"),
        (format!("t=,v1={digest}"), "timestamp_missing"),
        (format!("t=+{NOW},v1={digest}"), "timestamp_malformed"),
        (
            format!("t=99999999999999999999,v1={digest}"),
            "timestamp_malformed",
        ),
        (
            format!("t={NOW},t={NOW},v1={digest}"),
            "malformed_signature",
        ),
        (format!("t={},v1={digest}", NOW + 1), "no_match"),
        (
            format!(
                "t={NOW},v1={digest},{}",
                format!("v1={zeros},").repeat(10_000)
            ),
            "malformed_signature",
        ),
        (digest.clone(), "malformed_signature"),
        (",,,===".into(), "malformed_signature"),
    ] {
        assert_eq!(
            sent.clone()
                .set("stripe-signature", |_| header.clone())
                .reason(&stripe),
            reason,
            "{}",
            &header[..header.len().min(200)]
        );
    }
    let verified = sent.verify(&stripe, NOW).unwrap();
    assert_eq!(
        (
            verified.event_key().unwrap_or_default(),
            verified.event_type(),
            verified.key_is_signed()
        ),
        ("evt_1", Some("charge.refunded"), true)
    );
}

#[test]
fn github_takes_no_weaker_algorithm() {
    let github = verifier(&source("github"), &["s"]);
    let sent = Sent::signed(
        &github,
        &"s".into(),
        "pull_request.opened",
        NOW,
        r#"{"action":"opened"}"#,
    );
    let verified = sent.verify(&github, NOW).unwrap();
    assert_eq!(
        (
            verified.event_key().unwrap_or_default(),
            verified.event_type()
        ),
        ("id_1", Some("pull_request.opened"))
    );
    let name = "x-hub-signature-256";
    assert_eq!(
        sent.clone()
            .set(name, |value| value.replace("sha256=", "sha1="))
            .reason(&github),
        "malformed_signature"
    );
    assert_eq!(
        sent.clone()
            .set(name, |value| value.replace("sha256=", ""))
            .reason(&github),
        "malformed_signature"
    );
    assert_eq!(
        sent.clone()
            .without(name)
            .plus("x-hub-signature", "sha1=00")
            .reason(&github),
        "missing_signature"
    );
    assert_eq!(
        sent.clone()
            .plus("x-github-delivery", "id_2")
            .reason(&github),
        "malformed_request"
    );
    assert_eq!(
        sent.clone()
            .plus("x-github-delivery", "id_2")
            .body("forged")
            .reason(&github),
        "malformed_request"
    );
    let plain = Sent::signed(
        &github,
        &"s".into(),
        "push",
        NOW,
        r#"{"ref":"refs/heads/main"}"#,
    );
    assert_eq!(
        plain.verify(&github, NOW).unwrap().event_type(),
        Some("push")
    );
}

#[test]
fn standard_webhooks_agrees_with_the_official_library() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let standard = verifier(&source("standard-webhooks"), &[secret]);
    let oracle = standardwebhooks::Webhook::new(secret).unwrap();
    for body in ["{}", "", r#"{"type":"x","emoji":"😀"}"#] {
        let signature = oracle.sign("id_1", NOW, body.as_bytes()).unwrap();
        let sent = Sent::signed(&standard, &secret.into(), "x", NOW, body);
        assert!(
            sent.headers
                .contains(&("webhook-signature".into(), signature.clone())),
            "{body}"
        );
        let zeros = format!("v1,{}=", "A".repeat(43));
        let several = sent.clone().set("webhook-signature", |value| {
            format!("v1a,AAAA {zeros} {value}")
        });
        assert!(several.verify(&standard, NOW).is_ok());
        for (changed, reason) in [
            ("v1,", "malformed_signature"),
            (&signature.replace("v1,", "v2,"), "malformed_signature"),
            (&zeros, "no_match"),
        ] {
            assert_eq!(
                sent.clone()
                    .set("webhook-signature", |_| changed.into())
                    .reason(&standard),
                reason,
                "{changed}"
            );
        }
        assert_eq!(
            sent.clone().without("webhook-id").reason(&standard),
            "missing_signature"
        );
        assert_eq!(
            sent.clone()
                .set("webhook-id", |_| "id_2".into())
                .reason(&standard),
            "no_match"
        );
        assert_eq!(
            sent.clone().without("webhook-timestamp").reason(&standard),
            "timestamp_missing"
        );
        assert_eq!(
            sent.clone()
                .set("webhook-timestamp", |_| "soon".into())
                .reason(&standard),
            "timestamp_malformed"
        );
        assert_eq!(
            sent.clone()
                .plus("webhook-timestamp", "1")
                .reason(&standard),
            "malformed_request"
        );
    }
}

#[test]
fn slack_answers_its_handshake_only_when_signed() {
    let slack = verifier(&source("slack"), &["s"]);
    let body = r#"{"type":"url_verification","challenge":"3eZbrw1aB10","token":"x"}"#;
    let sent = Sent::signed(&slack, &"s".into(), "", NOW, body);
    assert_eq!(sent.answer(&slack).as_deref(), Some("3eZbrw1aB10"));
    assert_eq!(
        sent.clone()
            .set("x-slack-signature", |_| format!("v0={}", "0".repeat(64)))
            .reason(&slack),
        "no_match"
    );
    let event = Sent::signed(
        &slack,
        &"s".into(),
        "",
        NOW,
        r#"{"type":"event_callback","event_id":"Ev1","event":{"type":"message"}}"#,
    );
    let verified = event.verify(&slack, NOW).unwrap();
    assert_eq!(
        (
            verified.event_key().unwrap_or_default(),
            verified.event_type(),
            verified.challenge()
        ),
        ("Ev1", Some("message"), None)
    );
}

#[test]
fn ed25519_is_verified_strictly() {
    let toml = "algorithm = 'ed25519'\nsecret = ['hex']\ncontent = '{timestamp}{body}'\n[signature]\nfrom = 'header:x-sig'\n[time]\nfrom = 'header:x-time'";
    let catalog = own(toml);
    let seed = [7; 32];
    let public = hex::encode(
        ed25519_dalek::SigningKey::from_bytes(&seed)
            .verifying_key()
            .to_bytes(),
    );
    let verifier = Verifier::new(&catalog, &source("own"), &[public.as_str().into()])
        .unwrap_or_else(|errors| panic!("{errors:?}"));
    let sent = Sent::signed(&verifier, &hex::encode(seed).into(), "t", NOW, "{}");
    assert_eq!(sent.reason(&verifier), "accepted");
    assert_eq!(
        sent.clone().set("x-time", |_| "1".into()).reason(&verifier),
        "no_match"
    );
}

#[test]
fn an_unsigned_handshake_is_answered_and_nothing_else() {
    let toml = "algorithm = 'hmac-sha256'\n[signature]\nfrom = 'header:x-sig'\n[[challenge]]\nmethod = 'GET'\nwhen = {'query:challenge' = '*'}\nanswer = {echo = '{query:challenge}'}\nunsigned = true";
    let catalog = own(toml);
    let verifier = Verifier::new(&catalog, &source("own"), &["s".into()])
        .unwrap_or_else(|errors| panic!("{errors:?}"));
    let verify = |method, url| {
        verifier.verify(
            &Request {
                method,
                url: Some(url),
                query: None,
                headers: &[],
                body: &Bytes::new(),
            },
            NOW * 1000,
        )
    };
    let verified = verify("GET", "/hooks/own?challenge=a%22b").unwrap();
    let answer = ChallengeAnswer {
        status: 200,
        headers: Vec::new(),
        content_type: "application/json",
        body: Bytes::from_static(br#"{"echo":"a\"b"}"#),
    };
    assert_eq!(verified.challenge(), Some(&answer));
    assert_eq!(
        verify("POST", "/hooks/own?challenge=x").unwrap_err().reason,
        Reason::MissingSignature
    );
    assert_eq!(
        verify("GET", "/hooks/own").unwrap_err().reason,
        Reason::MissingSignature
    );
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_header_or_body_makes_it_panic_or_accept(signature in any::<String>(), time in any::<String>(), body in any::<String>()) {
            for (provider, names) in [("stripe", ["stripe-signature", "x"]), ("slack", ["x-slack-signature", "x-slack-request-timestamp"]),
                ("svix", ["svix-signature", "svix-timestamp"]), ("github", ["x-hub-signature-256", "x-github-delivery"])] {
                let verifier = verifier(&source(provider), &["whsec_AAEC"]);
                prop_assert!(Sent::new(&[(names[0], &signature), (names[1], &time)], &body).verify(&verifier, NOW).is_err());
            }
        }

        #[test]
        fn what_is_signed_is_accepted(body in any::<String>(), secret in "[!-~]{1,100}", at in NOW - 300..=NOW + 300) {
            for provider in ["stripe", "github", "slack", "shopify", "hmac"] {
                let verifier = verifier(&source(provider), &[&secret]);
                let sent = Sent::signed(&verifier, &secret.as_str().into(), "t", at, &body);
                prop_assert_eq!(sent.reason(&verifier), "accepted");
            }
        }
    }
}
