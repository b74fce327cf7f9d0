//! The sources as the ingress uses them: verifier, bounds and routes, built once from the settings and swapped whole on a reload.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::{
    provider::{Catalog, SchemeError, Verifier},
    routing::Routes,
    settings::{OnConflict, Settings},
};

pub struct Source {
    pub name: Arc<str>,
    pub verifier: Verifier,
    pub routes: Routes,
    pub window: Duration,
    pub body_max: usize,
    pub ack_budget: Duration,
    pub on_conflict: OnConflict,
}

#[derive(Default)]
pub struct Sources(HashMap<String, Arc<Source>>);

impl Sources {
    pub fn get(&self, name: &str) -> Option<&Arc<Source>> {
        self.0.get(name)
    }

    /// All sources, or everything that is wrong with any: (the source's name, the error).
    pub fn build(settings: &Settings, catalog: &Catalog) -> Result<Self, Vec<(String, SchemeError)>> {
        let mut sources = HashMap::new();
        let mut errors = Vec::new();
        for (name, source) in &settings.sources {
            let secrets: Vec<_> = source.secret.iter().chain(&source.secrets).filter_map(|secret| secret.read().ok()).collect();
            match Verifier::new(catalog, source, &secrets) {
                Ok(verifier) => {
                    let source = Source {
                        name: name.as_str().into(),
                        verifier,
                        routes: Routes::of(settings, name),
                        window: source.window.unwrap_or(settings.retention.keys).0,
                        body_max: source.body_max.unwrap_or(settings.ingress.body_max).bytes(),
                        ack_budget: source.ack_budget.unwrap_or(settings.ingress.ack_budget).0,
                        on_conflict: source.on_conflict,
                    };
                    sources.insert(name.clone(), Arc::new(source));
                }
                Err(found) => errors.extend(found.into_iter().map(|error| (name.clone(), error))),
            }
        }
        if errors.is_empty() { Ok(Self(sources)) } else { Err(errors) }
    }
}
