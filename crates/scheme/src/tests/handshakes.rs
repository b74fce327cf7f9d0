//! Handshakes of the built-in schemes: what is answered, and what is not.

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use sha2::Sha256;

use super::*;

fn hmac(secret: &str, content: &str) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .unwrap()
        .chain_update(content)
        .finalize()
        .into_bytes()
        .to_vec()
}

fn built_in(provider: &str, secrets: &[&str]) -> Verifier {
    verifier(&source(provider), secrets)
}

fn json_answer(sent: &Sent, verifier: &Verifier) -> Value {
    serde_json::from_str(&sent.answer(verifier).unwrap()).unwrap()
}

#[test]
fn a_challenge_in_the_url_comes_back_as_text() {
    for (provider, name) in [("dropbox", "challenge"), ("nylas", "challenge")] {
        let verifier = built_in(provider, &["s"]);
        let sent = Sent::get(&format!("{URL}?a=b&{name}=a%20%3Cb%3E"));
        assert_eq!(
            sent.answer(&verifier).as_deref(),
            Some("a <b>"),
            "{provider}"
        );
        assert_eq!(
            sent.verify(&verifier, NOW)
                .unwrap()
                .challenge()
                .unwrap()
                .content_type,
            "text/plain"
        );
        assert_eq!(
            Sent::get(URL).reason(&verifier),
            "missing_signature",
            "{provider}"
        );
        let posted = Sent {
            method: "POST",
            ..sent
        };
        assert_eq!(posted.reason(&verifier), "missing_signature", "{provider}");
        let long = Sent::get(&format!("{URL}?{name}={}", "x".repeat(5000)));
        assert_eq!(long.reason(&verifier), "missing_signature", "{provider}");
    }
    let graph = built_in("ms-graph", &["s"]);
    let sent = Sent {
        method: "POST",
        ..Sent::get(&format!("{URL}?validationToken=Validation%3A+Testing"))
    };
    assert_eq!(sent.answer(&graph).as_deref(), Some("Validation: Testing"));
}

#[test]
fn meta_is_answered_only_with_the_right_token() {
    let url = |token: &str| {
        format!("{URL}?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={token}")
    };
    let token = SecretString::from("meaty hamburgers");
    let meta = built_in("meta", &["app secret"]).with_verify_token(Some(&token));
    assert_eq!(
        Sent::get(&url("meaty%20hamburgers"))
            .answer(&meta)
            .as_deref(),
        Some("1158201444")
    );
    assert_eq!(Sent::get(&url("app%20secret")).reason(&meta), "no_match");
    assert_eq!(Sent::get(&url("")).reason(&meta), "no_match");
    assert_eq!(
        Sent::get(&format!("{URL}?hub.mode=subscribe&hub.challenge=1")).reason(&meta),
        "no_match"
    );
    assert_eq!(
        Sent::get(&format!("{URL}?hub.challenge=1")).reason(&meta),
        "missing_signature"
    );
    let without = built_in("meta", &["app secret", "other"]);
    assert_eq!(
        Sent::get(&url("other")).answer(&without).as_deref(),
        Some("1158201444")
    );
    assert_eq!(Sent::get(&url("third")).reason(&without), "no_match");
}

#[test]
fn a_computed_answer_shows_that_the_secret_is_known() {
    let x = built_in("x-twitter", &["consumer secret"]);
    use base64::Engine as _;
    let expected = {
        format!(
            "sha256={}",
            base64::engine::general_purpose::STANDARD
                .encode(hmac("consumer secret", "challenge string"))
        )
    };
    assert_eq!(
        json_answer(&Sent::get(&format!("{URL}?crc_token=challenge+string")), &x),
        json!({ "response_token": expected })
    );

    // The digest is given to anybody who asks, and is made with the key that signs events. So none
    // is made of a text that may be an event …
    for text in [
        "%7B%22for_user_id%22:1%7D",
        "%5B%5D",
        "%22text%22",
        "a%26b=c",
        "two%0Alines",
        "%C3%BC",
        &"x".repeat(257),
    ] {
        assert_eq!(
            Sent::get(&format!("{URL}?crc_token={text}")).reason(&x),
            "missing_signature",
            "{text}"
        );
    }
    // … and what one was made of is no event.
    let signature = |body: &str| {
        format!(
            "sha256={}",
            base64::prelude::BASE64_STANDARD.encode(hmac("consumer secret", body))
        )
    };
    for (body, verdict) in [
        ("challenge string", "no_match"),
        ("", "no_match"),
        (r#"{"for_user_id":"1"}"#, "accepted"),
    ] {
        assert_eq!(
            Sent::new(&[("x-twitter-webhooks-signature", &signature(body))], body).reason(&x),
            verdict,
            "{body}"
        );
    }

    // The second secret signs, so the second answers.
    let zoom = built_in("zoom", &["other", "s"]);
    let body = r#"{"payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"},"event_ts":1654503849680,"event":"endpoint.url_validation"}"#;
    let sent = Sent::signed(&zoom, &"s".into(), "", NOW, body);
    let encrypted = hex::encode(hmac("s", "qgg8vlvZRS6UYooatFL8Aw"));
    assert_eq!(
        json_answer(&sent, &zoom),
        json!({ "plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": encrypted })
    );
    assert_eq!(
        sent.clone().without("x-zm-signature").reason(&zoom),
        "missing_signature"
    );
    assert_eq!(
        sent.set("x-zm-signature", |_| format!("v0={}", "0".repeat(64)))
            .reason(&zoom),
        "no_match"
    );
}

#[test]
fn signed_challenges_are_answered_only_where_the_signature_is_right() {
    let twitch = built_in("twitch", &["s"]);
    let sent = Sent::signed(
        &twitch,
        &"s".into(),
        "stream.online",
        NOW,
        r#"{"challenge":"pogchamp","subscription":{}}"#,
    );
    let verification = sent.clone().plus(
        "twitch-eventsub-message-type",
        "webhook_callback_verification",
    );
    assert_eq!(verification.answer(&twitch).as_deref(), Some("pogchamp"));
    assert_eq!(
        verification.body(r#"{"challenge":"x"}"#).reason(&twitch),
        "no_match"
    );
    assert_eq!(
        sent.plus("twitch-eventsub-message-type", "notification")
            .answer(&twitch),
        None
    );

    let front = built_in("front", &["s"]);
    let sent = Sent::signed(&front, &"s".into(), "sync", NOW, r#"{"type":"sync"}"#)
        .plus("x-front-challenge", "c-1");
    assert_eq!(sent.answer(&front).as_deref(), Some("c-1"));
    assert_eq!(
        sent.without("x-front-signature").reason(&front),
        "missing_signature"
    );

    let azure = built_in("azure-event-grid", &["t0ken"]);
    let body = r#"[{"id":"1","eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","data":{"validationCode":"0000"}}]"#;
    let sent = Sent::new(&[("aeg-event-type", "SubscriptionValidation")], body);
    assert_eq!(
        json_answer(&sent.clone().url(&format!("{URL}?code=t0ken")), &azure),
        json!({ "validationResponse": "0000" })
    );
    assert_eq!(
        sent.url(&format!("{URL}?code=wrong")).reason(&azure),
        "no_match"
    );
}

#[test]
fn discords_pings_are_told_from_its_events() {
    let secret =
        super::generate_secret(catalog().get("discord").unwrap(), &mut rand::rng()).unwrap();
    let discord = built_in("discord", &[secret.expose_secret()]);
    let sent = |body: &str| Sent::signed(&discord, &secret, "", NOW, body);
    let status = |sent: &Sent| {
        sent.verify(&discord, NOW)
            .unwrap()
            .challenge()
            .map(|answer| answer.status)
    };
    let ping = sent(r#"{"version":1,"application_id":"1","type":0}"#);
    assert_eq!(
        (status(&ping), ping.answer(&discord).as_deref()),
        (Some(204), Some(""))
    );
    let interaction = sent(r#"{"application_id":"1","id":"2","token":"t","type":1,"version":1}"#);
    assert_eq!(json_answer(&interaction, &discord), json!({ "type": 1 }));
    let event = sent(
        r#"{"version":1,"application_id":"1","type":1,"event":{"type":"APPLICATION_AUTHORIZED","timestamp":"x"}}"#,
    );
    assert_eq!(
        event.verify(&discord, NOW).unwrap().event_type(),
        Some("APPLICATION_AUTHORIZED")
    );
    assert_eq!(status(&event), None);
}

#[test]
fn headers_are_echoed_and_methods_asked_for() {
    let okta = built_in("okta", &["s"]);
    let mut sent = Sent::get(URL).plus("x-okta-verification-challenge", "abc\"");
    assert_eq!(
        json_answer(&sent, &okta),
        json!({ "verification": "abc\"" })
    );
    sent.method = "POST";
    assert_eq!(sent.reason(&okta), "missing_signature");

    let echoed = |sent: &Sent, verifier: &Verifier| {
        sent.verify(verifier, NOW)
            .unwrap()
            .challenge()
            .unwrap()
            .headers
            .clone()
    };
    let ring = built_in("ringcentral", &["s"]);
    let sent = Sent::new(&[("validation-token", "v-1")], "");
    assert_eq!(
        echoed(&sent, &ring),
        [("validation-token".to_owned(), "v-1".to_owned())]
    );
    assert_eq!(
        sent.set("validation-token", |_| "a\r\nb: c".into())
            .reason(&ring),
        "missing_signature"
    );

    for provider in ["cloudevents-webhook", "azure-event-grid"] {
        let verifier = built_in(provider, &["s"]);
        let sent = Sent {
            method: "OPTIONS",
            ..Sent::new(
                &[("webhook-request-origin", "eventemitter.example.com")],
                "",
            )
        };
        let expected = [
            ("webhook-allowed-origin", "eventemitter.example.com"),
            ("webhook-allowed-rate", "*"),
        ];
        assert_eq!(
            echoed(&sent, &verifier),
            expected.map(|(name, value)| (name.to_owned(), value.to_owned())),
            "{provider}"
        );
    }
    for provider in ["trello", "intercom"] {
        let verifier = built_in(provider, &["s"]);
        assert_eq!(
            Sent {
                method: "HEAD",
                ..Sent::get(URL)
            }
            .answer(&verifier)
            .as_deref(),
            Some(""),
            "{provider}"
        );
        assert!(verifier.takes_method("HEAD") && !verifier.takes_method("GET"));
    }
    let woo = built_in("woocommerce", &["s"]);
    assert_eq!(
        Sent::new(&[], "webhook_id=7").answer(&woo).as_deref(),
        Some("")
    );
    let forged = Sent::new(&[("x-wc-webhook-signature", "AAAA")], "webhook_id=7");
    assert_eq!(forged.reason(&woo), "no_match");
    assert_eq!(
        Sent::new(&[], r#"{"a":"&webhook_id=7"}"#).reason(&woo),
        "missing_signature"
    );
}

#[test]
fn a_secret_is_learnt_once_and_only_where_there_is_none() {
    let learnt = |sent: &Sent, verifier: &Verifier| {
        let verified = sent.verify(verifier, NOW).unwrap();
        assert!(verified.challenge().is_some());
        verified
            .learnt_secret()
            .map(|secret| secret.expose_secret().to_owned())
    };
    let asana = Sent::new(
        &[("x-hook-secret", "b537207f20cbfa02357cf448134da559")],
        "{}",
    );
    let notion = Sent::new(
        &[],
        r#"{"verification_token":"secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl"}"#,
    );
    for (provider, sent) in [("asana", &asana), ("notion", &notion)] {
        let open = open_source(provider);
        assert!(open.is_open());
        let secret = learnt(sent, &open).unwrap();
        let known = built_in(provider, &[&secret]);
        assert!(!known.is_open());
        assert_eq!(
            learnt(sent, &known),
            None,
            "{provider}: the same again is answered, and not learnt again"
        );
        assert_eq!(
            sent.reason(&built_in(provider, &["another"])),
            "no_match",
            "{provider}"
        );
        let event = Sent::signed(
            &known,
            &secret.as_str().into(),
            "",
            NOW,
            r#"{"id":"e1","events":[]}"#,
        );
        assert_eq!(event.reason(&known), "accepted", "{provider}");
        assert_eq!(
            event.reason(&open),
            "no_match",
            "{provider}: nothing is accepted without a secret"
        );
    }
    let echoed = asana.verify(&open_source("asana"), NOW).unwrap();
    assert_eq!(
        echoed.challenge().unwrap().headers,
        [(
            "x-hook-secret".to_owned(),
            "b537207f20cbfa02357cf448134da559".to_owned()
        )]
    );
    assert_eq!(echoed.challenge().unwrap().body, Bytes::new());
    let both = asana.plus("x-hook-signature", "00");
    assert_eq!(both.reason(&open_source("asana")), "no_match");
    let errors = |source: &SourceSpec| {
        Verifier::new(&catalog(), source, &[])
            .err()
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert!(
        errors(&source("asana"))[0].starts_with("secrets: is missing: set `learn_secret"),
        "only where the source says so"
    );
    assert!(
        errors(&SourceSpec {
            learn_secret: true,
            ..source("stripe")
        })[0]
            .starts_with("learn_secret: this provider brings no")
    );
}

fn open_source(provider: &str) -> Verifier {
    verifier(
        &SourceSpec {
            learn_secret: true,
            ..source(provider)
        },
        &[],
    )
}

#[test]
fn mistakes_in_a_challenge_are_named() {
    let base = "algorithm = 'hmac-sha256'\n[signature]\nfrom = 'header:x'\n[[challenge]]\n";
    for (toml, expected) in [
        ("answer = 'x'", "challenge[0].when: is missing"),
        ("method = 'PUT'", "challenge[0].method: must be"),
        (
            "method = 'GET'\nstatus = 302",
            "challenge[0].status: must be 200 to 299",
        ),
        (
            "method = 'GET'\nwhen = {'x' = '1'}",
            "challenge[0].when.x: \"x\" names no place",
        ),
        (
            "method = 'GET'\nanswer = '{mac}'",
            "challenge[0].mac: is missing",
        ),
        (
            "method = 'GET'\nanswer = {a = '{secret}'}",
            "challenge[0].answer.a: {secret}",
        ),
        (
            "method = 'GET'\nheaders = {'a b' = 'x'}",
            "challenge[0].headers.a b: is no header name",
        ),
        (
            "method = 'GET'\nmac = 'x'",
            "challenge[0].mac: \"x\" signs nothing",
        ),
        (
            "method = 'GET'\nkeep = 'x'",
            "challenge[0].keep: \"x\" names no place",
        ),
    ] {
        let spec = toml::from_str(&format!("{base}{toml}")).unwrap();
        let errors = crate::plan::compiled::Plan::new(&spec)
            .err()
            .unwrap_or_default();
        assert!(
            errors
                .iter()
                .any(|error| error.to_string().starts_with(expected)),
            "{toml}\n{errors:?}"
        );
    }
}
