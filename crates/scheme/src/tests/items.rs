//! One request, several events: what is split, what stays whole, and under which keys.

use bytes::Bytes;
use secrecy::SecretString;
use serde_json::json;

use super::*;
use crate::spec::{Dedup, OneOrMany, SplitAt};

const SECRET: &str = "s3cret";
const OWN: &str = "algorithm = 'hmac-sha256'\nkey = 'body:id'\ntype = 'body:kind'\nitems = 'body:events'\nsignature = { from = 'header:x-sig' }";

fn split(verifier: &Verifier, body: &str) -> VerifiedRequest {
    let sent = Sent::signed(verifier, &SECRET.into(), "t", NOW, body);
    sent.verify(verifier, NOW)
        .unwrap_or_else(|reason| panic!("{reason}: {body}"))
}

/// Key, type and bytes of each item.
fn items(verified: &VerifiedRequest) -> Vec<(&str, Option<&str>, &str)> {
    verified
        .items()
        .iter()
        .map(|item| {
            (
                item.event_key().unwrap_or_default(),
                item.event_type(),
                std::str::from_utf8(item.body()).unwrap(),
            )
        })
        .collect()
}

#[test]
fn each_item_is_an_event_of_its_own_bytes() {
    let verifier = verifier_in(&own(OWN), &source("own"), &[SECRET]);
    let body = "{\"events\": [ {\"id\": \"a\", \"kind\":\"x.y\"} ,\n{\"kind\":\"z\",\"id\":2}], \"more\": 1}";
    let verified = split(&verifier, body);
    assert_eq!(
        items(&verified),
        [
            ("a", Some("x.y"), "{\"id\": \"a\", \"kind\":\"x.y\"}"),
            ("2", Some("z"), "{\"kind\":\"z\",\"id\":2}")
        ]
    );
    assert!(verified.items().iter().all(|item| item.key_is_signed()
        && item.challenge().is_none()
        && item.content_type().is_none()));
    assert_eq!(
        verified.body(),
        body.as_bytes(),
        "the original is the exact request"
    );
}

#[test]
fn an_item_without_a_key_or_that_is_no_object_is_an_event_of_its_own() {
    let verifier = verifier_in(&own(OWN), &source("own"), &[SECRET]);
    let verified = split(
        &verifier,
        r#"{"events":[{"kind":"x"},{"id":"","kind":"x"},7,"text",null,[{"id":"in"}],{"id":"a"},{"id":"a"}]}"#,
    );
    let found = items(&verified);
    assert_eq!(found.len(), 8);
    assert!(
        verified.items()[..6]
            .iter()
            .all(|item| item.event_key().is_none() && item.dedup() == Dedup::None)
    );
    assert!(found[2..6].iter().all(|item| item.1.is_none()));
    let with_digests = verifier_in(
        &own(&OWN.replace(
            "items = 'body:events'",
            "items = { from = 'body:events', dedup = 'body' }",
        )),
        &source("own"),
        &[SECRET],
    );
    let verified = split(&with_digests, r#"{"events":[7,"text",{"id":"a"}]}"#);
    let digests = ["7", "\"text\"", r#"{"id":"a"}"#]
        .map(|text| hex::encode(crate::digest::BodyDigest::of(text.as_bytes()).0));
    assert_eq!(
        items(&verified)
            .iter()
            .map(|item| item.0)
            .collect::<Vec<_>>(),
        digests
    );
    assert_eq!(
        (found[6].0, found[7].0),
        ("a", "a"),
        "the same twice: the store takes the first"
    );
}

#[test]
fn what_cannot_be_split_is_one_event() {
    let two = format!("{OWN}\n").replace(
        "items = 'body:events'",
        "items = { from = 'body:events', count_max = 2 }",
    );
    let verifier = verifier_in(&own(&two), &source("own"), &[SECRET]);
    for body in [
        r#"{"id":"w","events":[]}"#,
        r#"{"id":"w","events":{"id":"a"}}"#,
        r#"{"id":"w","events":"[1]"}"#,
        r#"{"id":"w"}"#,
        r#"{"id":"w","events":[1,2,3]}"#,
    ] {
        let verified = split(&verifier, body);
        assert_eq!(
            (
                verified.items().len(),
                verified.event_key().unwrap_or_default()
            ),
            (0, "w"),
            "{body}"
        );
    }
    for body in [
        "",
        "events",
        "[1,2]",
        r#"{"id":"w","events":[1,2}"#,
        r#"{"events":[1,2]} x"#,
    ] {
        let verified = split(&verifier, body);
        assert_eq!(
            (verified.items().len(), verified.event_key()),
            (0, None),
            "{body}"
        );
    }
    assert_eq!(
        split(&verifier, r#"{"id":"w","events":[1,2]}"#)
            .items()
            .len(),
        2
    );
    // The last of repeated members counts, as in everything that is read of a body.
    assert_eq!(
        items(&split(&verifier, r#"{"events":[1],"events":[{"id":"b"}]}"#))[0].0,
        "b"
    );
}

#[test]
fn a_source_decides_whether_a_providers_requests_are_split() {
    let body = r#"[{"sg_event_id":"e1","event":"open"},{"sg_event_id":"e2","event":"click"}]"#;
    let secret: SecretString =
        super::generate_secret(catalog().get("sendgrid").unwrap(), &mut rand::rng()).unwrap();
    let with = |items: Option<SplitAt>, key: Option<&str>| {
        let source = SourceSpec {
            items,
            key: key.map(OneOrMany::from),
            ..source("sendgrid")
        };
        let verifier = Verifier::new(&catalog(), &source, std::slice::from_ref(&secret))
            .unwrap_or_else(|errors| panic!("{errors:?}"));
        Sent::signed(&verifier, &secret, "open", NOW, body)
            .verify(&verifier, NOW)
            .unwrap()
    };
    assert_eq!(
        (
            with(None, None).items().len(),
            with(None, None).event_key().unwrap_or_default()
        ),
        (0, "e1,e2")
    );
    assert_eq!(with(Some(SplitAt::Known(false)), None).items().len(), 0);
    let verified = with(Some(SplitAt::Known(true)), None);
    assert_eq!(
        items(&verified)
            .iter()
            .map(|item| (item.0, item.1))
            .collect::<Vec<_>>(),
        [("e1", Some("open")), ("e2", Some("click"))]
    );
    let verified = with(Some(SplitAt::Place("body:".into())), Some("body:event"));
    assert_eq!(
        items(&verified)
            .iter()
            .map(|item| item.0)
            .collect::<Vec<_>>(),
        ["open", "click"],
        "the source's own key is an item's"
    );
}

#[test]
fn every_provider_that_is_known_to_batch_splits_its_own_sample() {
    let catalog = catalog();
    let mut count = 0;
    for scheme in catalog.iter().filter(|scheme| scheme.spec.items.is_some()) {
        let name = &scheme.name;
        let source = SourceSpec {
            items: Some(SplitAt::Known(true)),
            ..source(name)
        };
        let mut rng = rand::rng();
        let [secret, _] = two_secrets(scheme, &mut rng);
        let verifier = Verifier::new(&catalog, &source, std::slice::from_ref(&secret))
            .unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
        let body = crate::sample_body(verifier.scheme(), "one.two", "id_1").unwrap();
        let sent = Sent::signed_bytes(&verifier, &secret, "one.two", NOW, &body);
        let verified = sent
            .verify(&verifier, NOW)
            .unwrap_or_else(|reason| panic!("{name}: {reason} {sent:?}"));
        let [item] = verified.items() else {
            panic!("{name}: {}", String::from_utf8_lossy(&body))
        };
        if verifier
            .scheme()
            .spec
            .items
            .as_ref()
            .unwrap()
            .table()
            .key
            .is_some()
        {
            assert!(
                item.event_key().unwrap_or_default().starts_with("id_1"),
                "{name}: {}",
                item.event_key().unwrap_or_default()
            );
        }
        assert!(
            item.event_type()
                .is_some_and(|kind| kind.starts_with("one")),
            "{name}: {:?}",
            item.event_type()
        );
        let expected = (name == "mandrill").then_some("application/json");
        assert_eq!(
            item.content_type(),
            expected,
            "{name}: JSON out of a form is JSON"
        );
        count += 1;
    }
    assert!(count > 12, "{count}");
}

#[test]
fn a_packed_request_is_split_unpacked() {
    use std::io::Write as _;
    let verifier = verifier_in(
        &own(&format!("gzip = 'as-sent'\n{OWN}")),
        &source("own"),
        &[SECRET],
    );
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(br#"{"events":[{"id":"a"}]}"#).unwrap();
    let packed = packer.finish().unwrap();
    let sent = Sent::signed_bytes(&verifier, &SECRET.into(), "t", NOW, &packed);
    let verified = sent.verify(&verifier, NOW).unwrap();
    assert_eq!(
        (verified.body(), items(&verified)),
        (&Bytes::from(packed), vec![("a", None, r#"{"id":"a"}"#)])
    );
}

#[test]
fn mistakes_are_told_with_their_key() {
    let catalog = |items: &str, key: &str| {
        let spec = toml::from_str(&format!(
            "algorithm = 'hmac-sha256'\n{key}\n{items}\nsignature = {{ from = 'header:x' }}"
        ))
        .unwrap();
        let errors = Catalog::new(&std::collections::BTreeMap::from([(
            "own".to_owned(),
            spec,
        )]))
        .err()
        .unwrap_or_default();
        errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    for (items, key, expected) in [
        (
            "items = 'events'",
            "",
            "providers.own.items: \"events\" is no place of a list",
        ),
        ("items = 'header:x'", "", "providers.own.items: "),
        ("items = 'body:events[]'", "", "providers.own.items: "),
        (
            "items = { from = 'body:a', key = 'header:x' }",
            "",
            "providers.own.items.key: with items it must name a place in the item",
        ),
        (
            "items = 'body:a'",
            "key = 'header:x'",
            "providers.own.key: with items",
        ),
        (
            "items = 'body:a'",
            "key = 'body:id|header:x'",
            "providers.own.key: with items",
        ),
        (
            "items = { from = 'body:a', count_max = 0 }",
            "",
            "providers.own.items.count_max: must be 1 to 10000",
        ),
    ] {
        assert!(
            catalog(items, key).starts_with(expected),
            "{items} {key}: {}",
            catalog(items, key)
        );
    }
    let of_source = |source: SourceSpec| {
        let errors = Verifier::new(&super::catalog(), &source, &[SECRET.into()])
            .err()
            .unwrap_or_default();
        errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    let known = of_source(SourceSpec {
        items: Some(SplitAt::Known(true)),
        ..source("stripe")
    });
    assert!(known.starts_with("items: is true, and where"), "{known}");
    let place = of_source(SourceSpec {
        items: Some(SplitAt::Place("events".into())),
        ..source("stripe")
    });
    assert!(place.starts_with("items: \"events\""), "{place}");
    let key = of_source(SourceSpec {
        items: Some(SplitAt::Place("body:e".into())),
        key: Some("header:x".into()),
        ..source("stripe")
    });
    assert!(key.starts_with("key: with items"), "{key}");
    let unknown = of_source(with_scheme(
        "stripe",
        json!({ "items": { "from": "body:", "kay": "x" } }),
    ));
    assert!(unknown.contains("items.kay"), "{unknown}");
}
