//! The known schemes. Built-in ones are read and compiled when they are first asked for. The user's
//! own are compiled at once, so that every mistake in them is told.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use crate::{
    error::SchemeError,
    keys::key_set::KnownKeys,
    library::{ALIASES, built_in, read},
    nearest::nearest,
    plan::compiled::Plan,
    spec::SchemeSpec,
};

/// A provider's scheme: as it was written, and as it is run.
pub struct Scheme {
    /// The name under which the catalog has it.
    pub name: String,
    /// As it was written.
    pub spec: SchemeSpec,
    plan: OnceLock<Result<Arc<Plan>, Vec<SchemeError>>>,
}

/// The schemes by name, and the public keys that were fetched for them.
pub struct Catalog {
    schemes: BTreeMap<String, Entry>,
    known: Arc<KnownKeys>,
}

/// A scheme that may not have been read yet.
struct Entry {
    text: &'static str,
    scheme: OnceLock<Arc<Scheme>>,
}

impl Catalog {
    /// The built-in schemes and the user's own (`[providers.NAME]`).
    ///
    /// # Errors
    ///
    /// All mistakes in the user's own, and each whose name is built in; their keys begin with
    /// `providers.NAME`.
    pub fn new(own: &BTreeMap<String, SchemeSpec>) -> Result<Self, Vec<SchemeError>> {
        let mut schemes: BTreeMap<String, Entry> = built_in()
            .map(|(name, text)| {
                (
                    name.to_owned(),
                    Entry {
                        text,
                        scheme: OnceLock::new(),
                    },
                )
            })
            .collect();
        let mut errors = Vec::new();
        for (name, spec) in own {
            let scheme = if schemes.contains_key(name) {
                let taken = "is built in: give your own provider another name, or set what differs in the source";
                Err(vec![SchemeError::new("", taken)])
            } else {
                Scheme::new(name, spec.clone())
            };
            match scheme {
                Ok(scheme) => drop(schemes.insert(
                    name.clone(),
                    Entry {
                        text: "",
                        scheme: OnceLock::from(Arc::new(scheme)),
                    },
                )),
                Err(found) => errors.extend(
                    found
                        .into_iter()
                        .map(|error| error.within(&format!("providers.{name}"))),
                ),
            }
        }
        if errors.is_empty() {
            Ok(Self {
                schemes,
                known: Arc::default(),
            })
        } else {
            Err(errors)
        }
    }

    /// The scheme of this name, or of which this is another name. The spelling is free: `Lemon
    /// Squeezy` is `lemon-squeezy`.
    pub fn get(&self, name: &str) -> Option<&Arc<Scheme>> {
        let found = |name: &str| {
            self.schemes
                .get_key_value(name)
                .map(|(name, entry)| entry.scheme(name))
        };
        let spelt = || name.trim().to_lowercase().replace([' ', '_', '.'], "-");
        found(name)
            .or_else(|| found(&spelt()))
            .or_else(|| found(ALIASES.get(&spelt())?))
    }

    /// What to say of a name that is no provider's. It names the provider that may be meant.
    pub fn not_known(&self, name: &str) -> String {
        let spelt = name.trim().to_lowercase().replace([' ', '_', '.'], "-");
        let known = self.names().chain(ALIASES.keys().map(String::as_str));
        let meant = nearest(&spelt, known)
            .map_or_else(String::new, |near| format!("did you mean {near:?}? "));
        format!("no provider is called {name:?}: {meant}`hookonce providers list` shows them")
    }

    /// The providers' public keys that were fetched; all verifiers of this catalog look into them.
    pub fn known_keys(&self) -> &Arc<KnownKeys> {
        &self.known
    }

    /// All schemes by name. This reads all of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Scheme>> {
        self.schemes.iter().map(|(name, entry)| entry.scheme(name))
    }

    /// The names of all schemes, sorted; their other names are not among them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.schemes.keys().map(String::as_str)
    }
}

impl Entry {
    fn scheme(&self, name: &str) -> &Arc<Scheme> {
        self.scheme.get_or_init(|| {
            let spec = read(self.text)
                .unwrap_or_else(|error| panic!("the built-in provider {name}: {error}"));
            Arc::new(Scheme {
                name: name.into(),
                spec,
                plan: OnceLock::new(),
            })
        })
    }
}

impl Scheme {
    /// A scheme that is compiled at once.
    pub(crate) fn new(name: &str, spec: SchemeSpec) -> Result<Self, Vec<SchemeError>> {
        let plan = Arc::new(Plan::new(&spec)?);
        Ok(Self {
            name: name.into(),
            spec,
            plan: OnceLock::from(Ok(plan)),
        })
    }

    /// Whether the signature covers each part of the event key, judged by the places of the parts.
    /// None if there is no key.
    pub fn key_is_signed(&self) -> Option<bool> {
        let plan = self.plan().ok()?;
        plan.identity
            .key
            .as_ref()
            .map(|key| key.places().all(|place| plan.coverage.covers(place)))
    }

    /// Whether it is not established that the event key names an event. None if the scheme can't be
    /// run.
    pub fn key_is_doubtful(&self) -> Option<bool> {
        self.plan().ok().map(|plan| plan.key_is_doubtful)
    }

    /// How it is run. A built-in scheme has no errors; a test checks that.
    pub(crate) fn plan(&self) -> Result<&Arc<Plan>, Vec<SchemeError>> {
        self.plan
            .get_or_init(|| Plan::new(&self.spec).map(Arc::new))
            .as_ref()
            .map_err(Clone::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_built_in_and_sound() {
        let catalog = Catalog::new(&BTreeMap::new())
            .map_err(|errors| format!("{errors:?}"))
            .unwrap();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/providers");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        files.sort();
        assert_eq!(catalog.names().collect::<Vec<_>>(), files);
        for scheme in catalog.iter() {
            let errors = scheme.plan().err().unwrap_or_default();
            assert_eq!(errors, [], "{}", scheme.name);
            let written = toml::to_string(&scheme.spec).unwrap();
            assert!(
                read(&written).is_ok(),
                "{} reads back what it writes: {written}",
                scheme.name
            );
        }
    }

    #[test]
    fn other_names_lead_to_providers_and_slips_are_told() {
        let catalog = Catalog::new(&BTreeMap::new())
            .map_err(|errors| format!("{errors:?}"))
            .unwrap();
        for (alias, name) in ALIASES.iter() {
            assert!(
                !catalog.schemes.contains_key(alias),
                "{alias} is a name itself"
            );
            assert_eq!(
                catalog.get(alias).map(|scheme| scheme.name.as_str()),
                Some(name.as_str()),
                "{alias}"
            );
        }
        for (written, name) in [
            ("paddle", "paddle-billing"),
            ("Lemon Squeezy", "lemonsqueezy"),
            ("GitHub", "github"),
            ("cal.com", "cal-com"),
        ] {
            assert_eq!(
                catalog.get(written).map(|scheme| scheme.name.as_str()),
                Some(name),
                "{written}"
            );
        }
        assert!(catalog.get("githb").is_none());
        assert!(
            catalog
                .not_known("githb")
                .contains("did you mean \"github\"?")
        );
        assert!(
            catalog
                .not_known("watsapp")
                .contains("did you mean \"whatsapp\"?")
        );
        assert!(
            !catalog
                .not_known("something entirely else")
                .contains("did you mean")
        );
    }

    fn errors_of(toml: &str) -> Vec<String> {
        let scheme = read(toml)
            .map_err(|error| vec![error])
            .and_then(|spec| Scheme::new("own", spec));
        scheme
            .err()
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    const BASE: &str = "algorithm = 'hmac-sha256'\nsignature = { from = 'header:x' }\n";

    /// Whole schemes, each with a part of what is said of it.
    const OWN_MISTAKES: &[(&str, &str)] = &[
        (
            "algorithm = 'md5'\nsignature = { from = 'header:x' }",
            "algorithm: unknown variant `md5`",
        ),
        (
            "algorithm = 'hmac-sha256'\nsignature = { from = 'x' }",
            "signature.from: \"x\" names no place",
        ),
        (
            "algorithm = 'hmac-sha256'\nsignature = { from = 'header:x', spilt = ',' }",
            "signature.spilt: is not a key",
        ),
        ("algorithm = 'hmac-sha256'", "missing field `signature`"),
        (
            "algorithm = 'hmac-sha256'\nsignature = { from = 'signature:t' }",
            "signature.from: a signature can't be",
        ),
        (
            "algorithm = 'hmac-sha256'\ncontent = '{url}'\nsignature = { from = 'query:s' }",
            "signature.from: a signature can't be",
        ),
        (
            "algorithm = ['hmac-sha256', 'sha1']\nsignature = { from = 'header:x' }",
            "algorithm: mixes",
        ),
        (
            "algorithm = []\nsignature = { from = 'header:x' }",
            "algorithm: is an empty list",
        ),
        (
            "algorithm = ['hmac-sha256', 'md5']\nsignature = { from = 'header:x' }",
            "unknown variant `md5`",
        ),
        (
            "algorithm = 'hmac-sha256'\nsignature = { from = 'header:x', all = true }",
            "signature.all: is for",
        ),
    ];

    /// Lines that are added to a good scheme, each with a part of what is said of it.
    const ADDED_MISTAKES: &[(&str, &str)] = &[
        ("colour = 'red'", "colour: is not a key"),
        ("content = '{timestamp}.{body}'", "time: is missing"),
        ("content = '{id}.{body}'", "id: is missing"),
        ("content = '{secret}{body}'", "content: {secret}"),
        ("secret = ['base46']", "secret[0]: \"base46\" is no step"),
        ("window = 3", "window: 3 has no unit"),
        (
            "encoding = 'plain'",
            "encoding: \"plain\" and \"credentials\" are for tokens",
        ),
        ("key = 'header:a?'", "key: \"header:a?\""),
        ("content = ['{body}', '{nothing}']", "content[1]: "),
        ("content = []", "content: is an empty list"),
        ("gzip = 'sometimes'", "gzip: unknown variant"),
    ];

    fn assert_mistake(toml: &str, expected: &str) {
        let errors = errors_of(toml);
        assert!(
            errors.iter().any(|error| error.contains(expected)),
            "{toml}\n{errors:?}"
        );
    }

    #[test]
    fn mistakes_are_reported_with_their_key() {
        for (toml, expected) in OWN_MISTAKES {
            assert_mistake(toml, expected);
        }
        for (added, expected) in ADDED_MISTAKES {
            assert_mistake(&format!("{BASE}{added}"), expected);
        }
        let headers: Vec<String> = (0..70).map(|i| format!("header:h{i}")).collect();
        assert_mistake(
            &format!("{BASE}key = '{}'", headers.join("|")),
            "names more than 64 headers",
        );
        assert!(errors_of(BASE).is_empty());
    }

    #[test]
    fn all_errors_come_together_and_a_built_in_name_is_taken() {
        let spec = |toml: &str| read(toml).unwrap();
        let own = BTreeMap::from([
            (
                "acme".into(),
                spec(
                    "algorithm = 'hmac-sha256'\nkey = 'nowhere'\ncontent = ''\nsignature = { from = 'header:x' }",
                ),
            ),
            (
                "stripe".into(),
                spec("algorithm = 'hmac-sha256'\nsignature = { from = 'header:x' }"),
            ),
        ]);
        let keys: Vec<String> = Catalog::new(&own)
            .err()
            .unwrap()
            .into_iter()
            .map(|error| error.key)
            .collect();
        assert_eq!(
            keys,
            [
                "providers.acme.content",
                "providers.acme.key",
                "providers.stripe"
            ]
        );
    }
}
