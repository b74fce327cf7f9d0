//! Where signatures, times and URLs are, and which count.

use super::*;

#[test]
fn padding_survives_a_pair_that_is_split_at_the_equals_sign() {
    let body = r#"{"event_id":"e1","event_type":"form_response"}"#;
    let digest = base64(&sha256(b"s", &[body]));
    assert!(digest.ends_with('='));
    let typeform = built_in("typeform", &["s"]);
    let sent = |signature: &str| Sent::new(&[("typeform-signature", signature)], body);
    assert_eq!(
        sent(&format!("sha256={digest}"))
            .verify(&typeform, NOW)
            .unwrap()
            .event_key()
            .unwrap_or_default(),
        "e1"
    );
    assert_eq!(sent(&digest).reason(&typeform), "malformed_signature");
    let sanity = built_in("sanity", &["s"]);
    let time = (NOW * 1000).to_string();
    let digest =
        base64::engine::general_purpose::URL_SAFE.encode(sha256(b"s", &[&time, ".", body]));
    for digest in [digest.as_str(), digest.trim_end_matches('=')] {
        let sent = Sent::new(
            &[("sanity-webhook-signature", &format!("t={time},v1={digest}"))],
            body,
        );
        assert_eq!(sent.reason(&sanity), "accepted", "{digest}");
    }
}

#[test]
fn milliseconds_are_not_seconds() {
    let body = "{}";
    for (provider, unit) in [("webflow", 1000), ("zoom", 1)] {
        let verifier = built_in(provider, &["s"]);
        let sent = |time: String| match provider {
            "webflow" => {
                let digest = hex::encode(sha256(b"s", &[&time, ":", body]));
                Sent::new(
                    &[
                        ("x-webflow-timestamp", &time),
                        ("x-webflow-signature", &digest),
                    ],
                    body,
                )
            }
            _ => {
                let digest = format!(
                    "v0={}",
                    hex::encode(sha256(b"s", &["v0:", &time, ":", body]))
                );
                Sent::new(
                    &[
                        ("x-zm-request-timestamp", &time),
                        ("x-zm-signature", &digest),
                    ],
                    body,
                )
            }
        };
        assert_eq!(
            sent((NOW * unit).to_string()).reason(&verifier),
            "accepted",
            "{provider}"
        );
        let other = if unit == 1 { NOW * 1000 } else { NOW };
        let expected = if unit == 1 {
            "timestamp_in_future"
        } else {
            "timestamp_too_old"
        };
        assert_eq!(
            sent(other.to_string()).reason(&verifier),
            expected,
            "{provider}"
        );
    }
}

#[test]
fn each_of_several_signatures_counts() {
    let body = r#"{"event_id":"e1"}"#;
    let time = NOW.to_string();
    let (zeros, digest) = (
        "0".repeat(64),
        hex::encode(sha256(b"s", &[&time, ":", body])),
    );
    let paddle = built_in("paddle-billing", &["s"]);
    for header in [
        format!("ts={time};h1={digest};h1={zeros}"),
        format!("ts={time};h1={zeros};h1={digest}"),
        format!("ts={time};h1={digest}"),
    ] {
        assert_eq!(
            Sent::new(&[("paddle-signature", &header)], body).reason(&paddle),
            "accepted",
            "{header}"
        );
    }
    let late = Sent::new(
        &[("paddle-signature", &format!("ts={time};h1={digest}"))],
        body,
    );
    assert_eq!(
        late.verify(&paddle, NOW + 6).err(),
        Some("timestamp_too_old")
    );

    let pagerduty = built_in("pagerduty", &["s"]);
    let digest = hex::encode(sha256(b"s", &[body]));
    assert_eq!(
        Sent::new(
            &[("x-pagerduty-signature", &format!("v1={zeros},v1={digest}"))],
            body
        )
        .reason(&pagerduty),
        "accepted"
    );
    let circleci = built_in("circleci", &["s"]);
    for (header, reason) in [
        (format!("v1={digest},v2={zeros}"), "accepted"),
        (format!("v2={digest}"), "malformed_signature"),
    ] {
        assert_eq!(
            Sent::new(&[("circleci-signature", &header)], body).reason(&circleci),
            reason,
            "{header}"
        );
    }

    let mollie = built_in("mollie", &["old", "s"]);
    let right = format!("sha256={digest}");
    let sent = Sent::new(
        &[
            ("x-mollie-signature", &zeros),
            ("x-mollie-signature", &right),
        ],
        body,
    );
    assert_eq!(sent.reason(&mollie), "accepted");
    assert_eq!(
        Sent::new(
            &[("x-mollie-signature", &format!("{zeros}, {right}"))],
            body
        )
        .reason(&mollie),
        "accepted"
    );
    assert_eq!(sent.body("{}").reason(&mollie), "no_match");
}

#[test]
fn thousands_of_signatures_are_refused_before_the_body_is_hashed() {
    let persona = built_in("persona", &["s"]);
    let group = format!(
        "t={NOW},v1={}",
        hex::encode(sha256(b"s", &[&NOW.to_string(), ".", "{}"]))
    );
    let sent = |times: usize| {
        Sent::new(
            &[(
                "persona-signature",
                vec![group.as_str(); times].join(" ").as_str(),
            )],
            "{}",
        )
    };
    assert_eq!(
        (sent(8).reason(&persona), sent(10_000).reason(&persona)),
        ("accepted", "malformed_signature")
    );

    let contentful = built_in("contentful", &["s"]);
    let listed = |names: usize| {
        let names: Vec<String> = (0..names).map(|index| format!("x-{index}")).collect();
        let (list, time) = (
            format!("x-contentful-signed-headers,{}", names.join(",")),
            (NOW * 1000).to_string(),
        );
        let signed = format!("POST\n/\nx-contentful-signed-headers:{list}\n{{}}");
        let signature = hex::encode(sha256(b"s", &[&signed]));
        let headers = [
            ("x-contentful-signed-headers", &*list),
            ("x-contentful-timestamp", &time),
            ("x-contentful-signature", &signature),
        ];
        Sent::new(&headers, "{}")
            .url("https://hooks.example.com/")
            .reason(&contentful)
    };
    assert_eq!(
        (listed(60), listed(10_000)),
        ("accepted", "missing_signature")
    );
}

#[test]
fn groups_have_a_time_each() {
    let body = r#"{"data":{"id":"e1"}}"#;
    let group = |at: i64, secret: &str| {
        format!(
            "t={at},v1={}",
            hex::encode(sha256(secret.as_bytes(), &[&at.to_string(), ".", body]))
        )
    };
    let persona = |header: String| Sent::new(&[("persona-signature", &header)], body);
    let (old, new) = (group(NOW, "old"), group(NOW + 7, "new"));
    for secret in ["old", "new"] {
        let verifier = built_in("persona", &[secret]);
        assert_eq!(
            persona(format!("{old} {new}")).reason(&verifier),
            "accepted",
            "{secret}"
        );
        assert_eq!(
            persona(format!("{new} {old}")).reason(&verifier),
            "accepted",
            "{secret}"
        );
        assert_eq!(
            persona(format!("{old} {new}")).body("{}").reason(&verifier),
            "no_match"
        );
        let (old_digest, new_time) = (
            old.split_once(',').unwrap().1,
            new.split_once(',').unwrap().0,
        );
        assert_eq!(
            persona(format!("{new_time},{old_digest}")).reason(&verifier),
            "no_match",
            "no group borrows another's time"
        );
        assert_eq!(
            persona(format!("{old} ").repeat(9)).reason(&built_in("persona", &["x"])),
            "malformed_signature"
        );
        assert_eq!(persona(" ".into()).reason(&verifier), "malformed_signature");
    }
}

#[test]
fn headers_of_one_name_carry_another_hash_elsewhere() {
    let body = r#"{"id":"notif_1","topic":"user.created"}"#;
    let by_256 = format!("sha256={}", hex::encode(sha256(b"s", &[body])));
    let by_1 = format!("sha1={}", hex::encode(sha1(b"s", &[body])));
    for (provider, right, wrong) in [
        ("bitbucket", &by_256, &by_1),
        ("intercom", &by_1, &by_256),
        ("jira", &by_256, &by_1),
    ] {
        let verifier = built_in(provider, &["s"]);
        assert_eq!(
            Sent::new(&[("x-hub-signature", right)], body).reason(&verifier),
            "accepted",
            "{provider}"
        );
        assert_eq!(
            Sent::new(&[("x-hub-signature", wrong)], body).reason(&verifier),
            "malformed_signature",
            "{provider}"
        );
        let relabelled = wrong.replace("sha256=", "sha1=").replace(
            "sha1=",
            if right.starts_with("sha1") {
                "sha1="
            } else {
                "sha256="
            },
        );
        assert_eq!(
            Sent::new(&[("x-hub-signature", &relabelled)], body).reason(&verifier),
            "no_match",
            "{provider}"
        );
    }
    let vercel = built_in("vercel", &["s"]);
    assert_eq!(
        Sent::new(
            &[("x-vercel-signature", &hex::encode(sha1(b"s", &[body])))],
            body
        )
        .reason(&vercel),
        "accepted"
    );
    assert_eq!(
        Sent::new(
            &[("x-vercel-signature", &hex::encode(sha256(b"s", &[body])))],
            body
        )
        .reason(&vercel),
        "no_match"
    );
}

#[test]
fn urls_are_signed_as_registered() {
    let body = r#"{"event_id":"e1"}"#;
    let square = built_in("square", &["s"]);
    let sent = Sent::new(
        &[(
            "x-square-hmacsha256-signature",
            &base64(&sha256(b"s", &[URL, body])),
        )],
        body,
    );
    assert_eq!(
        sent.clone()
            .url(URL)
            .verify(&square, NOW)
            .unwrap()
            .event_key()
            .unwrap_or_default(),
        "e1"
    );
    assert_eq!(
        sent.clone().url(&format!("{URL}/")).reason(&square),
        "no_match"
    );
    assert_eq!(sent.reason(&square), "unsupported");
    let trello = built_in("trello", &["s"]);
    let sent = Sent::new(
        &[("x-trello-webhook", &base64(&sha1(b"s", &[body, URL])))],
        body,
    )
    .url(URL);
    assert_eq!(sent.reason(&trello), "accepted");

    let hubspot = built_in("hubspot-v3", &["s"]);
    let time = (NOW * 1000).to_string();
    let decoded = format!("{URL}?to=a@b.c&q=%20x/y%22");
    let signature = base64(&sha256(b"s", &["POST", &decoded, body, &time]));
    let sent = Sent::new(
        &[
            ("x-hubspot-signature-v3", &signature),
            ("x-hubspot-request-timestamp", &time),
        ],
        body,
    );
    let escaped = format!("{URL}?to=a%40b.c&q=%20x%2fy%22");
    assert_eq!(sent.clone().url(&escaped).reason(&hubspot), "accepted");
    assert_eq!(
        sent.clone()
            .url(&format!("{URL}?to=a%40b.c&q=%20x%2fz%22"))
            .reason(&hubspot),
        "no_match"
    );
    let as_sent = base64(&sha256(b"s", &["POST", &escaped, body, &time]));
    assert_eq!(
        sent.set("x-hubspot-signature-v3", |_| as_sent.clone())
            .url(&escaped)
            .reason(&hubspot),
        "accepted"
    );
}

#[test]
fn numbered_and_twin_headers_each_count() {
    let body = "{}";
    let right = base64(&sha256(b"two", &[body]));
    let wrong = base64(&[0; 32]);
    let docusign = built_in("docusign", &["one", "two"]);
    let sent = Sent::new(
        &[
            ("x-docusign-signature-1", &wrong),
            ("x-docusign-signature-2", &right),
        ],
        body,
    );
    assert_eq!(sent.reason(&docusign), "accepted");
    assert_eq!(
        sent.without("x-docusign-signature-2").reason(&docusign),
        "no_match"
    );
    let many: Vec<(String, &str)> = (0..10_000)
        .map(|index| (format!("x-docusign-signature-{index}"), wrong.as_str()))
        .collect();
    let many: Vec<(&str, &str)> = many
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    assert_eq!(
        Sent::new(&many, body).reason(&docusign),
        "malformed_signature"
    );

    let time = "2027-01-15T08:00:00Z";
    let right = base64(&sha256(b"two", &[body, time]));
    let boxed = built_in("box", &["one", "two"]);
    for names in [
        ["box-signature-primary", "box-signature-secondary"],
        ["box-signature-secondary", "box-signature-primary"],
    ] {
        let sent = Sent::new(
            &[
                (names[0], &right),
                (names[1], &wrong),
                ("box-delivery-timestamp", time),
            ],
            body,
        );
        assert_eq!(sent.reason(&boxed), "accepted", "{names:?}");
    }
}

#[test]
fn grafana_signs_the_time_where_it_is_sent() {
    let grafana = built_in("grafana", &["s"]);
    let (body, time) = ("{}", NOW.to_string());
    let sent = |digest: Vec<u8>| {
        Sent::new(
            &[("x-grafana-alerting-signature", &hex::encode(digest))],
            body,
        )
    };
    assert_eq!(sent(sha256(b"s", &[body])).reason(&grafana), "accepted");
    let timed = sent(sha256(b"s", &[&time, ":", body])).plus("x-grafana-alerting-timestamp", &time);
    assert_eq!(timed.reason(&grafana), "accepted");
    assert_eq!(
        timed
            .without("x-grafana-alerting-timestamp")
            .reason(&grafana),
        "no_match"
    );
}
