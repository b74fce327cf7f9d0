//! `providers`: list, show. Needs no running service, because schemes are built in or in the
//! settings. Each fact is shown with how it was established.

mod facts;
mod words;

use clap::Subcommand;
use serde_json::{Value, json};

use self::{
    facts::facts,
    words::{algorithms, established, identity_in_short, key_in_short},
};
use super::{
    Exit, Failure, Globals, config,
    output::{self, Column, columns},
};
use hookonce_scheme::Scheme;

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

/// The scheme with the texts of the table's cells added.
fn row(scheme: &Scheme) -> Value {
    let mut value = shown(scheme);
    value["algorithm"] = algorithms(scheme).into();
    value["established"] = established(scheme).into();
    value["key_says"] = key_in_short(scheme).into();
    value["identity_says"] = identity_in_short(scheme).into();
    value
}

#[cfg(test)]
mod tests;
