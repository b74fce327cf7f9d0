//! `providers`: list, show. Needs no running service: schemes are built in or in the settings.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Exit, Failure, Globals, config,
    output::{self, Column},
};
use crate::provider::Scheme;

#[derive(Debug, Subcommand)]
pub enum Command {
    List,
    /// The scheme, as it would be written in [providers.NAME]
    Show {
        name: String,
    },
}

const COLUMNS: [Column; 4] = [("PROVIDER", "name"), ("LABEL", "label"), ("ALGORITHM", "algorithm"), ("DOCUMENTED AT", "docs")];

pub fn run(globals: &Globals, command: Command) -> anyhow::Result<Exit> {
    let catalog = config::catalog(globals)?;
    match command {
        Command::List => {
            let rows: Vec<Value> = catalog.iter().map(|scheme| shown(scheme)).collect();
            output::list(globals, &rows, &COLUMNS)?;
        }
        Command::Show { name } => {
            let scheme = catalog
                .get(&name)
                .ok_or_else(|| Failure::not_found(format!("no provider is called {name:?}: `hookonce providers list` shows them")))?;
            let text = toml::to_string_pretty(&scheme.spec)?;
            output::one(globals, &shown(scheme), |_| text)?;
        }
    }
    Ok(Exit::Done)
}

fn shown(scheme: &Scheme) -> Value {
    let mut value = json!({ "name": scheme.name });
    if let (Some(value), Ok(Value::Object(spec))) = (value.as_object_mut(), serde_json::to_value(&scheme.spec)) {
        value.extend(spec);
    }
    value
}
