//! What makes two requests one event, provider by provider, end to end: two genuine events in are
//! two at the handler, a retry in is one. The cases are in `tests/identity`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use hookonce::{clock::Clock, settings::scheme::Dedup};
use hookonce_scheme::{Catalog, Draft, Scheme, generate_secret, sign};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use crate::app::*;

const NOW: i64 = 1_800_000_000;

#[derive(Deserialize)]
struct File {
    case: Vec<Case>,
}

/// Two requests of one provider, and what the handler gets of them.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    provider: String,
    what: String,
    expect: Expected,
    /// Settings of the source, beside provider and secret.
    #[serde(default)]
    source: toml::Table,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    query: Option<String>,
    #[serde(default)]
    first: Side,
    #[serde(default)]
    second: Side,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    /// The second is a duplicate.
    One,
    Two,
    /// Two, the second with the mark of a body that came before.
    Marked,
    /// The second is kept as a conflict.
    Conflict,
    /// Two, the second with the mark of a key that came before.
    Relayed,
}

impl Expected {
    fn status(self) -> &'static str {
        match self {
            Self::One => "duplicate",
            Self::Conflict => "conflict",
            Self::Two | Self::Marked | Self::Relayed => "accepted",
        }
    }

    fn mark(self) -> Option<&'static str> {
        match self {
            Self::Marked => Some("same-body"),
            Self::Relayed => Some("other-body"),
            _ => None,
        }
    }
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Side {
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    query: Option<String>,
    /// Seconds after the first.
    #[serde(default)]
    at: i64,
}

fn cases() -> Vec<Case> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/identity");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the cases")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).expect("a text");
        toml::from_str::<File>(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            .case
    };
    files.iter().flat_map(read).collect()
}

fn catalog() -> Catalog {
    Catalog::new(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// A secret of the provider's form; for RSA a key of the tests.
fn secret(scheme: &Scheme) -> secrecy::SecretString {
    generate_secret(scheme, &mut rand::rng())
        .unwrap_or_else(|_| include_str!("../keys/rsa-1.pem").into())
}

/// A source for each case, `c0`, `c1`, …, with its secret; all go to one handler.
fn config_of(cases: &[Case], handler: &Handler) -> (String, Vec<secrecy::SecretString>) {
    let catalog = catalog();
    let mut config = config(&[("h", &handler.url(), "concurrency = 64")]);
    let mut secrets = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let scheme = catalog
            .get(&case.provider)
            .unwrap_or_else(|| panic!("{}", catalog.not_known(&case.provider)));
        let secret = secret(scheme);
        let mut table = case.source.clone();
        table.insert("provider".into(), case.provider.clone().into());
        table.insert("secret".into(), secret.expose_secret().into());
        table.insert("url".into(), URL.into());
        let mut sources = toml::Table::new();
        sources.insert(format!("c{index}"), table.into());
        let mut all = toml::Table::new();
        all.insert("sources".into(), sources.into());
        config += &format!("\n{all}\n[[routes]]\nsource = \"c{index}\"\ndestination = \"h\"\n");
        secrets.push(secret);
    }
    (config, secrets)
}

const URL: &str = "https://hooks.example.com/hooks/x";

async fn send(
    app: &TestApp,
    scheme: &Scheme,
    case: &Case,
    side: &Side,
    index: usize,
    secret: &secrecy::SecretString,
) -> Said {
    let mut headers = case.headers.clone();
    headers.extend(side.headers.clone());
    let headers: Vec<(String, String)> = headers.into_iter().collect();
    let body = side
        .body
        .as_ref()
        .or(case.body.as_ref())
        .map_or("", String::as_str);
    let query = side.query.as_ref().or(case.query.as_ref());
    let url = query.map_or_else(|| URL.to_owned(), |query| format!("{URL}?{query}"));
    let draft = Draft {
        id: "id_1",
        headers: &headers,
        event_type: None,
        unix_seconds: NOW + side.at,
        body: body.as_bytes(),
        url: Some(&url),
        method: "POST",
    };
    let signed = sign(scheme, secret, &draft)
        .unwrap_or_else(|error| panic!("{}: {}: {error}", case.provider, case.what));
    let query = signed
        .url
        .as_deref()
        .and_then(|url| url.split_once('?'))
        .map_or_else(String::new, |(_, query)| format!("?{query}"));
    app.post(
        &format!("/hooks/c{index}{query}"),
        &signed.headers,
        signed.body,
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn genuine_events_are_all_relayed_and_retries_are_not() {
    let (catalog, cases) = (catalog(), cases());
    let handler = Handler::start(Vec::new()).await;
    let (config, secrets) = config_of(&cases, &handler);
    let Clock::Fixed(now) = Clock::fixed(NOW * 1000) else {
        unreachable!()
    };
    let app = spawn_with(&config, database().await, Clock::Fixed(now.clone())).await;
    let mut wrong = Vec::new();
    for (index, (case, secret)) in cases.iter().zip(&secrets).enumerate() {
        let scheme = catalog.get(&case.provider).expect("a scheme");
        let mut said = Vec::new();
        for side in [&case.first, &case.second] {
            now.store((NOW + side.at) * 1000, Ordering::Relaxed);
            said.push(send(&app, scheme, case, side, index, secret).await);
        }
        let status = |said: &Said| {
            said.headers
                .get("hookonce-status")
                .map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
        };
        let found = (status(&said[0]), status(&said[1]));
        if found != ("accepted".to_owned(), case.expect.status().to_owned()) {
            wrong.push(format!(
                "{}: {}: {found:?} instead of {:?}",
                case.provider, case.what, case.expect
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} are wrong:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    let events = |case: &Case| {
        if matches!(case.expect, Expected::One | Expected::Conflict) {
            1
        } else {
            2
        }
    };
    let expected: usize = cases.iter().map(events).sum();
    let received = handler.received(expected).await;
    for (index, case) in cases.iter().enumerate() {
        let name = format!("c{index}");
        let of_it: Vec<_> = received
            .iter()
            .filter(|request| request.header("hookonce-source") == Some(&name))
            .collect();
        if of_it.len() != events(case) {
            wrong.push(format!(
                "{}: {}: {} at the handler",
                case.provider,
                case.what,
                of_it.len()
            ));
        }
        let marks: BTreeSet<_> = of_it
            .iter()
            .filter_map(|request| request.header("hookonce-mark"))
            .collect();
        if marks != case.expect.mark().into_iter().collect() {
            wrong.push(format!(
                "{}: {}: the marks {marks:?}",
                case.provider, case.what
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(handler.count(), expected);
    app.stop().await;
}

#[test]
fn every_provider_has_its_cases() {
    let mut by_provider: BTreeMap<String, BTreeSet<Expected>> = BTreeMap::new();
    for case in cases() {
        by_provider
            .entry(case.provider)
            .or_default()
            .insert(case.expect);
    }
    let mut lacking = Vec::new();
    // Keys that are fetched have tests of their own; the generic schemes are what their user says.
    for scheme in catalog()
        .iter()
        .filter(|scheme| scheme.spec.keys.is_none() && scheme.spec.confidence.is_some())
    {
        let found = by_provider.get(&scheme.name).cloned().unwrap_or_default();
        let dedup = scheme.spec.dedup.unwrap_or(if scheme.spec.key.is_some() {
            Dedup::Key
        } else {
            Dedup::None
        });
        let is_relayed = [Expected::Two, Expected::Marked, Expected::Relayed]
            .iter()
            .any(|two| found.contains(two));
        if !is_relayed || dedup != Dedup::None && !found.contains(&Expected::One) {
            lacking.push(scheme.name.clone());
        }
    }
    assert!(
        lacking.is_empty(),
        "no case of a retry, or of two events: {lacking:?}"
    );
}

#[test]
fn vectors_that_others_computed_come_out_as_they_say() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the vectors") {
        let text = std::fs::read_to_string(entry.expect("a file").path()).expect("a text");
        let mut output = Vec::new();
        hookonce::cli::verify::verify_jsonl(text.as_bytes(), &mut output, &catalog())
            .expect("verdicts");
        let verdicts = output
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        for (line, verdict) in text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .zip(verdicts)
        {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let verdict: serde_json::Value = serde_json::from_slice(verdict).expect("JSON");
            for (name, expected) in line["expect"].as_object().expect("what is expected") {
                assert_eq!(&verdict[name], expected, "{name} of {line}: {verdict}");
            }
            count += 1;
        }
    }
    assert!(count > 150, "{count} vectors");
}
