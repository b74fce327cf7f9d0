//! Which key a secret as it is shown stands for, and secrets that are sent themselves.

use super::*;

#[test]
fn a_secret_is_text_or_base64_as_its_provider_has_it() {
    let body = r#"{"id":"1"}"#;
    let text = "whsec_AAECAwQFBgcICQoL";
    let (as_text, decoded) = (text.as_bytes().to_vec(), (0..12).collect::<Vec<u8>>());
    let time = NOW.to_string();
    for (provider, right, wrong) in [
        ("stripe", &as_text, &decoded),
        ("resend", &decoded, &as_text),
        ("polar", &as_text, &decoded),
    ] {
        let verifier = built_in(provider, &[text]);
        let sent = |key: &[u8]| {
            if provider == "stripe" {
                let digest = hex::encode(sha256(key, &[&time, ".", body]));
                return Sent::new(
                    &[("stripe-signature", &format!("t={time},v1={digest}"))],
                    body,
                );
            }
            let names = if provider == "resend" {
                ["svix-id", "svix-timestamp", "svix-signature"]
            } else {
                ["webhook-id", "webhook-timestamp", "webhook-signature"]
            };
            let signature = format!(
                "v1,{}",
                base64(&sha256(key, &["m1", ".", &time, ".", body]))
            );
            Sent::new(
                &[(names[0], "m1"), (names[1], &time), (names[2], &signature)],
                body,
            )
        };
        assert_eq!(sent(right).reason(&verifier), "accepted", "{provider}");
        assert_eq!(sent(wrong).reason(&verifier), "no_match", "{provider}");
    }
    let supabase = built_in("supabase-auth-hook", &["v1,whsec_AAECAwQFBgcICQoL"]);
    let signature = format!(
        "v1,{}",
        base64(&sha256(&decoded, &["m1", ".", &time, ".", body]))
    );
    let sent = Sent::new(
        &[
            ("webhook-id", "m1"),
            ("webhook-timestamp", &time),
            ("webhook-signature", &signature),
        ],
        body,
    );
    assert_eq!(sent.reason(&supabase), "accepted");
    for (provider, secret, key) in [
        ("adyen-platform", "00ff10", &[0, 255, 16][..]),
        ("xero", "AAEC", b"AAEC"),
        ("msteams-outgoing", "AAEC", &[0, 1, 2]),
    ] {
        let header = match provider {
            "adyen-platform" => "hmacsignature",
            "xero" => "x-xero-signature",
            _ => "authorization",
        };
        let prefix = if provider == "msteams-outgoing" {
            "HMAC "
        } else {
            ""
        };
        let sent = Sent::new(
            &[(
                header,
                &format!("{prefix}{}", base64(&sha256(key, &[body]))),
            )],
            body,
        );
        assert_eq!(
            sent.reason(&built_in(provider, &[secret])),
            "accepted",
            "{provider}"
        );
    }
}

#[test]
fn plain_hashes_have_the_secret_where_their_provider_puts_it() {
    let body = r#"[{"eventId":1}]"#;
    let hash = |parts: &[&str]| hex::encode(Sha256::digest(parts.concat()));
    let v1 = built_in("hubspot-v1", &["s"]);
    let verified = Sent::new(&[("x-hubspot-signature", &hash(&["s", body]))], body)
        .verify(&v1, NOW)
        .unwrap();
    assert_eq!(verified.event_key(), None, "eventId alone is no key");
    assert_eq!(
        Sent::new(&[("x-hubspot-signature", &hash(&[body, "s"]))], body).reason(&v1),
        "no_match"
    );
    let v2 = built_in("hubspot-v2", &["s"]);
    assert_eq!(
        Sent::new(
            &[("x-hubspot-signature", &hash(&["s", "POST", URL, body]))],
            body
        )
        .url(URL)
        .reason(&v2),
        "accepted"
    );
    let cloudinary = built_in("cloudinary", &["old", "s"]);
    let content = [body, &NOW.to_string(), "s"].concat();
    for (digest, reason) in [
        (hex::encode(Sha1::digest(&content)), "accepted"),
        (hex::encode(Sha256::digest(&content)), "accepted"),
        (hex::encode(Sha512::digest(&content)), "no_match"),
    ] {
        let sent = Sent::new(
            &[
                ("x-cld-signature", &digest),
                ("x-cld-timestamp", &NOW.to_string()),
            ],
            body,
        );
        assert_eq!(sent.reason(&cloudinary), reason, "{digest}");
    }
}

#[test]
fn keccak_is_the_one_from_before_sha_3() {
    let moralis = built_in("moralis", &["secret"]);
    // This signature is by another implementation.
    let right = "0xdbfe4067a06b2e91e86f52679d6bcd2f9b52b143853b2c1b2565ba0520bc2c10";
    let sent = |signature: &str| Sent::new(&[("x-signature", signature)], r#"{"id":"1"}"#);
    assert_eq!(sent(right).reason(&moralis), "accepted");
    let sha3 = format!(
        "0x{}",
        hex::encode(sha3::Sha3_256::digest(r#"{"id":"1"}secret"#))
    );
    assert_eq!(sent(&sha3).reason(&moralis), "no_match");
    assert_eq!(sent(&right[2..]).reason(&moralis), "malformed_signature");
}

#[test]
fn ways_to_authenticate_have_no_case() {
    for (provider, secret, header) in [
        ("chargebee", "user:password", "basic dXNlcjpwYXNzd29yZA=="),
        ("postmark", "user:password", "BASIC dXNlcjpwYXNzd29yZA=="),
        ("token", "t", "bearer t"),
    ] {
        let verifier = built_in(provider, &[secret]);
        let sent = Sent::new(&[("authorization", header)], r#"{"id":"1"}"#);
        assert_eq!(sent.reason(&verifier), "accepted", "{provider}");
    }
    let github = built_in("github", &["s"]);
    let signature = format!("SHA256={}", hex::encode(sha256(b"s", &["{}"])));
    assert_eq!(
        Sent::new(&[("x-hub-signature-256", &signature)], "{}").reason(&github),
        "malformed_signature"
    );
}

#[test]
fn tokens_stand_in_headers_urls_and_bodies() {
    let basic = format!("Basic {}", base64(b"user:pass"));
    for (provider, secret, headers, url, body, reason) in [
        (
            "chargebee",
            "user:pass",
            &[("authorization", basic.as_str())][..],
            URL,
            "{}",
            "accepted",
        ),
        (
            "chargebee",
            "user:word",
            &[("authorization", basic.as_str())],
            URL,
            "{}",
            "no_match",
        ),
        (
            "chargebee",
            "user:pass",
            &[("authorization", "user:pass")],
            URL,
            "{}",
            "malformed_signature",
        ),
        (
            "postmark",
            "user:pass",
            &[("authorization", basic.as_str())],
            URL,
            "{}",
            "accepted",
        ),
        (
            "okta",
            "my key",
            &[("authorization", "my key")],
            URL,
            "{}",
            "accepted",
        ),
        (
            "okta",
            "Bearer k",
            &[("authorization", "Bearer k")],
            URL,
            "{}",
            "accepted",
        ),
        (
            "okta",
            "k",
            &[("authorization", "bearer k")],
            URL,
            "{}",
            "accepted",
        ),
        (
            "okta",
            "k",
            &[("authorization", "Basic k!")],
            URL,
            "{}",
            "malformed_signature",
        ),
        (
            "figma",
            "pass",
            &[],
            URL,
            r#"{"passcode":"pass","event_type":"PING"}"#,
            "accepted",
        ),
        (
            "figma",
            "pass",
            &[],
            URL,
            r#"{"passcode":"other"}"#,
            "no_match",
        ),
        (
            "figma",
            "pass",
            &[],
            URL,
            r#"{"a":{"passcode":"pass"}}"#,
            "missing_signature",
        ),
        (
            "ms-graph",
            "t",
            &[],
            URL,
            r#"{"value":[{"clientState":"t"},{"clientState":"t"}]}"#,
            "accepted",
        ),
        (
            "ms-graph",
            "t",
            &[],
            URL,
            r#"{"value":[{"clientState":"t"},{"clientState":"u"}]}"#,
            "no_match",
        ),
        (
            "ms-graph",
            "t",
            &[],
            URL,
            r#"{"value":[]}"#,
            "missing_signature",
        ),
        (
            "shippo",
            "t",
            &[],
            "https://x.example/?token=t",
            "{}",
            "accepted",
        ),
        (
            "shippo",
            "t",
            &[],
            "https://x.example/?a=b&key=t",
            "{}",
            "accepted",
        ),
        (
            "shippo",
            "t",
            &[],
            "https://x.example/?token=u#?token=t",
            "{}",
            "no_match",
        ),
        (
            "telegram",
            "t",
            &[("x-telegram-bot-api-secret-token", "t")],
            URL,
            r#"{"update_id":1,"message":{}}"#,
            "accepted",
        ),
    ] {
        let sent = Sent::new(headers, body).url(url);
        assert_eq!(
            sent.reason(&built_in(provider, &[secret])),
            reason,
            "{provider} {headers:?} {url} {body}"
        );
    }
}

#[test]
fn secrets_are_decomposed_and_names_of_members_are_types() {
    let body = r#"{"id":"evt_1","description":"tracker.updated"}"#;
    let easypost = built_in("easypost", &["sécrèt"]);
    let digest = hex::encode(sha256("se\u{301}cre\u{300}t".as_bytes(), &[body]));
    assert_eq!(
        Sent::new(
            &[("x-hmac-signature", &format!("hmac-sha256-hex={digest}"))],
            body
        )
        .reason(&easypost),
        "accepted"
    );
    let x = built_in("x-twitter", &["s"]);
    let body = r#"{"for_user_id":"1","favorite_events":[]}"#;
    let signature = format!("sha256={}", base64(&sha256(b"s", &[body])));
    let verified = Sent::new(&[("x-twitter-webhooks-signature", &signature)], body)
        .verify(&x, NOW)
        .unwrap();
    assert_eq!(verified.event_type(), Some("favorite_events"));
    let telegram = built_in("telegram", &["t"]);
    let body = r#"{"update_id":10000,"edited_message":{"text":"x"}}"#;
    let verified = Sent::new(&[("x-telegram-bot-api-secret-token", "t")], body)
        .verify(&telegram, NOW)
        .unwrap();
    assert_eq!(
        (
            verified.event_key().unwrap_or_default(),
            verified.event_type()
        ),
        ("10000", Some("edited_message"))
    );
}

#[test]
fn a_key_id_is_told_when_nothing_matches() {
    let pusher = built_in("pusher", &["s"]);
    let sent = Sent::new(
        &[
            ("x-pusher-key", "278d425bdf160c739803"),
            ("x-pusher-signature", &"0".repeat(64)),
        ],
        "{}",
    );
    let headers: Vec<(&str, &[u8])> = sent
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    let request = super::Request {
        method: "POST",
        url: None,
        query: None,
        headers: &headers,
        body: &sent.body,
    };
    let rejection = pusher.verify(&request, NOW * 1000).unwrap_err();
    assert!(
        rejection.detail.contains("278d425bdf160c739803"),
        "{}",
        rejection.detail
    );
}
