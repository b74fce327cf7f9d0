//! The sources as the intake uses them: verifier, bounds and routes. They are built once from the
//! settings, and a reload swaps all of them at once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use hookonce_scheme::{Catalog, SchemeError, Verifier};
use secrecy::SecretString;

use crate::{
    event::{Key, key_of, ruled_key_of},
    routing::Routes,
    settings::{self, Dedup, LEDGER_SOURCE, OnConflict, ReplayGuard, SecretRef, Settings},
    store::learnt::LearntSecret,
};

#[derive(Clone)]
pub struct Source {
    pub name: Arc<str>,
    pub verifier: Arc<Verifier>,
    pub routes: Routes,
    pub window: Duration,
    pub body_max: usize,
    pub ack_budget: Duration,
    pub on_conflict: OnConflict,
    pub replay_guard: ReplayGuard,
    /// The headers that are themselves the secret (a shared token), in lower case. They are never
    /// kept and never passed on.
    pub secret_headers: Vec<String>,
    /// The URL as the provider knows it, if it is not the public URL with our path.
    pub url: Option<String>,
    /// Whether bodies may come gzipped.
    pub takes_gzip: bool,
    /// Whether answers have no body.
    pub bare_answers: bool,
    /// What event keys are made of, if the settings say so. Under another rule the same text may
    /// name another event.
    rule: Option<String>,
}

impl Source {
    /// The URL that the provider called, as the provider knows it: the source's own, or else the
    /// public URL with this path and query.
    pub fn url_of(&self, public_url: Option<&str>, target: &str) -> Option<String> {
        match &self.url {
            // If the registered URL has no query of its own, it gets the one that came.
            Some(url) => Some(match target.split_once('?') {
                Some((_, query)) if !query.is_empty() && !url.contains('?') => {
                    format!("{url}?{query}")
                }
                _ => url.clone(),
            }),
            None => public_url.map(|base| [base.trim_end_matches('/'), target].concat()),
        }
    }

    /// The key of an event of this source. `is_whole` says that the request is itself an event,
    /// although its items would usually be the events.
    pub fn key_of(&self, event_key: &str, is_whole: bool) -> Key {
        match (&self.rule, is_whole) {
            (None, false) => key_of(&self.name, event_key),
            (rule, false) => {
                ruled_key_of(&self.name, rule.as_deref().unwrap_or_default(), event_key)
            }
            (rule, true) => ruled_key_of(
                &self.name,
                &["\0whole\0", rule.as_deref().unwrap_or_default()].concat(),
                event_key,
            ),
        }
    }

    /// Whether its keys name their rule. Keys of earlier versions did not.
    pub fn is_ruled(&self) -> bool {
        self.rule.is_some()
    }

    /// The kind of credentials that `WWW-Authenticate` asks for.
    pub fn asks_for(&self) -> &'static str {
        let prefix = self.verifier.scheme().spec.signature.prefix.as_deref();
        if prefix.is_some_and(|prefix| prefix.starts_with("Basic")) {
            "Basic realm=\"hookonce\""
        } else {
            "Bearer"
        }
    }
}

#[derive(Default)]
pub struct Sources(HashMap<String, Arc<Source>>);

impl Sources {
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.0.values()
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Source>> {
        self.0.get(name)
    }

    /// All keys that an event of this event key may have: of the one source, or of any. The ledger's
    /// events, which no source sends, are among them; those of tenants are not.
    pub fn keys_of(&self, source: Option<&str>, event_key: &str) -> Vec<Key> {
        let asked = |name: &str| source.is_none_or(|source| source == name);
        let mut keys = Vec::new();
        if asked(LEDGER_SOURCE) {
            keys.push(key_of(LEDGER_SOURCE, event_key));
        }
        for source in self.iter().filter(|source| asked(&source.name)) {
            keys.extend([
                source.key_of(event_key, false),
                source.key_of(event_key, true),
                // What a step emits, and what came before the settings had a rule.
                key_of(&source.name, event_key),
            ]);
        }
        keys
    }

    /// The same sources, with this secret for a source that had none. A secret that is not usable
    /// changes nothing.
    pub fn with_secret(&self, name: &str, secret: &SecretString) -> Self {
        let mut sources = self.0.clone();
        if let Some(source) = sources.get_mut(name)
            && let Some(verifier) = source.verifier.with_secret(secret)
        {
            *source = Arc::new(Source {
                verifier: Arc::new(verifier),
                ..Source::clone(source)
            });
        }
        Self(sources)
    }

    /// Builds all sources, or returns everything that is wrong with any, as (the source's name, the
    /// error). `learnt` has the secrets of sources that learn theirs. With `look_back`, keys that
    /// earlier versions recorded are looked for as well.
    pub fn build(
        settings: &Settings,
        catalog: &Catalog,
        learnt: &[LearntSecret],
        look_back: bool,
    ) -> Result<Self, Vec<(String, SchemeError)>> {
        let mut sources = HashMap::new();
        let mut errors = Vec::new();
        for (name, source) in &settings.sources {
            match verifier(catalog, name, source, learnt) {
                Ok(verifier) => {
                    let verifier = verifier.looking_back(look_back);
                    let source = Source {
                        name: name.as_str().into(),
                        routes: Routes::of(settings, name),
                        window: window(settings, source, &verifier),
                        body_max: source.body_max.unwrap_or(settings.ingress.body_max).bytes(),
                        ack_budget: ack_budget(settings, source, &verifier),
                        on_conflict: source.on_conflict.unwrap_or_else(|| {
                            OnConflict::where_key_is(verifier.key_is_doubtful())
                        }),
                        replay_guard: source.replay_guard,
                        secret_headers: verifier.secret_headers().map(str::to_owned).collect(),
                        url: source.url.as_deref().map(str::to_owned),
                        takes_gzip: verifier.scheme().spec.gzip.is_some(),
                        bare_answers: verifier.scheme().spec.bare_answers,
                        rule: rule(settings, source, &verifier),
                        verifier: Arc::new(verifier),
                    };
                    sources.insert(name.clone(), Arc::new(source));
                }
                Err(found) => errors.extend(found.into_iter().map(|error| (name.clone(), error))),
            }
        }
        if errors.is_empty() {
            Ok(Self(sources))
        } else {
            Err(errors)
        }
    }
}

/// The parts of the event key that the settings name, or None if the provider's built-in ones are
/// used.
fn rule(settings: &Settings, source: &settings::Source, verifier: &Verifier) -> Option<String> {
    let is_own = settings.providers.contains_key(&source.provider) || source.scheme.is_some();
    let of_scheme = verifier.scheme().spec.key.as_ref().filter(|_| is_own);
    source
        .key
        .as_ref()
        .or(of_scheme)
        .map(|parts| parts.as_slice().join("\0"))
}

/// The source's verifier, with the secret that it has learnt. A secret that cannot be read is an
/// error: without it, requests that are signed with it would be refused.
fn verifier(
    catalog: &Catalog,
    name: &str,
    source: &settings::Source,
    learnt: &[LearntSecret],
) -> Result<Verifier, Vec<SchemeError>> {
    let mut errors = Vec::new();
    let mut read = |key: String, secret: &SecretRef| {
        secret
            .read()
            .map_err(|message| errors.push(SchemeError { key, message }))
            .ok()
    };
    let written = source.secret.iter().chain(&source.secrets).enumerate();
    let mut secrets: Vec<SecretString> = written
        .filter_map(|(index, secret)| read(secret_key(source, index), secret))
        .collect();
    let token = source
        .verify_token
        .as_ref()
        .and_then(|token| read("verify_token".into(), token));
    if !errors.is_empty() {
        return Err(errors);
    }
    let learnt = learnt
        .iter()
        .filter(|learnt| source.learn_secret && learnt.source == name);
    secrets.extend(learnt.map(|learnt| learnt.secret.clone()));
    let verifier = Verifier::new(catalog, &source.spec(), &secrets).map_err(|mut errors| {
        for error in &mut errors {
            if let Some(index) = error
                .key
                .strip_prefix("secrets[")
                .and_then(|rest| rest.strip_suffix(']')?.parse().ok())
            {
                error.key = secret_key(source, index);
            }
        }
        errors
    })?;
    Ok(verifier.with_verify_token(token.as_ref()))
}

/// The setting that has the source's secret of this index.
pub fn secret_key(source: &settings::Source, index: usize) -> String {
    match index.checked_sub(usize::from(source.secret.is_some())) {
        Some(index) => format!("secrets[{index}]"),
        None => "secret".into(),
    }
}

/// How long keys count: the source's own time if it has one. Otherwise the general time, or the
/// provider's time of retries if that is longer. A provider whose bodies alone are compared has
/// exactly its own time, because later the same bytes are more likely another event.
fn window(settings: &Settings, source: &settings::Source, verifier: &Verifier) -> Duration {
    let general = settings.retention.keys.0;
    let spec = &verifier.scheme().spec;
    match (source.window, spec.window) {
        (Some(own), _) => own.0,
        (None, Some(provider)) if spec.dedup == Some(Dedup::Body) => provider.0,
        (None, Some(provider)) => general.max(provider.0),
        (None, None) => general,
    }
}

/// The source's own time for an answer, or else the shorter of the provider's and the general one.
fn ack_budget(settings: &Settings, source: &settings::Source, verifier: &Verifier) -> Duration {
    let general = settings.ingress.ack_budget.0;
    match source.ack_budget {
        Some(own) => own.0,
        None => verifier
            .scheme()
            .spec
            .ack_budget
            .map_or(general, |provider| general.min(provider.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_cannot_be_read_or_used_is_an_error_under_its_own_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let gone = SecretRef::File("/nonexistent/secret".into());
        let source = |secret: Option<SecretRef>, secrets: Vec<SecretRef>| settings::Source {
            provider: "standard-webhooks".into(),
            secret,
            secrets,
            ..settings::Source::default()
        };
        let good = || SecretRef::Value("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into());
        let bad = || SecretRef::Value("whsec_!".into());
        let catalog = Catalog::new(&Default::default()).unwrap();
        let mut settings = settings::load(&settings::Inputs::default())
            .unwrap()
            .settings;
        for (source, keys) in [
            (source(Some(good()), vec![gone.clone()]), vec!["secrets[0]"]),
            (
                source(
                    Some(gone.clone()),
                    vec![good(), SecretRef::File(file.path().into())],
                ),
                vec!["secret", "secrets[1]"],
            ),
            (source(Some(bad()), vec![good()]), vec!["secret"]),
            (
                source(Some(good()), vec![good(), bad()]),
                vec!["secrets[1]"],
            ),
            (source(None, vec![bad(), good()]), vec!["secrets[0]"]),
            (
                settings::Source {
                    verify_token: Some(gone.clone()),
                    ..source(Some(good()), Vec::new())
                },
                vec!["verify_token"],
            ),
        ] {
            settings.sources = [("s".to_owned(), source)].into();
            let errors = Sources::build(&settings, &catalog, &[], false)
                .err()
                .unwrap_or_default();
            assert_eq!(
                errors
                    .iter()
                    .map(|(_, error)| error.key.as_str())
                    .collect::<Vec<_>>(),
                keys
            );
        }
    }
}
