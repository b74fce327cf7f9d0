//! What `providers` says, and that the document says the same.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use bytes::Bytes;
use hookonce_scheme::{
    Catalog, Draft, KeySet, Rejection, Request, VerifiedRequest, Verifier, generate_secret, sign,
};
use secrecy::SecretString;

use super::{words::dedup_of, *};
use crate::settings::scheme::{Dedup, Named, SchemeSpec, SourceSpec, Stability};

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

/// An example of the document: a scheme, a request to it, and what is said of the request.
struct Example<'t> {
    name: String,
    catalog: Catalog,
    source: SourceSpec,
    said: BTreeMap<&'t str, &'t str>,
    method: &'t str,
    url: String,
    headers: Vec<(String, &'t [u8])>,
    body: Bytes,
}

impl<'t> Example<'t> {
    fn read(toml: &str, said: &'t str, request: &'t str) -> Self {
        let settings: BTreeMap<String, BTreeMap<String, SchemeSpec>> =
            toml::from_str(toml).unwrap();
        let name = settings["providers"].keys().next().unwrap().clone();
        let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
        let (line, head) = head.split_once('\n').unwrap_or((head, ""));
        let (method, path) = line.split_once(' ').unwrap();
        Self {
            catalog: Catalog::new(&settings["providers"])
                .unwrap_or_else(|errors| panic!("{errors:?}\n{toml}")),
            source: SourceSpec {
                provider: name.clone(),
                ..SourceSpec::default()
            },
            name,
            said: said
                .split_whitespace()
                .filter_map(|word| word.split_once('='))
                .collect(),
            method,
            url: format!("https://hooks.example.com{path}"),
            headers: head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.as_bytes()))
                .collect(),
            body: Bytes::copy_from_slice(body.trim_end().as_bytes()),
        }
    }

    fn verifier(&self, secret: &SecretString) -> Verifier {
        Verifier::new(&self.catalog, &self.source, std::slice::from_ref(secret))
            .unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    /// The request as the verifier has it, at the time that the document says.
    fn verified_by(&self, verifier: &Verifier) -> Result<VerifiedRequest, Rejection> {
        let headers: Vec<(&str, &[u8])> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        let request = Request {
            method: self.method,
            url: Some(&self.url),
            query: None,
            headers: &headers,
            body: &self.body,
        };
        verifier.verify(&request, self.now_unix_ms())
    }

    fn now_unix_ms(&self) -> i64 {
        self.said["now"].parse::<i64>().unwrap() * 1000
    }

    /// The answer, the items or the key and the type are those that the document says.
    fn is_as_said(&self, verified: &VerifiedRequest) {
        let (name, said) = (&self.name, &self.said);
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
            (None, None) => assert_eq!(
                (verified.event_key(), verified.event_type()),
                (Some(said["key"]), said.get("type").copied()),
                "{name}"
            ),
        }
    }

    /// Another secret's request is refused, and the scheme signs with that secret.
    fn strangers_are_refused(&self, own: &Verifier) {
        let name = &self.name;
        if own.scheme().spec.keys.is_some() {
            let stranger = self.verifier(&"tenant-8".into());
            assert!(self.verified_by(&stranger).is_err(), "{name}: another's");
            return;
        }
        let other = generate_secret(own.scheme(), &mut rand::rng()).unwrap();
        let stranger = self.verifier(&other);
        if !self.said.contains_key("answer") {
            assert!(self.verified_by(&stranger).is_err(), "{name}");
        }
        let draft = Draft {
            id: "e",
            headers: &[],
            event_type: None,
            unix_seconds: 9,
            body: b"{}",
            url: Some(&self.url),
            method: "POST",
        };
        assert!(sign(stranger.scheme(), &other, &draft).is_ok(), "{name}");
    }
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
        let example = Example::read(toml, said, request);
        let own = example.verifier(&example.said["secret"].into());
        if let Err(Rejection {
            needs: Some(need), ..
        }) = example.verified_by(&own)
        {
            let keys = KeySet::read(need.format, published.as_bytes()).unwrap();
            own.known_keys().put(&need, keys, example.now_unix_ms());
        }
        let verified = example
            .verified_by(&own)
            .unwrap_or_else(|rejection| panic!("{}: {rejection:?}", example.name));
        example.is_as_said(&verified);
        example.strangers_are_refused(&own);
    }
}
