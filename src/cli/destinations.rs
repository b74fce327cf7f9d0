//! `destinations`: list, pause, resume.

use clap::Subcommand;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    Exit, Globals,
    client::Client,
    output::{self, Column, columns},
};
use crate::contract::{Destination, Page, Paused};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// With what waits for each, and what became of the last day's
    List,
    /// Keep what comes in, deliver nothing
    Pause { name: String },
    /// Deliver again
    Resume { name: String },
}

const COLUMNS: [Column<Destination>; 12] = columns!(
    Destination;
    "DESTINATION" => name,
    "STATE" => state,
    "URL" => url,
    "PENDING" => pending,
    "LEASED" => leased,
    "OLDEST OPEN" => oldest_open_at,
    "LAST ERROR" => last_error,
    "STATUS" => last_status,
    "FAILING SINCE" => failing_since,
    "NEXT RETRY" => next_retry_at,
    "DELIVERED 24H" => delivered_24h,
    "DEAD 24H" => dead_24h,
);

pub async fn run(globals: &Globals, command: Command) -> anyhow::Result<Exit> {
    let client = Client::find(globals)?;
    let (name, action) = match &command {
        Command::List => {
            let Page { items, .. } = client.get("/api/v1/destinations").await?;
            output::list(globals, &items, &COLUMNS)?;
            return Ok(Exit::Done);
        }
        Command::Pause { name } => (name, "pause"),
        Command::Resume { name } => (name, "resume"),
    };
    let answer: Paused = client
        .post(
            &format!(
                "/api/v1/destinations/{}/{action}",
                utf8_percent_encode(name, NON_ALPHANUMERIC)
            ),
            None,
        )
        .await?;
    output::one(globals, &answer, |answer| {
        let what = match (answer.paused, answer.changed) {
            (true, true) => "is paused: what comes in for it is kept",
            (true, false) => "was paused already",
            (false, true) => "is resumed",
            (false, false) => "was not paused",
        };
        format!("{} {what}", output::printable(name))
    })?;
    Ok(Exit::Done)
}
