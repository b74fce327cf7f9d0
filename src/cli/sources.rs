//! `sources`: list; the secret that one has learnt, and forgetting it.

use clap::Subcommand;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    Exit, Globals,
    client::Client,
    output::{self, Column, columns},
};
use crate::contract::{Forgotten, LearntSecret, Page, Source};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// With the URL that each provider posts to, and where its secret comes from
    List,
    /// Print the secret that a handshake brought, to be pasted where the provider wants it
    Secret { name: String },
    /// Forget the secret that a handshake brought: the next one brings another
    Forget { name: String },
}

const COLUMNS: [Column<Source>; 11] = columns!(
    Source;
    "SOURCE" => name,
    "PROVIDER" => provider,
    "URL" => url,
    "SECRET" => secret,
    "DESTINATIONS" => destinations,
    "EVENTS 24H" => events_24h,
    "DUPLICATES 24H" => last_day.duplicate,
    "REFUSED 24H" => last_day.rejected,
    "MARKED 24H" => marked_24h,
    "CONFLICTS" => conflicts,
    "LAST EVENT" => last_event_at,
);

pub async fn run(globals: &Globals, command: Command) -> anyhow::Result<Exit> {
    let client = Client::find(globals)?;
    let path = |name: &str| {
        format!(
            "/api/v1/sources/{}/secret",
            utf8_percent_encode(name, NON_ALPHANUMERIC)
        )
    };
    match command {
        Command::List => {
            let Page { items, .. } = client.get("/api/v1/sources").await?;
            output::list(globals, &items, &COLUMNS)?;
        }
        Command::Secret { name } => {
            let answer: LearntSecret = client.get(&path(&name)).await?;
            output::one(globals, &answer, |answer| output::printable(&answer.secret))?;
        }
        Command::Forget { name } => {
            let answer: Forgotten = client
                .post(&format!("{}/forget", path(&name)), None)
                .await?;
            output::one(globals, &answer, |_| {
                format!(
                    "{} has forgotten its secret: the next handshake brings another",
                    output::printable(&name)
                )
            })?;
        }
    }
    Ok(Exit::Done)
}
