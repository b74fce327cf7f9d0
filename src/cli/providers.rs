//! `providers`: list, show. Needs no running service: schemes are built in or in the settings. How
//! a fact was established is told with it.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Exit, Failure, Globals, config,
    output::{self, Column, columns},
};
use crate::{
    provider::Scheme,
    settings::scheme::{
        Algorithm, Dedup, ItemsTable, KeysSpec, Named, OneOrMany, SchemeSpec, Stability,
    },
};

#[derive(Debug, Subcommand)]
pub enum Command {
    List,
    /// What is known of a provider, how it was established, and the scheme as it would be written
    /// in [providers.NAME]
    Show {
        name: String,
    },
}

const COLUMNS: [Column<Value>; 6] = columns!(
    Value;
    "PROVIDER" => "name",
    "LABEL" => "label",
    "ALGORITHM" => "algorithm",
    "ESTABLISHED BY" => "established",
    "EVENT KEY" => "key_says",
    "NAMES" => "identity_says",
);

pub fn run(globals: &Globals, command: Command) -> anyhow::Result<Exit> {
    let catalog = config::catalog(globals)?;
    match command {
        Command::List => {
            let rows: Vec<Value> = catalog.iter().map(|scheme| row(scheme)).collect();
            output::list(globals, &rows, &COLUMNS)?;
        }
        Command::Show { name } => {
            let scheme = catalog
                .get(&name)
                .ok_or_else(|| Failure::not_found(catalog.not_known(&name)))?;
            let text = format!(
                "{}\n{}",
                facts(scheme),
                toml::to_string_pretty(&scheme.spec)?
            );
            output::one(globals, &shown(scheme), |_| text)?;
        }
    }
    Ok(Exit::Done)
}

fn shown(scheme: &Scheme) -> Value {
    let mut value = json!({ "name": scheme.name });
    if let (Some(value), Ok(Value::Object(spec))) =
        (value.as_object_mut(), serde_json::to_value(&scheme.spec))
    {
        value.extend(spec);
    }
    value
}

/// The same, with what a table says in a few words.
fn row(scheme: &Scheme) -> Value {
    let mut value = shown(scheme);
    value["algorithm"] = algorithms(scheme).into();
    value["established"] = established(scheme).into();
    value["key_says"] = key_in_short(scheme).into();
    value["identity_says"] = identity_in_short(scheme).into();
    value
}

fn algorithms(scheme: &Scheme) -> String {
    let names = scheme.spec.algorithm.as_slice().iter().map(named);
    let names = names.collect::<Vec<_>>().join(" or ");
    if scheme.spec.signature.jws {
        format!("token (JWT) with {names}")
    } else {
        names
    }
}

/// A value as it is written in a scheme.
fn named(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn established(scheme: &Scheme) -> &str {
    scheme
        .spec
        .confidence
        .as_ref()
        .map_or("-", |confidence| &confidence.scheme)
}

/// What the key is made of, as a table's cell.
fn key_in_short(scheme: &Scheme) -> String {
    let spec = &scheme.spec;
    match dedup_of(spec.dedup, spec.key.as_ref()) {
        Dedup::Key => spec
            .key
            .as_ref()
            .map_or_else(String::new, |key| spelt(&key.to_string())),
        Dedup::Body if type_in_header(spec) => "the body's digest + its type".into(),
        Dedup::Body => "the body's digest".into(),
        Dedup::None => "none: each request is an event".into(),
    }
}

/// What it names, and whether it stays the same.
fn identity_in_short(scheme: &Scheme) -> String {
    let Some(identity) = &scheme.spec.identity else {
        return "-".into();
    };
    let stays = match identity.stays {
        Some(Stability::Stated) => "stays, as stated",
        Some(Stability::Recalled) => "stays, as recalled",
        Some(Stability::Unknown) => "not established",
        None => "",
    };
    match identity.names.as_ref().map(named) {
        Some(names) => format!("{names}; {stays}"),
        None if stays.is_empty() => "-".into(),
        None => format!("not known; {stays}"),
    }
}

fn dedup_of(dedup: Option<Dedup>, key: Option<&OneOrMany<String>>) -> Dedup {
    dedup.unwrap_or(if key.is_some() {
        Dedup::Key
    } else {
        Dedup::None
    })
}

fn type_in_header(spec: &SchemeSpec) -> bool {
    spec.event_type
        .as_ref()
        .is_some_and(|place| place.contains("header:"))
}

/// A key as people read it: the whole body is there by its digest.
fn spelt(key: &str) -> String {
    let parts = key.split(" + ").map(|part| {
        if part == "body:" {
            "the body's digest"
        } else {
            part
        }
    });
    parts.collect::<Vec<_>>().join(" + ")
}

/// What is known, as comments before the scheme itself, so that the whole can be pasted.
fn facts(scheme: &Scheme) -> String {
    let spec = &scheme.spec;
    let delivery = spec
        .confidence
        .as_ref()
        .and_then(|confidence| confidence.delivery.as_deref());
    let recalled = |said: Option<&str>| said.map_or(String::new(), |said| format!(" ({said})"));
    let mut lines = vec![format!(
        "{} ({})",
        spec.label.as_deref().unwrap_or(&scheme.name),
        scheme.name
    )];
    let mut say = |what: &str, text: String| lines.push(format!("{what:<12} {text}"));
    say(
        "signature",
        format!(
            "{} in {}{}",
            algorithms(scheme),
            spec.signature.from,
            recalled(Some(established(scheme)).filter(|by| *by != "-"))
        ),
    );
    if let Some(library) = &spec.checked {
        say(
            "checked",
            format!(
                "against {library}: genuine, altered, another secret's and stale requests are judged alike"
            ),
        );
    }
    say("covers", covers(scheme));
    if let Some(keys) = &spec.keys {
        say("keys", fetched_from(keys));
        if let Some(expect) = &keys.expect {
            say("holds", format!("{expect} is one of the source's secrets"));
        }
    }
    for (place, value) in &spec.binds {
        let must = match value.as_str() {
            "*" => "is there".to_owned(),
            "" => "is not there".to_owned(),
            value => format!("is {value}"),
        };
        say("holds", format!("{place} {must}"));
    }
    if let Some(time) = &spec.time {
        let tolerance = time
            .tolerance
            .map_or("not checked: no tolerance is known".into(), |tolerance| {
                format!("within {tolerance}")
            });
        say("time", format!("{}, {tolerance}", time.from));
    }
    identity_in_full(scheme, &mut say);
    say(
        "event type",
        spec.event_type.clone().unwrap_or_else(|| "not told".into()),
    );
    if let Some(items) = &spec.items {
        say("several", several(&items.table()));
    }
    if let Some(retries) = &spec.retries {
        say("sent again", format!("{retries}{}", recalled(delivery)));
    }
    say(
        "remembered",
        spec.window.map_or(
            "as long as retention.keys: how long it is sent again is not known".into(),
            |window| format!("{window} at least"),
        ),
    );
    say(
        "answered",
        spec.ack_budget.map_or(
            "within ingress.ack_budget: the provider's patience is not known".into(),
            |budget| format!("within {budget}"),
        ),
    );
    for challenge in &spec.challenge {
        let signed = if challenge.unsigned {
            "unsigned"
        } else {
            "signed"
        };
        let keeps = if challenge.keep.is_some() {
            "; brings the secret"
        } else {
            ""
        };
        say(
            "handshake",
            format!(
                "{}, {signed}{keeps}",
                challenge.method.as_deref().unwrap_or("POST")
            ),
        );
    }
    if !spec.events.is_empty() {
        say(
            "types",
            format!("{} … (some, as recalled)", spec.events.join(", ")),
        );
    }
    if !spec.sources.is_empty() {
        say("read in", spec.sources.join(", "));
    }
    // What is signed may have line breaks, which would end the comment.
    lines
        .into_iter()
        .map(|line| format!("# {}\n", line.replace('\n', "\\n")))
        .collect()
}

fn fetched_from(keys: &KeysSpec) -> String {
    let hosts = if keys.hosts.is_empty() {
        String::new()
    } else {
        format!(", on {}", keys.hosts.join(", "))
    };
    format!("fetched from {}{hosts}", keys.from)
}

fn covers(scheme: &Scheme) -> String {
    match &scheme.spec.content {
        _ if scheme.spec.algorithm.as_slice().contains(&Algorithm::Token) => {
            "nothing: who has the token can send anything".into()
        }
        None if scheme.spec.signature.jws => "the token's claims".into(),
        None => "{body}".into(),
        Some(OneOrMany::One(content)) => content.clone(),
        Some(OneOrMany::Many(contents)) => contents.join("  or  "),
    }
}

/// The key, what it names, how that is known, and what becomes of requests that are nearly alike.
fn identity_in_full(scheme: &Scheme, say: &mut impl FnMut(&str, String)) {
    let spec = &scheme.spec;
    let dedup = dedup_of(spec.dedup, spec.key.as_ref());
    let lacking = match spec.without_key {
        Some(Dedup::Body) => "; a request without it is known by the digest of its body",
        _ => "; a request without it is an event of its own",
    };
    match dedup {
        Dedup::Key => say("event key", format!("{}{lacking}", key_in_short(scheme))),
        _ => say("event key", key_in_short(scheme)),
    }
    if let Some(identity) = spec.identity.as_ref().filter(|_| dedup != Dedup::None) {
        if let Some(names) = identity.names {
            let signed = match scheme.key_is_signed() {
                Some(true) => ", covered by the signature",
                Some(false) => ", not covered by the signature",
                None => "",
            };
            say(
                "names",
                format!("{} {}{signed}", article(names), named(&names)),
            );
        }
        let evidence = identity.evidence.as_deref().unwrap_or("not established");
        let stays = match identity.stays {
            Some(Stability::Stated) => format!("stays the same when sent again ({evidence})"),
            Some(Stability::Recalled) => {
                format!("recalled to stay the same when sent again, not read again ({evidence})")
            }
            _ => "whether it stays the same when sent again is not established".into(),
        };
        say("again", stays);
    }
    if !spec.ignore.is_empty() {
        say(
            "ignored",
            format!("{}: changes when it is sent again", spec.ignore.join(", ")),
        );
    }
    if dedup != Dedup::None {
        let kept = match scheme.key_is_doubtful() {
            Some(true) => {
                "relayed as an event of its own, with a mark: the key is not established to name an event"
            }
            _ => "kept as a conflict, not relayed",
        };
        say("other body", kept.into());
    }
    if let Some(found) = spec
        .identity
        .as_ref()
        .and_then(|identity| identity.found.as_ref())
    {
        say("found", found.clone());
    }
}

fn article(names: Named) -> &'static str {
    match names {
        Named::Delivery => "a",
        Named::Event | Named::Action | Named::Object => "an",
    }
}

/// How a request of several events is split.
fn several(items: &ItemsTable) -> String {
    let when = if items.optional {
        "where the source says items = true"
    } else {
        "always"
    };
    let key = match (&items.key, items.dedup) {
        (_, Some(Dedup::Body)) => "the digest of an item is its key".into(),
        (_, Some(Dedup::None)) => "each is an event of its own".into(),
        (Some(key), _) => format!("{} is an item's key", spelt(&key.to_string())),
        (None, _) => "its key is the scheme's, in the item".into(),
    };
    format!("{} is split into its items {when}; {key}", items.from)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fmt::Write as _, fs};

    use bytes::Bytes;

    use super::*;
    use crate::{
        provider::{Catalog, Draft, KeySet, Request, Verifier, generate_secret, sign},
        settings::scheme::SourceSpec,
    };

    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/providers.md");
    const START: &str =
        "<!-- the table is written by a test: HOOKONCE_WRITE_DOCS=1 cargo test providers -->\n";

    fn catalog() -> Catalog {
        Catalog::new(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    #[test]
    fn doubtful_facts_are_never_shown_as_sure() {
        let catalog = catalog();
        let facts = |name: &str| facts(catalog.get(name).unwrap());
        assert!(facts("stripe").contains("stays the same when sent again"));
        assert!(facts("attio").contains("recalled to stay the same"));
        assert!(facts("savvycal").contains("is not established"));
        assert!(facts("dropbox").contains("none: each request is an event"));
        assert!(facts("figma").contains("who has the token"));
        for scheme in catalog
            .iter()
            .filter(|scheme| !["hmac", "token"].contains(&scheme.name.as_str()))
        {
            let spec = &scheme.spec;
            assert!(
                spec.confidence.is_some() && !spec.sources.is_empty() && spec.label.is_some(),
                "{}",
                scheme.name
            );
            let identity = spec
                .identity
                .as_ref()
                .unwrap_or_else(|| panic!("{} does not say what its key names", scheme.name));
            assert!(identity.found.is_some(), "{}: what was found?", scheme.name);
            let dedup = dedup_of(spec.dedup, spec.key.as_ref());
            assert_eq!(
                dedup == Dedup::None,
                identity.names.is_none(),
                "{}: what the key names",
                scheme.name
            );
            assert_eq!(
                dedup == Dedup::None,
                identity.stays.is_none(),
                "{}: whether it stays",
                scheme.name
            );
            assert!(
                !matches!(identity.names, Some(Named::Action | Named::Object)),
                "{}: no key alone",
                scheme.name
            );
            if matches!(
                identity.stays,
                Some(Stability::Stated | Stability::Recalled)
            ) {
                assert!(
                    identity.evidence.is_some(),
                    "{}: how is that known?",
                    scheme.name
                );
            }
            assert!(!facts(&scheme.name).contains('\r'));
            assert!(
                facts(&scheme.name)
                    .lines()
                    .all(|line| line.starts_with("# ")),
                "{}",
                scheme.name
            );
        }
    }

    fn evidence(scheme: &Scheme) -> String {
        let Some(identity) = &scheme.spec.identity else {
            return "-".into();
        };
        let said = [identity.evidence.as_deref(), identity.found.as_deref()];
        said.into_iter().flatten().collect::<Vec<_>>().join(": ")
    }

    /// The table of the document, from the data.
    fn table(catalog: &Catalog) -> String {
        let mut table = String::from(
            "| `provider` | Whose | Algorithm | Scheme established by | Event key | Names; sent again | Evidence, and what was found | Tries |\n|---|---|---|---|---|---|---|---|\n",
        );
        for scheme in catalog.iter() {
            let row = row(scheme);
            let cell = |key: &str| row[key].as_str().unwrap_or("-").replace('|', "\\|");
            let label = scheme.spec.docs.as_ref().map_or_else(
                || cell("label"),
                |docs| format!("[{}]({docs})", cell("label")),
            );
            let checked = scheme
                .spec
                .checked
                .as_ref()
                .map_or_else(String::new, |library| {
                    format!("; checked against {library}")
                });
            let _ = writeln!(
                table,
                "| `{}` | {label} | {} | {}{checked} | {} | {} | {} | {} |",
                scheme.name,
                cell("algorithm"),
                cell("established"),
                cell("key_says"),
                cell("identity_says"),
                evidence(scheme).replace('|', "\\|"),
                cell("retries"),
            );
        }
        table
    }

    #[test]
    fn the_documents_table_is_the_data() {
        let text = fs::read_to_string(DOCUMENT).unwrap();
        let (before, written) = text
            .split_once(START)
            .expect("the document has the table's mark");
        let table = table(&catalog());
        if std::env::var_os("HOOKONCE_WRITE_DOCS").is_some() {
            fs::write(DOCUMENT, format!("{before}{START}\n{table}")).unwrap();
        } else {
            assert_eq!(
                written.trim(),
                table.trim(),
                "HOOKONCE_WRITE_DOCS=1 cargo test providers"
            );
        }
    }

    /// The fenced blocks of a kind: what stands behind the kind, and the text.
    fn blocks<'t>(text: &'t str, kind: &str) -> Vec<(&'t str, &'t str)> {
        let fences = text.split("\n```").collect::<Vec<_>>();
        let inside = fences.chunks(2).filter_map(|pair| pair.get(1));
        inside
            .filter_map(|block| block.strip_prefix(kind)?.split_once('\n'))
            .collect()
    }

    #[test]
    fn the_documents_examples_are_accepted_as_they_stand() {
        let text = fs::read_to_string(DOCUMENT).unwrap();
        let schemes = blocks(&text, "toml")
            .into_iter()
            .filter(|(_, toml)| toml.starts_with("[providers."));
        let schemes: Vec<&str> = schemes.map(|(_, toml)| toml).collect();
        let requests = blocks(&text, "http");
        assert_eq!(
            (schemes.len(), requests.len()),
            (9, 9),
            "nine examples, each with a request"
        );
        let published = blocks(&text, "json")[0].1;
        for (toml, (said, request)) in schemes.into_iter().zip(requests) {
            let settings: BTreeMap<String, BTreeMap<String, crate::settings::SchemeSpec>> =
                toml::from_str(toml).unwrap();
            let catalog = Catalog::new(&settings["providers"])
                .unwrap_or_else(|errors| panic!("{errors:?}\n{toml}"));
            let name = settings["providers"].keys().next().unwrap();
            let said: BTreeMap<&str, &str> = said
                .split_whitespace()
                .filter_map(|word| word.split_once('='))
                .collect();
            let source = SourceSpec {
                provider: name.clone(),
                ..SourceSpec::default()
            };
            let verifier = |secret: &str| {
                Verifier::new(&catalog, &source, &[secret.into()])
                    .unwrap_or_else(|errors| panic!("{errors:?}"))
            };
            let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
            let (line, head) = head.split_once('\n').unwrap_or((head, ""));
            let (method, path) = line.split_once(' ').unwrap();
            let headers: Vec<(String, &[u8])> = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.as_bytes()))
                .collect();
            let headers: Vec<(&str, &[u8])> = headers
                .iter()
                .map(|(name, value)| (name.as_str(), *value))
                .collect();
            let url = format!("https://hooks.example.com{path}");
            let body = Bytes::copy_from_slice(body.trim_end().as_bytes());
            let request = Request {
                method,
                url: Some(&url),
                query: None,
                headers: &headers,
                body: &body,
            };
            let now = said["now"].parse::<i64>().unwrap() * 1000;
            let own = verifier(said["secret"]);
            if let Some(need) = own
                .verify(&request, now)
                .err()
                .and_then(|rejection| rejection.needs)
            {
                own.known_keys().put(
                    &need,
                    KeySet::read(need.format, published.as_bytes()).unwrap(),
                    now,
                );
            }
            let verified = own
                .verify(&request, now)
                .unwrap_or_else(|rejection| panic!("{name}: {rejection:?}"));
            match (said.get("answer"), said.get("items")) {
                (Some(answer), _) => assert_eq!(
                    verified.challenge().unwrap().body,
                    answer.as_bytes(),
                    "{name}"
                ),
                (None, Some(items)) => {
                    let found = verified.items().iter().map(|item| {
                        format!(
                            "{}:{}",
                            item.event_key().unwrap(),
                            item.event_type().unwrap()
                        )
                    });
                    assert_eq!(found.collect::<Vec<_>>().join(","), *items, "{name}");
                }
                (None, None) => {
                    assert_eq!(
                        (verified.event_key(), verified.event_type()),
                        (Some(said["key"]), said.get("type").copied()),
                        "{name}"
                    )
                }
            }
            if own.scheme().spec.keys.is_some() {
                assert!(
                    verifier("tenant-8").verify(&request, now).is_err(),
                    "{name}: another's"
                );
                continue;
            }
            let other =
                generate_secret(verifier(said["secret"]).scheme(), &mut rand::rng()).unwrap();
            let stranger = Verifier::new(&catalog, &source, std::slice::from_ref(&other))
                .unwrap_or_else(|errors| panic!("{errors:?}"));
            if !said.contains_key("answer") {
                assert!(stranger.verify(&request, now).is_err(), "{name}");
            }
            let draft = Draft {
                id: "e",
                headers: &[],
                event_type: None,
                unix_seconds: 9,
                body: b"{}",
                url: Some(&url),
                method: "POST",
            };
            assert!(sign(stranger.scheme(), &other, &draft).is_ok(), "{name}");
        }
    }
}
