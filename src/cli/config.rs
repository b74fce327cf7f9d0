//! `config`: check, show, schema; and how the other commands read the settings.

use std::collections::BTreeMap;

use clap::Subcommand;
use hookonce_scheme::{Catalog, doubts};
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::{
    cli::{Exit, Format, Globals, output},
    intake::sources::{Sources, secret_key},
    settings::{self, Inputs, Loaded, Problem, Problems},
};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// All problems at once, each with file and key
    Check,
    /// The settings in force, secrets masked
    Show,
    /// The JSON schema of the file
    Schema,
}

pub fn run(globals: &Globals, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Check => return check(globals),
        Command::Show => {
            let settings = load(globals)?.settings;
            let value = serde_json::to_value(&settings)?;
            output::one(globals, &value, |_| settings::shown(&settings))?;
        }
        Command::Schema => output::print(&serde_json::to_string_pretty(&schema())?)?,
    }
    Ok(Exit::Done)
}

/// The settings' JSON schema with the built-in providers named. An editor offers them, and accepts
/// the name of a provider of the file's own.
fn schema() -> serde_json::Value {
    let mut schema = settings::schema();
    let built_in = Catalog::new(&BTreeMap::new());
    let names: Vec<&str> = built_in.iter().flat_map(Catalog::names).collect();
    schema["$defs"]["Source"]["properties"]["provider"] =
        json!({ "anyOf": [{ "enum": names }, { "type": "string" }] });
    schema
}

fn check(globals: &Globals) -> anyhow::Result<Exit> {
    let found = match load(globals) {
        Ok(loaded) => match scheme_problems(&loaded) {
            Problems(problems) if problems.is_empty() => Ok(loaded),
            problems => Err(problems),
        },
        Err(problems) => Err(problems),
    };
    let row = |problem: Problem, severity: &str| json!({ "severity": severity, "origin": problem.origin, "key": problem.key, "message": problem.message });
    match (found, globals.output) {
        (Ok(loaded), Format::Table) => {
            for warning in warnings(&loaded) {
                anstream::eprintln!("\x1b[1;33mwarning:\x1b[0m {warning}");
            }
            let file = loaded.file.map_or_else(
                || "no file: the defaults and the environment".into(),
                |file| file.display().to_string(),
            );
            let settings = loaded.settings;
            let counts = format!(
                "{} sources, {} destinations, {} routes",
                settings.sources.len(),
                settings.destinations.len(),
                settings.routes.len()
            );
            output::print(&format!("the configuration is valid ({file}; {counts})"))?;
            Ok(Exit::Done)
        }
        (Ok(loaded), _) => {
            output::list(
                globals,
                &warnings(&loaded)
                    .into_iter()
                    .map(|warning| row(warning, "warning"))
                    .collect::<Vec<_>>(),
                &[],
            )?;
            Ok(Exit::Done)
        }
        (Err(problems), Format::Table) => Err(problems.into()),
        (Err(Problems(problems)), _) => {
            output::list(
                globals,
                &problems
                    .into_iter()
                    .map(|problem| row(problem, "error"))
                    .collect::<Vec<_>>(),
                &[],
            )?;
            Ok(Exit::Failed)
        }
    }
}

/// The settings as `serve` reads them, without the checks that need the providers.
pub fn load(globals: &Globals) -> Result<Loaded, Problems> {
    settings::load(&Inputs {
        file: globals.config.clone(),
        environment: std::env::vars().collect(),
        overlay: None,
    })
}

/// The same, as far as they can be read here: a service with this file may have variables that are
/// not set for this command.
pub fn load_readable(globals: &Globals) -> Result<Loaded, Problems> {
    settings::load_readable(&Inputs {
        file: globals.config.clone(),
        environment: std::env::vars().collect(),
        overlay: None,
    })
}

/// What is wrong with providers and with the sources that use them.
pub fn scheme_problems(loaded: &Loaded) -> Problems {
    let catalog = match Catalog::new(&loaded.settings.providers) {
        Ok(catalog) => catalog,
        Err(errors) => {
            return Problems(
                errors
                    .into_iter()
                    .map(|error| loaded.problem(error.key, error.message))
                    .collect(),
            );
        }
    };
    let errors = Sources::build(&loaded.settings, &catalog, &[], false)
        .err()
        .unwrap_or_default();
    Problems(
        errors
            .into_iter()
            .map(|(source, error)| {
                let key = if error.key.is_empty() {
                    format!("sources.{source}")
                } else {
                    format!("sources.{source}.{}", error.key)
                };
                loaded.problem(key, error.message)
            })
            .collect(),
    )
}

/// Secrets that were probably pasted wrongly. These are warnings, because such a secret may be
/// right.
pub fn warnings(loaded: &Loaded) -> Vec<Problem> {
    let Ok(catalog) = Catalog::new(&loaded.settings.providers) else {
        return Vec::new();
    };
    let mut warnings = Vec::new();
    for (name, source) in &loaded.settings.sources {
        let Some(scheme) = catalog.get(&source.provider) else {
            continue;
        };
        for (index, secret) in source.secret.iter().chain(&source.secrets).enumerate() {
            let Ok(secret) = secret.read() else { continue };
            let key = format!("sources.{name}.{}", secret_key(source, index));
            let said = doubts(scheme, secret.expose_secret());
            warnings.extend(
                said.into_iter()
                    .map(|doubt| loaded.problem(key.as_str(), format!("looks wrong: it {doubt}"))),
            );
        }
    }
    warnings.extend(without_a_route(loaded));
    warnings
}

/// Sources whose events go nowhere, and destinations that get none.
fn without_a_route(loaded: &Loaded) -> Vec<Problem> {
    let settings = &loaded.settings;
    let is_source = |name: &str| settings.routes.iter().any(|route| route.source == name);
    let is_destination = |name: &str| {
        let routes = &mut settings.routes.iter();
        routes.any(|route| route.destination == name)
    };
    let sources = settings.sources.keys().filter(|name| !is_source(name));
    let sources = sources.map(|name| {
        let message =
            "has no route: its events are recorded and go nowhere. Add [[routes]] with this source";
        loaded.problem(format!("sources.{name}"), message)
    });
    let destinations = settings
        .destinations
        .keys()
        .filter(|name| !is_destination(name));
    let destinations = destinations.map(|name| {
        let message =
            "has no route: it gets events by replay alone. Add [[routes]] with this destination";
        loaded.problem(format!("destinations.{name}"), message)
    });
    sources.chain(destinations).collect()
}

/// The providers: built in, and those of the settings where these can be read.
pub fn catalog(globals: &Globals) -> anyhow::Result<Catalog> {
    match load(globals) {
        Ok(loaded) => catalog_of(Some(&loaded.settings)),
        // A file that was named must be right. One that was only found must not keep a built-in
        // provider from being used.
        Err(problems) if globals.config.is_some() => Err(problems.into()),
        Err(_) => catalog_of(None),
    }
}

/// The providers: built in, and those of these settings.
pub fn catalog_of(settings: Option<&settings::Settings>) -> anyhow::Result<Catalog> {
    let own = settings.map(|settings| settings.providers.clone());
    Catalog::new(&own.unwrap_or_default()).map_err(|errors| {
        let problems = errors
            .into_iter()
            .map(|error| Problem::new("[providers]", error.key, error.message));
        Problems(problems.collect()).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_offers_the_built_in_providers_and_the_whole_grammar() {
        let schema = schema();
        let offered = &schema["$defs"]["Source"]["properties"]["provider"]["anyOf"][0]["enum"];
        let names = offered.as_array().unwrap();
        assert!(names.len() > 160 && names.contains(&json!("stripe")));
        for (table, keys) in [
            ("SchemeSpec", &["challenge", "gzip", "key_id"][..]),
            ("ChallengeSpec", &["when", "mac", "keep"]),
            ("SignatureSpec", &["groups"]),
        ] {
            for key in keys {
                assert!(
                    schema["$defs"][table]["properties"][*key].is_object(),
                    "{table}.{key}"
                );
            }
        }
    }
}
