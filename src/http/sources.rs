//! The sources as the ingress uses them: verifier, bounds and routes, built once from the settings and swapped whole on a reload.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::{
    provider::{Catalog, SchemeError, Verifier},
    routing::Routes,
    settings::{self, OnConflict, Settings},
};

pub struct Source {
    pub name: Arc<str>,
    pub verifier: Verifier,
    pub routes: Routes,
    pub window: Duration,
    pub body_max: usize,
    pub ack_budget: Duration,
    pub on_conflict: OnConflict,
    /// The headers that are themselves the secret (a shared token), lower-case: never kept, never passed on.
    pub secret_headers: Vec<String>,
    /// The URL as the provider knows it, where it is not the public one with our path.
    pub url: Option<String>,
    /// Bodies may come gzipped.
    pub takes_gzip: bool,
    /// Answers have no body.
    pub bare_answers: bool,
}

impl Source {
    /// The URL that the provider called, as it knows it: the source's own, else the public one with this path and query.
    pub fn url_of(&self, public_url: Option<&str>, target: &str) -> Option<String> {
        match &self.url {
            // The registered URL has the query that came, where it has none of its own.
            Some(url) => Some(match target.split_once('?') {
                Some((_, query)) if !query.is_empty() && !url.contains('?') => format!("{url}?{query}"),
                _ => url.clone(),
            }),
            None => public_url.map(|base| format!("{}{target}", base.trim_end_matches('/'))),
        }
    }

    /// The kind of credentials, for `WWW-Authenticate`.
    pub fn asks_for(&self) -> &'static str {
        let prefix = self.verifier.scheme().spec.signature.prefix.as_deref();
        if prefix.is_some_and(|prefix| prefix.starts_with("Basic")) { "Basic realm=\"hookonce\"" } else { "Bearer" }
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

    /// All sources, or everything that is wrong with any: (the source's name, the error).
    pub fn build(settings: &Settings, catalog: &Catalog) -> Result<Self, Vec<(String, SchemeError)>> {
        let mut sources = HashMap::new();
        let mut errors = Vec::new();
        for (name, source) in &settings.sources {
            let secrets: Vec<_> = source.secret.iter().chain(&source.secrets).filter_map(|secret| secret.read().ok()).collect();
            let token = source.verify_token.as_ref().and_then(|token| token.read().ok());
            match Verifier::new(catalog, source, &secrets).map(|verifier| verifier.with_verify_token(token.as_ref())) {
                Ok(verifier) => {
                    let source = Source {
                        name: name.as_str().into(),
                        routes: Routes::of(settings, name),
                        window: window(settings, source, &verifier),
                        body_max: source.body_max.unwrap_or(settings.ingress.body_max).bytes(),
                        ack_budget: ack_budget(settings, source, &verifier),
                        on_conflict: source.on_conflict,
                        secret_headers: verifier.secret_headers().map(str::to_owned).collect(),
                        url: source.url.clone(),
                        takes_gzip: verifier.scheme().spec.gzip.is_some(),
                        bare_answers: verifier.scheme().spec.bare_answers,
                        verifier,
                    };
                    sources.insert(name.clone(), Arc::new(source));
                }
                Err(found) => errors.extend(found.into_iter().map(|error| (name.clone(), error))),
            }
        }
        if errors.is_empty() { Ok(Self(sources)) } else { Err(errors) }
    }
}

/// The source's own, else the general one; never shorter than the provider goes on sending, where that is known.
fn window(settings: &Settings, source: &settings::Source, verifier: &Verifier) -> Duration {
    let general = settings.retention.keys.0;
    match source.window {
        Some(own) => own.0,
        None => verifier.scheme().spec.window.map_or(general, |provider| general.max(provider.0)),
    }
}

/// The source's own, else the shorter of the provider's and the general one.
fn ack_budget(settings: &Settings, source: &settings::Source, verifier: &Verifier) -> Duration {
    let general = settings.ingress.ack_budget.0;
    match source.ack_budget {
        Some(own) => own.0,
        None => verifier.scheme().spec.ack_budget.map_or(general, |provider| general.min(provider.0)),
    }
}
