//! Event keys: parts that are joined, what is missing, what is ignored, what is guarded.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::spec::{Dedup, OneOrMany};

const SECRET: &str = "s3cret";

fn own_verifier(fields: &str) -> Verifier {
    let toml =
        format!("algorithm = 'hmac-sha256'\n{fields}\nsignature = {{ from = 'header:x-sig' }}");
    verifier_in(&own(&toml), &source("own"), &[SECRET])
}

fn seen(verifier: &Verifier, headers: &[(&str, &str)], body: &str) -> VerifiedRequest {
    let headers: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    let draft = super::Draft {
        id: "",
        headers: &headers,
        event_type: None,
        unix_seconds: NOW,
        body: body.as_bytes(),
        url: None,
        method: "POST",
    };
    let signed = super::sign(verifier.scheme(), &SECRET.into(), &draft).unwrap();
    let headers: Vec<(&str, &str)> = signed
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    // What the signer adds in empty places is no part of these requests.
    let headers: Vec<_> = headers
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    Sent::new(&headers, body)
        .verify(verifier, NOW)
        .unwrap_or_else(|reason| panic!("{reason}"))
}

/// The request as it is read when it was stored.
fn kept(verifier: &Verifier, body: &str) -> VerifiedRequest {
    verifier
        .told_of_stored("[]", body.to_owned().into(), false)
        .unwrap()
}

fn key(verifier: &Verifier, headers: &[(&str, &str)], body: &str) -> Option<String> {
    seen(verifier, headers, body).event_key().map(str::to_owned)
}

#[test]
fn parts_are_joined_and_only_what_may_be_missing_is() {
    let verifier = own_verifier("key = ['body:id', 'body:topic|body:kind', 'body:hook?']");
    for (body, expected) in [
        (
            r#"{"id":"e1","topic":"orders/paid","hook":7}"#,
            Some("e1.orders/paid.7"),
        ),
        (r#"{"id":"e1","kind":"paid"}"#, Some("e1.paid")),
        (r#"{"id":"e1","topic":"a.b"}"#, Some(r"e1.a\.b")),
        (r#"{"id":"a\\b","topic":"c"}"#, Some(r"a\\b.c")),
        (r#"{"id":"e1"}"#, None),
        (r#"{"topic":"x","hook":1}"#, None),
    ] {
        assert_eq!(key(&verifier, &[], body).as_deref(), expected, "{body}");
    }
    let first = own_verifier("key = ['body:a?', 'body:b']");
    assert_eq!(
        key(&first, &[], r#"{"b":"x"}"#).as_deref(),
        Some(".x"),
        "what is missing leaves its place"
    );
}

proptest! {
    #[test]
    fn no_two_lists_of_parts_make_one_key(a in "[ab.\\\\]{1,4}", b in "[ab.\\\\]{1,4}", c in "[ab.\\\\]{1,4}", d in "[ab.\\\\]{1,4}") {
        let verifier = own_verifier("key = ['body:a', 'body:b']");
        let of = |a: &str, b: &str| key(&verifier, &[], &json!({ "a": a, "b": b }).to_string());
        prop_assert_eq!(of(&a, &b) == of(&c, &d), (a, b) == (c, d));
    }
}

#[test]
fn the_bodys_digest_can_be_a_part_and_never_an_empty_ones() {
    let verifier = own_verifier("key = ['header:x-at', 'body:']");
    let digest = hex::encode(crate::digest::BodyDigest::of(b"text").0);
    assert_eq!(
        key(&verifier, &[("x-at", "17")], "text"),
        Some(format!("17.{digest}"))
    );
    assert_eq!(key(&verifier, &[("x-at", "17")], ""), None);
}

#[test]
fn a_request_without_the_key_is_itself_alone_or_known_by_its_body() {
    for (fields, dedup) in [
        ("key = 'body:id'", Dedup::None),
        ("key = 'body:id'\nwithout_key = 'none'", Dedup::None),
        ("key = 'body:id'\nwithout_key = 'body'", Dedup::Body),
        ("", Dedup::None),
        ("dedup = 'body'", Dedup::Body),
        ("key = 'body:other'\ndedup = 'body'", Dedup::Body),
        ("key = 'body:other'\ndedup = 'none'", Dedup::None),
    ] {
        let verified = seen(&own_verifier(fields), &[], r#"{"other":1}"#);
        assert_eq!(verified.dedup(), dedup, "{fields}");
        assert_eq!(
            seen(&own_verifier(fields), &[], "").dedup(),
            Dedup::None,
            "{fields}: an empty body names nothing"
        );
    }
    let none = own_verifier("key = 'body:id'\ndedup = 'none'");
    assert_eq!(
        key(&none, &[], r#"{"id":"e1"}"#).as_deref(),
        Some("e1"),
        "it is told all the same"
    );
}

#[test]
fn a_type_in_a_header_belongs_to_a_digest() {
    let verifier = own_verifier("dedup = 'body'\ntype = 'header:x-event+body:action?|body:type'");
    let digest = hex::encode(crate::digest::BodyDigest::of(b"{}").0);
    assert_eq!(
        key(&verifier, &[("x-event", "push")], "{}"),
        Some(format!("{digest}.push"))
    );
    assert_eq!(
        key(&verifier, &[("x-event", "ping")], "{}"),
        Some(format!("{digest}.ping"))
    );
}

#[test]
fn another_type_in_a_header_is_another_event_under_an_unsigned_key() {
    let verifier = own_verifier("key = 'header:x-id'\ntype = 'header:x-event+body:action?'");
    let of = |kind: &str| seen(&verifier, &[("x-id", "1"), ("x-event", kind)], "{}");
    assert_eq!(
        of("a").event_key(),
        of("b").event_key(),
        "the key is the provider's id"
    );
    assert_ne!(of("a").compared(), of("b").compared());
    assert_eq!(
        (of("a").compared(), of("a").digest()),
        (of("a").compared(), of("b").digest())
    );
    let signed = own_verifier("key = 'body:id'\ntype = 'header:x-event'");
    let of = |kind: &str| seen(&signed, &[("x-event", kind)], r#"{"id":1}"#);
    assert_eq!(
        (of("a").compared(), of("a").kind()),
        (of("b").compared(), None),
        "a signed key names its event"
    );
}

#[test]
fn what_changes_when_it_is_sent_again_is_left_out() {
    let verifier = own_verifier(
        "dedup = 'body'\nignore = ['body:retryCount', 'body:/meta/tries', 'body:list[].n', 'form:try']",
    );
    let of = |body: &str| seen(&verifier, &[], body);
    for (first, again, same) in [
        (
            r#"{"id":1,"retryCount":0}"#,
            r#"{"id":1,"retryCount":1}"#,
            true,
        ),
        (r#"{"id":1}"#, r#"{"id":1,"retryCount":1}"#, true),
        (r#"{"retryCount":1,"id":1}"#, r#"{"id":1}"#, true),
        (
            r#"{"id":1,"retryCount":0}"#,
            r#"{"id":2,"retryCount":0}"#,
            false,
        ),
        (
            r#"{"meta":{"tries":[1],"x":1}}"#,
            r#"{"meta":{"tries":{"a":2},"x":1}}"#,
            true,
        ),
        (
            r#"{"meta":{"tries":1,"x":1}}"#,
            r#"{"meta":{"tries":1,"x":2}}"#,
            false,
        ),
        (
            r#"{"list":[{"n":1,"m":1},{"n":2}]}"#,
            r#"{"list":[{"n":3,"m":1},{"n":4}]}"#,
            true,
        ),
        (
            r#"{"list":[{"n":1,"m":1}]}"#,
            r#"{"list":[{"n":1,"m":2}]}"#,
            false,
        ),
        (
            r#"{"a":{"retryCount":1}}"#,
            r#"{"a":{"retryCount":2}}"#,
            false,
        ),
        ("a=1&try=1&b=2", "a=1&try=2&b=2", true),
        ("a=1&try=1", "a=2&try=1", false),
        ("no json retryCount 1", "no json retryCount 2", false),
    ] {
        assert_eq!(
            kept(&verifier, first).compared() == kept(&verifier, again).compared(),
            same,
            "{first} {again}"
        );
        assert_eq!(
            of(first).event_key() == of(again).event_key(),
            same,
            "{first} {again}"
        );
    }
    let by_id = own_verifier("key = 'body:id'\nignore = ['body:n']");
    let (first, again) = (
        seen(&by_id, &[], r#"{"id":1,"n":1}"#),
        seen(&by_id, &[], r#"{"id":1,"n":2}"#),
    );
    assert_eq!(first.event_key(), again.event_key());
    assert_ne!(
        (first.digest(), first.compared()),
        (again.digest(), again.compared()),
        "most repeats are the same to the byte: no more is read"
    );
    let [first, again] = [r#"{"id":1,"n":1}"#, r#"{"id":1,"n":2}"#].map(|body| kept(&by_id, body));
    assert_eq!(
        (first.compared(), first.event_key()),
        (again.compared(), again.event_key())
    );
    assert_ne!(
        first.digest(),
        again.digest(),
        "the exact bytes are kept and told"
    );
}

#[test]
fn the_guard_is_for_signed_bodies_under_unsigned_keys_without_a_time() {
    let guarded = |fields: &str, body: &str| {
        let toml = format!("{fields}\nsignature = {{ from = 'header:x-sig' }}");
        let verifier = verifier_in(&own(&toml), &source("own"), &[SECRET]);
        let headers = [
            ("x-id".to_owned(), "1".to_owned()),
            ("x-at".to_owned(), NOW.to_string()),
        ];
        let draft = super::Draft {
            id: "1",
            headers: &headers,
            event_type: None,
            unix_seconds: NOW,
            body: body.as_bytes(),
            url: None,
            method: "POST",
        };
        let signed = super::sign(verifier.scheme(), &SECRET.into(), &draft).unwrap();
        let sent = Sent {
            headers: signed.headers,
            body: signed.body.into(),
            ..Sent::new(&[], "")
        };
        sent.verify(&verifier, NOW).unwrap().is_guarded()
    };
    assert!(guarded(
        "algorithm = 'hmac-sha256'\nkey = 'header:x-id'",
        "{}"
    ));
    assert!(
        guarded(
            "algorithm = 'hmac-sha256'\nkey = ['body:id', 'header:x-id']",
            r#"{"id":1}"#
        ),
        "one part is enough"
    );
    for (fields, body) in [
        ("algorithm = 'hmac-sha256'\nkey = 'header:x-id'", ""),
        ("algorithm = 'hmac-sha256'\nkey = 'body:id'", r#"{"id":1}"#),
        (
            "algorithm = 'hmac-sha256'\ncontent = '{header:x-id}{body}'\nkey = 'header:x-id'",
            "{}",
        ),
        (
            "algorithm = 'hmac-sha256'\ncontent = '{timestamp}{body}'\ntime = { from = 'header:x-at' }\nkey = 'header:x-id'",
            "{}",
        ),
        (
            "algorithm = 'hmac-sha256'\ntime = { from = 'body:at' }\nkey = 'header:x-id'",
            r#"{"at":1800000000}"#,
        ),
        ("algorithm = 'token'\nkey = 'header:x-id'", "{}"),
        (
            "algorithm = 'hmac-sha256'\nkey = 'header:x-id'\ndedup = 'body'",
            "{}",
        ),
    ] {
        assert!(!guarded(fields, body), "{fields}");
    }
}

#[test]
fn another_body_is_kept_only_where_the_key_is_established() {
    let of = |fields: &str| own_verifier(fields).key_is_doubtful();
    let identity = |names: &str, stays: &str| {
        format!(
            "key = 'body:id'\nidentity = {{ names = '{names}', stays = '{stays}', found = 'x' }}"
        )
    };
    assert!(!of("key = 'body:id'"), "its author says so");
    assert!(!of(&identity("event", "stated")));
    assert!(!of(&identity("delivery", "stated")));
    for doubtful in [
        identity("event", "recalled"),
        identity("event", "unknown"),
        identity("object", "stated"),
        "key = 'body:[].id'".into(),
    ] {
        assert!(of(&doubtful), "{doubtful}");
    }
}

#[test]
fn a_source_says_what_its_events_are() {
    let with = |source: SourceSpec| verifier(&source, &["whsec_s"]);
    let body = r#"{"id":"evt_1","type":"a.b","n":1}"#;
    let key = |verifier: &Verifier| {
        let sent = Sent::signed(verifier, &"whsec_s".into(), "a.b", NOW, body)
            .verify(verifier, NOW)
            .unwrap();
        (sent.event_key().map(str::to_owned), sent.dedup())
    };
    let list = OneOrMany::Many(vec!["body:id".into(), "body:type".into()]);
    assert_eq!(
        key(&with(SourceSpec {
            key: Some(list),
            ..source("stripe")
        })),
        (Some(r"evt_1.a\.b".into()), Dedup::Key)
    );
    assert_eq!(
        key(&with(SourceSpec {
            dedup: Some(Dedup::None),
            ..source("stripe")
        })),
        (Some("evt_1".into()), Dedup::None)
    );
    let digest = hex::encode(crate::digest::BodyDigest::of(body.as_bytes()).0);
    assert_eq!(
        key(&with(SourceSpec {
            dedup: Some(Dedup::Body),
            ..source("stripe")
        })),
        (Some(digest), Dedup::Body)
    );
    let errors = |source: SourceSpec| {
        let errors = Verifier::new(&catalog(), &source, &["whsec_s".into()])
            .err()
            .unwrap_or_default();
        errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    for (wrong, expected) in [
        (
            SourceSpec {
                key: Some(OneOrMany::Many(vec!["body:id".into(), "id".into()])),
                ..source("stripe")
            },
            "key: \"id\" names no place",
        ),
        (
            SourceSpec {
                key: Some(OneOrMany::Many(vec!["body:a?".into(), "body:b?".into()])),
                ..source("stripe")
            },
            "key: one part at least",
        ),
        (
            SourceSpec {
                dedup: Some(Dedup::Key),
                ..source("dropbox")
            },
            "dedup: is \"key\", and there is no key",
        ),
        (
            SourceSpec {
                ignore: vec!["body:n".into(), "header:x".into()],
                ..source("stripe")
            },
            "ignore[1]: \"header:x\" is no place",
        ),
    ] {
        let said = errors(wrong);
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn a_body_is_read_whatever_bytes_are_in_it() {
    let verifier = own_verifier("key = 'body:id'\ntype = 'body:type'");
    let of = |body: &[u8]| {
        let sent = Sent::signed_bytes(&verifier, &SECRET.into(), "t", NOW, body);
        let verified = sent.verify(&verifier, NOW).unwrap();
        assert_eq!(verified.body(), body, "the exact bytes are kept");
        (
            verified.event_key().map(str::to_owned),
            verified.event_type().map(str::to_owned),
        )
    };
    let expected = (Some("e1".to_owned()), Some("x".to_owned()));
    assert_eq!(
        of("\u{feff}{\"id\":\"e1\",\"type\":\"x\"}".as_bytes()),
        expected,
        "a byte order mark"
    );
    assert_eq!(
        of(b"{\"id\":\"e1\",\"type\":\"x\",\"name\":\"Andr\xe9\"}"),
        expected,
        "one byte of Latin-1"
    );
    assert_ne!(
        of(b"{\"id\":\"\xe9\"}").0,
        of(b"{\"id\":\"\xe8\"}").0,
        "and no two texts are one"
    );
}
