//! The samples as a service meets them: verified, with their keys, types, ids and fields.

mod fields;
mod forms;

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::Value;

use super::*;
use crate::{
    Catalog, Draft, Request, Scheme, VerifiedRequest, Verifier, generate_secret, is_form,
    replace_id, sample_body, sign, sign::replace::IdPlace, spec::SourceSpec,
};

/// 18 May 2033, 03:33:20 UTC: no time that stands in a file by mistake.
const NOW_MS: i64 = 2_000_000_000_000;

fn catalog() -> Catalog {
    Catalog::new(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn story(provider: &str, seed: u64) -> Story<StdRng> {
    Story::new(Samples::of(provider).unwrap(), StdRng::seed_from_u64(seed))
}

fn made(provider: &str, name: &str) -> Made {
    let sample = Samples::of(provider).unwrap().get(name);
    let sample = sample.unwrap_or_else(|| panic!("{provider} has no sample {name}"));
    story(provider, 1).event(sample, None, NOW_MS).unwrap()
}

/// The body as a handler reads it: JSON, or a form's fields.
fn read(made: &Made) -> Value {
    if is_form(&made.body) {
        let pairs = url::form_urlencoded::parse(&made.body);
        let mut fields: serde_json::Map<String, Value> = pairs
            .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
            .collect();
        if let Some(payload) = fields.get("payload").and_then(Value::as_str) {
            let payload = serde_json::from_str(payload).expect("a form's payload is JSON");
            fields.insert("payload".into(), payload);
        }
        return fields.into();
    }
    serde_json::from_slice(&made.body).unwrap_or_else(|error| panic!("{error}: {made:?}"))
}

/// The sample as its provider would send it, and as the verifier takes it.
fn sent(catalog: &Catalog, scheme: &Scheme, made: &Made) -> VerifiedRequest {
    let secret = generate_secret(scheme, &mut StdRng::seed_from_u64(5)).unwrap();
    let source = SourceSpec {
        provider: scheme.name.clone(),
        ..SourceSpec::default()
    };
    let verifier = Verifier::new(catalog, &source, std::slice::from_ref(&secret))
        .unwrap_or_else(|errors| panic!("{errors:?}"));
    let draft = Draft {
        id: &made.id,
        headers: &made.headers,
        event_type: made.event_type.as_deref(),
        unix_seconds: NOW_MS / 1000,
        body: &made.body,
        url: Some("https://x.example/hooks/x"),
        method: "POST",
    };
    let signed = sign(scheme, &secret, &draft).unwrap();
    let headers = signed.headers.iter();
    let headers: Vec<_> = headers
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    let request = Request {
        method: "POST",
        url: signed.url.as_deref(),
        query: None,
        headers: &headers,
        body: &Bytes::from(signed.body),
    };
    verifier
        .verify(&request, NOW_MS)
        .unwrap_or_else(|rejection| panic!("{} {made:?}: {rejection:?}", scheme.name))
}

#[test]
fn each_sample_verifies_under_its_type_and_id() {
    let catalog = catalog();
    let mut providers = 0;
    for provider in Samples::providers() {
        let (samples, scheme) = (
            Samples::of(provider).unwrap(),
            catalog.get(provider).unwrap(),
        );
        providers += 1;
        assert!(
            samples.all().len() >= if provider == "typeform" { 2 } else { 3 },
            "{provider}"
        );
        for sample in samples.all() {
            let made = story(provider, 2).event(sample, None, NOW_MS).unwrap();
            read(&made);
            let verified = sent(&catalog, scheme, &made);
            let at = format!("{provider} {}", sample.name());
            if verified.challenge().is_none() {
                assert_eq!(verified.event_type(), made.event_type.as_deref(), "{at}");
            }
            let place = replace_id(scheme, &made.body, |old, _| old.to_owned())
                .unwrap()
                .place;
            let holds = match place {
                IdPlace::Header => true,
                IdPlace::Body => contains(&made.body, &made.id),
                IdPlace::Nowhere => false,
            };
            let key = verified.event_key().unwrap_or_default().replace('\\', "");
            let is_named = verified.challenge().is_none() && provider != "zoom";
            // Some are events of their own, each time.
            if is_named && holds && !key.is_empty() {
                assert!(key.starts_with(&made.id), "{at}: {key} {}", made.id);
            } else if is_named && place == IdPlace::Nowhere {
                assert!(["calendly", "meta"].contains(&provider), "{at}: no id");
            }
        }
    }
    let said = include_str!("../../../../../../docs/sending.md");
    let count = format!("{providers} providers have samples");
    assert!(providers >= 30 && said.contains(&count), "{count}");
}

fn contains(body: &[u8], text: &str) -> bool {
    memchr::memmem::find(body, text.as_bytes()).is_some()
        || url::form_urlencoded::parse(body).any(|(_, value)| value.contains(text))
}

#[test]
fn the_types_of_a_scheme_have_samples_and_steps_are_samples() {
    for scheme in catalog().iter() {
        let Some(samples) = Samples::of(&scheme.name) else {
            continue;
        };
        for event_type in &scheme.spec.events {
            assert!(
                samples.get(event_type).is_some(),
                "{}: {event_type}",
                scheme.name
            );
        }
        for (name, scenario) in samples.scenarios() {
            assert!(
                scenario.steps.len() > 1 && !scenario.about.is_empty(),
                "{name}"
            );
            for step in &scenario.steps {
                assert!(
                    samples.get(step).is_some(),
                    "{} {name}: {step}",
                    scheme.name
                );
            }
        }
        assert!(samples.docs.starts_with("http") || samples.docs.starts_with("docs/"));
        assert!(samples.sure.ends_with('.'), "{}", scheme.name);
    }
}

#[test]
fn a_story_is_about_the_same_things() {
    for provider in Samples::providers() {
        for scenario in Samples::of(provider).unwrap().scenarios().values() {
            let mut story = story(provider, 4);
            let mut ids = Vec::new();
            for step in &scenario.steps {
                let sample = Samples::of(provider).unwrap().get(step).unwrap();
                ids.push(story.event(sample, None, NOW_MS).unwrap().id);
            }
            let count = ids.len();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), count, "{provider}");
        }
    }
    let samples = Samples::of("stripe").unwrap();
    let mut story = story("stripe", 6);
    let mut body = |name: &str| {
        read(
            &story
                .event(samples.get(name).unwrap(), None, NOW_MS)
                .unwrap(),
        )
    };
    let (charge, session) = (body("charge.succeeded"), body("checkout.session.completed"));
    let intent = "/data/object/payment_intent";
    assert!(charge.pointer(intent).is_some_and(Value::is_string));
    assert_eq!(charge.pointer(intent), session.pointer(intent));
    assert_ne!(charge["id"], session["id"]);
}

#[test]
fn two_samples_differ_and_an_id_stays_in_its_place() {
    for provider in Samples::providers() {
        for sample in Samples::of(provider).unwrap().all() {
            let event = |seed| story(provider, seed).event(sample, None, NOW_MS).unwrap();
            assert!(
                event(1).body != event(2).body,
                "{provider} {}",
                sample.name()
            );
            assert!(event(1) == event(1), "{provider} {}", sample.name());
        }
    }
    let hostile = "a\",\"type\":\"x\n";
    let sample = Samples::of("stripe").unwrap().get("payout.paid").unwrap();
    let made = story("stripe", 1)
        .event(sample, Some(hostile), NOW_MS)
        .unwrap();
    assert_eq!(read(&made)["id"], hostile);
    let sample = &Samples::of("telegram").unwrap().all()[0];
    let refused = story("telegram", 1).event(sample, Some("abc"), NOW_MS);
    assert!(refused.unwrap_err().to_string().contains("a number"));
}

#[test]
fn an_unknown_type_has_the_nearest_shape() {
    for (provider, event_type, shape) in [
        ("stripe", "invoice.voided", "invoice.created"),
        ("stripe", "invoice.payed", "invoice.paid"),
        ("github", "pull_request.labeled", "pull_request.opened"),
        ("shopify", "orders/edited", "orders/create"),
    ] {
        let samples = Samples::of(provider).unwrap();
        assert!(samples.get(event_type).is_none());
        assert_eq!(samples.nearest_shape(event_type).unwrap().name(), shape);
    }
}

/// Schemes without samples get the least body that has an id and a type.
#[test]
fn the_least_bodies_come_out_under_their_own_types() {
    let catalog = catalog();
    for scheme in catalog.iter() {
        if generate_secret(scheme, &mut StdRng::seed_from_u64(5)).is_err() {
            continue;
        }
        for event_type in &scheme.spec.events {
            let made = Made {
                id: "9".into(),
                event_type: Some(event_type.clone()),
                headers: Vec::new(),
                body: sample_body(scheme, event_type, "9").unwrap(),
            };
            let verified = sent(&catalog, scheme, &made);
            if scheme.spec.event_type.is_some() && event_type != "url_verification" {
                assert_eq!(
                    verified.event_type(),
                    Some(event_type.as_str()),
                    "{}",
                    scheme.name
                );
            }
        }
    }
}
