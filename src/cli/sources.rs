//! `sources list`.

use clap::Subcommand;

use super::{
    Exit, Globals,
    client::Client,
    output::{self, Column},
};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// With the URL that each provider posts to
    List,
}

const COLUMNS: [Column; 6] = [
    ("SOURCE", "name"),
    ("PROVIDER", "provider"),
    ("URL", "url"),
    ("DESTINATIONS", "destinations"),
    ("EVENTS 24H", "events_24h"),
    ("LAST EVENT", "last_event_at"),
];

pub async fn run(globals: &Globals, command: Command) -> anyhow::Result<Exit> {
    let Command::List = command;
    let sources = Client::find(globals)?.get("/api/v1/sources").await?;
    output::list(globals, sources["items"].as_array().map(Vec::as_slice).unwrap_or_default(), &COLUMNS)?;
    Ok(Exit::Done)
}
