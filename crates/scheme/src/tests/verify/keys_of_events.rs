//! What is read of a request whose signature is right.

use super::*;

#[test]
fn a_known_body_is_not_read_again_where_the_key_is_of_the_body_alone() {
    let known_at = |provider: &str, spoil: bool| {
        let verifier = verifier(
            &source(provider),
            &["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        );
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into();
        let mut sent = Sent::signed(
            &verifier,
            &secret,
            "a.b",
            NOW,
            r#"{"id":"evt_1","type":"a.b"}"#,
        );
        if spoil {
            sent = sent.body(r#"{"id":"evt_1","type":"a.c"}"#);
        }
        match sent
            .with_request(|request| verifier.verify_unless(request, NOW * 1000, || Some("known")))
        {
            Ok(Verified::Known(word)) => word,
            Ok(Verified::New(verified)) => {
                if verified.key_is_of_body() {
                    "of body"
                } else {
                    "read"
                }
            }
            Err(_) => "refused",
        }
    };
    assert_eq!(known_at("stripe", false), "known");
    assert_eq!(
        known_at("stripe", true),
        "refused",
        "a known body proves nothing"
    );
    for header_key in ["github", "standard-webhooks"] {
        assert_eq!(
            known_at(header_key, false),
            "read",
            "{header_key}: another id may be another event"
        );
    }
}

#[test]
fn a_key_is_never_empty_long_or_dirty() {
    let hmac = verifier(&source("hmac"), &["s"]);
    let key_of = |body: &str| {
        let verified = Sent::signed(&hmac, &"s".into(), "", NOW, body)
            .verify(&hmac, NOW)
            .unwrap();
        (
            verified.event_key().unwrap_or_default().to_owned(),
            verified.key_is_signed(),
        )
    };
    let digest = |text: &str| (hex::encode(BodyDigest::of(text.as_bytes()).0), true);
    assert_eq!(key_of(r#"{"id":7.50}"#), ("7.50".into(), true));
    let by_body = verifier(
        &SourceSpec {
            dedup: Some(Dedup::Body),
            ..source("hmac")
        },
        &["s"],
    );
    let deep = format!(
        r#"{{"id":"x","a":{}1{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    for body in [
        "",
        "no json",
        r#"{"id":""}"#,
        r#"{"id":"  "}"#,
        r#"{"id":null}"#,
        r#"{"id":{}}"#,
        r#"{"id":"x""#,
        &deep,
    ] {
        assert_eq!(
            key_of(body),
            (String::new(), true),
            "{}",
            &body[..body.len().min(40)]
        );
        let verified = Sent::signed(&by_body, &"s".into(), "", NOW, body)
            .verify(&by_body, NOW)
            .unwrap();
        let expected = if body.is_empty() {
            (None, Dedup::None)
        } else {
            (Some(digest(body).0), Dedup::Body)
        };
        assert_eq!(
            (verified.event_key().map(str::to_owned), verified.dedup()),
            expected,
            "an empty body names nothing"
        );
    }
    let long = "é".repeat(128);
    assert_eq!(key_of(&format!(r#"{{"id":"{long}"}}"#)), digest(&long));
    assert_eq!(key_of(r#"{"id":"a\r\nb"}"#), digest("a\r\nb"));
}

#[test]
fn a_key_is_signed_only_where_the_content_has_it() {
    for (content, key, signed) in [
        ("{body}", "body:id", true),
        ("{body}", "header:x-id", false),
        ("{header:x-id}.{body}", "header:x-id", true),
        ("{header:x-id}.{body}", "header:x-id+body:id", true),
        ("{body}", "header:x-id+body:id", false),
        ("{header:x-id|header:y-id}.{body}", "header:x-id", false),
        ("{id}.{body}", "header:x-id", true),
        ("{id}.{body}", "header:y-id", false),
        ("{body:token}", "body:id", false),
    ] {
        let toml = format!(
            "algorithm = 'hmac-sha256'\nid = 'header:x-id'\nkey = '{key}'\ncontent = '{content}'\n[signature]\nfrom = 'header:x-sig'"
        );
        let catalog = own(&toml);
        let verifier = Verifier::new(&catalog, &source("own"), &["s".into()])
            .unwrap_or_else(|errors| panic!("{errors:?}"));
        let sent = Sent::signed(
            &verifier,
            &"s".into(),
            "t",
            NOW,
            r#"{"id":"b1","token":"t1"}"#,
        )
        .without("y-id")
        .plus("y-id", "other");
        let verified = sent
            .verify(&verifier, NOW)
            .unwrap_or_else(|reason| panic!("{content} {key}: {reason}"));
        assert_eq!(
            verified.key_is_signed(),
            signed,
            "{content} {key} {}",
            verified.event_key().unwrap_or_default()
        );
    }
}
