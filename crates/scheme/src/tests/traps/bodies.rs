//! What of a body is signed, and in which form.

use super::*;

#[test]
fn form_bodies_are_signed_raw() {
    let body = "action=scheduled&id=7&note=a%20b+c";
    let acuity = built_in("acuity", &["key"]);
    let sent = Sent::new(
        &[("x-acuity-signature", &base64(&sha256(b"key", &[body])))],
        body,
    );
    assert_eq!(
        sent.verify(&acuity, NOW).unwrap().event_type(),
        Some("scheduled")
    );
    assert_eq!(
        sent.body("id=7&action=scheduled&note=a%20b+c")
            .reason(&acuity),
        "no_match"
    );

    let github = built_in("github", &["s"]);
    let body = "payload=%7B%22action%22%3A%22opened%22%7D";
    let signature = format!("sha256={}", hex::encode(sha256(b"s", &[body])));
    assert_eq!(
        Sent::new(&[("x-hub-signature-256", &signature)], body).reason(&github),
        "accepted"
    );
}

#[test]
fn gitea_signs_the_payload_within_the_form() {
    let gitea = built_in("gitea", &["s"]);
    let json = r#"{"ref":"refs/heads/main&payload=x"}"#;
    let signature = hex::encode(sha256(b"s", &[json]));
    let form: String = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("payload", json)
        .finish();
    for body in [json, &form] {
        let sent = Sent::new(
            &[
                ("x-gitea-signature", &signature),
                ("x-gitea-event", "push"),
                ("x-gitea-delivery", "d"),
            ],
            body,
        );
        assert_eq!(
            sent.verify(&gitea, NOW).unwrap().event_type(),
            Some("push"),
            "{body}"
        );
        assert_eq!(
            sent.clone().body("payload=%7B%7D").reason(&gitea),
            "no_match"
        );
        assert_eq!(
            sent.set("x-gitea-signature", |_| String::new())
                .reason(&gitea),
            "missing_signature",
            "made without a secret"
        );
    }
}

#[test]
fn digests_in_upper_case_and_bodies_with_line_ends_are_right_as_they_are() {
    let body = "{\"notificationId\":\"n1\"}\r\n";
    let digest = {
        let mac = Hmac::<Sha512>::new_from_slice(b"ABCDEF")
            .unwrap()
            .chain_update(body);
        hex::encode_upper(mac.finalize().into_bytes())
    };
    let authorize = built_in("authorize-net", &["ABCDEF"]);
    let sent = Sent::new(&[("x-anet-signature", &format!("sha512={digest}"))], body);
    assert_eq!(
        sent.verify(&authorize, NOW)
            .unwrap()
            .event_key()
            .unwrap_or_default(),
        "n1"
    );
    assert_eq!(sent.body(body.trim_end()).reason(&authorize), "no_match");
}

#[test]
fn what_is_packed_is_signed_packed_or_unpacked() {
    let body = r#"{"id":"e1","type":"message.new"}"#;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body.as_bytes()).unwrap();
    let packed = Bytes::from(encoder.finish().unwrap());
    let over = |bytes: &[u8]| {
        hex::encode(
            Hmac::<Sha256>::new_from_slice(b"s")
                .unwrap()
                .chain_update(bytes)
                .finalize()
                .into_bytes(),
        )
    };
    for (provider, header, right, wrong) in [
        (
            "stream",
            "x-signature",
            over(body.as_bytes()),
            over(&packed),
        ),
        (
            "nylas",
            "x-nylas-signature",
            over(&packed),
            over(body.as_bytes()),
        ),
    ] {
        let verifier = built_in(provider, &["s"]);
        let sent = |signature: &str| Sent {
            body: packed.clone(),
            ..Sent::new(&[(header, signature)], "")
        };
        let verified = sent(&right).verify(&verifier, NOW).unwrap();
        assert_eq!(
            (verified.event_type(), verified.body()),
            (Some("message.new"), &packed),
            "{provider}"
        );
        assert_eq!(
            verified.digest(),
            &crate::digest::BodyDigest::of(body.as_bytes()),
            "{provider}: repacked it is the same event"
        );
        assert_eq!(sent(&wrong).reason(&verifier), "no_match", "{provider}");
        assert_eq!(
            Sent::new(&[(header, &over(body.as_bytes()))], body).reason(&verifier),
            "accepted",
            "{provider}: not packed"
        );
        assert_eq!(
            Sent {
                body: packed.slice(..15),
                ..sent(&right)
            }
            .reason(&verifier),
            "malformed_request",
            "{provider}"
        );
    }
}

#[test]
fn a_body_may_be_signed_with_what_is_not_ascii_escaped() {
    let boxed = built_in("box", &["key"]);
    let (time, body) = ("2027-01-15T08:00:00Z", r#"{"id":"7","name":"Zoë 😀"}"#);
    let sent = |signed: &str| {
        let signature = base64(&sha256(b"key", &[signed, time]));
        Sent::new(
            &[
                ("box-signature-primary", &signature),
                ("box-delivery-timestamp", time),
            ],
            body,
        )
    };
    assert_eq!(sent(body).reason(&boxed), "accepted");
    assert_eq!(
        sent(r#"{"id":"7","name":"Zo\u00eb \ud83d\ude00"}"#).reason(&boxed),
        "accepted"
    );
    assert_eq!(
        sent(r#"{"id":"7","name":"Zoe 😀"}"#).reason(&boxed),
        "no_match"
    );
    let other =
        sent(r#"{"id":"7","name":"Zo\u00eb \ud83d\ude00"}"#).body(r#"{"id":"8","name":"Zoë 😀"}"#);
    assert_eq!(other.reason(&boxed), "no_match");
}

#[test]
fn a_batch_of_segment_is_signed_by_its_first_event() {
    let segment = built_in("segment", &["s"]);
    let first = r#"{"messageId":"m1","type":"track"}"#;
    let signature = hex::encode(sha1(b"s", &[first]));
    let sent = |body: &str| Sent::new(&[("x-signature", &signature)], body);
    let verified = sent(&format!("[{first},{{\"messageId\":\"m2\"}}]"))
        .verify(&segment, NOW)
        .unwrap();
    assert_eq!(
        (
            verified.event_key().unwrap_or_default(),
            verified.event_type(),
            verified.key_is_signed()
        ),
        ("m1.m1,m2", Some("track"), false)
    );
    assert_eq!(sent(first).reason(&segment), "accepted");
    assert_eq!(
        sent(&format!("[{{}},{first}]")).reason(&segment),
        "no_match"
    );
}

#[test]
fn what_two_sources_tell_differently_is_taken_either_way() {
    let (body, time) = (r#"{"data":[]}"#, NOW.to_string());
    let klaviyo = built_in("klaviyo", &["a secret of sixteen"]);
    let digest = sha256(b"a secret of sixteen", &[body, &time]);
    for (signature, reason) in [
        (hex::encode(&digest), "accepted"),
        (base64(&digest), "accepted"),
        (hex::encode(&digest[..16]), "no_match"),
    ] {
        let sent = Sent::new(
            &[
                ("klaviyo-signature", &signature),
                ("klaviyo-timestamp", &time),
            ],
            body,
        );
        assert_eq!(sent.reason(&klaviyo), reason, "{signature}");
    }
    let mailgun = built_in("mailgun", &["s"]);
    let signature = hex::encode(sha256(b"s", &[&time, "token1"]));
    let json = format!(
        r#"{{"signature":{{"timestamp":"{time}","token":"token1","signature":"{signature}"}},"event-data":{{"id":"m1"}}}}"#
    );
    assert_eq!(
        Sent::new(&[], &json)
            .verify(&mailgun, NOW)
            .unwrap()
            .event_key()
            .unwrap_or_default(),
        "m1"
    );
    assert_eq!(
        Sent::new(&[], &json).verify(&mailgun, NOW + 901).err(),
        Some("timestamp_too_old")
    );
    let form = format!("event=opened&timestamp={time}&token=token1&signature={signature}");
    assert_eq!(Sent::new(&[], &form).reason(&mailgun), "accepted");
    assert_eq!(
        Sent::new(&[], &form.replace("token1", "token2")).reason(&mailgun),
        "no_match"
    );
    let fourthwall = built_in("fourthwall", &["s"]);
    for header in ["x-fourthwall-hmac-sha256", "x-fourthwall-hmac-apps-sha256"] {
        assert_eq!(
            Sent::new(&[(header, &base64(&sha256(b"s", &[body])))], body).reason(&fourthwall),
            "accepted",
            "{header}"
        );
    }
}

#[test]
fn a_digest_of_the_body_is_computed_and_never_believed() {
    let secret = super::generate_secret(
        catalog().get("integrated-finance").unwrap(),
        &mut rand::rng(),
    )
    .unwrap();
    let verifier = Verifier::new(
        &catalog(),
        &source("integrated-finance"),
        std::slice::from_ref(&secret),
    )
    .unwrap_or_else(|e| panic!("{e:?}"));
    let sent = Sent::signed(&verifier, &secret, "", NOW, r#"{"a":1}"#);
    assert_eq!(sent.reason(&verifier), "accepted");
    let claimed = base64(&Sha512::digest(r#"{"a":1}"#));
    assert_eq!(
        sent.plus("x-webhook-content-digest", &claimed)
            .body(r#"{"a":2}"#)
            .reason(&verifier),
        "no_match"
    );
}
