//! `events conflicts`: list, show with what differs, relay.

use clap::Subcommand;
use serde_json::Value;

use super::{
    Exit, Globals,
    client::Client,
    output::{self, Column, columns},
};
use crate::contract::{
    BodyDifference, Conflict, ConflictCount, ConflictId, Conflicts, HeaderDifference,
    RelayedConflict, WholeConflict,
};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Newest first, and how many each source has
    List {
        #[arg(long)]
        source: Option<String>,
        /// RFC 3339, a date, or how long ago: "2h"
        #[arg(long, value_name = "T")]
        since: Option<String>,
        #[arg(long, value_name = "T")]
        until: Option<String>,
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// One, with what differs from the event that came first
    Show { id: ConflictId },
    /// Make it an event of its own, and relay it to where its routes lead now
    Relay {
        #[arg(required = true)]
        ids: Vec<ConflictId>,
    },
}

pub const COLUMNS: [Column<Conflict>; 8] = columns!(
    Conflict;
    "ID" => id,
    "SOURCE" => source,
    "KIND" => kind,
    "KEY" => event_key,
    "TYPE" => event_type,
    "FIRST EVENT" => event,
    "RECEIVED" => received_at,
    "RELAYED AS" => relayed_as,
);
const FIELDS: [Column<WholeConflict>; 9] = columns!(
    WholeConflict;
    "id" => id,
    "source" => source,
    "kind" => kind,
    "key" => event_key,
    "type" => event_type,
    "received" => received_at,
    "first event" => event,
    "first received" => first_received_at,
    "relayed as" => relayed_as,
);
const COUNTS: [Column<ConflictCount>; 3] = columns!(
    ConflictCount;
    "SOURCE" => source,
    "CONFLICTS" => conflicts,
    "NOT RELAYED" => not_relayed,
);

pub async fn run(globals: &Globals, client: &Client, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::List {
            source,
            since,
            until,
            limit,
        } => {
            let query = [("source", source), ("since", since), ("until", until)];
            let conflicts: Vec<Conflict> = client.list("/api/v1/conflicts", &query, limit).await?;
            output::list(globals, &conflicts, &COLUMNS)?;
            let Conflicts { counts, .. } = client.get("/api/v1/conflicts?limit=1").await?;
            if !counts.is_empty() {
                globals.note(&format!("\n{}", output::table(&counts, &COUNTS)));
            }
        }
        Command::Show { id } => {
            let conflict: WholeConflict = client.get(&format!("/api/v1/conflicts/{id}")).await?;
            output::one(globals, &conflict, text)?;
        }
        Command::Relay { ids } => {
            for id in ids {
                let relayed: RelayedConflict = client
                    .post(&format!("/api/v1/conflicts/{id}/relay"), None)
                    .await?;
                output::one(
                    globals,
                    &relayed,
                    |RelayedConflict {
                         event,
                         destinations,
                         ..
                     }| match destinations.as_slice() {
                        [] => format!("{id} is the event {event} now; no route leads anywhere"),
                        names => format!(
                            "{id} is the event {event} now, on its way to {}",
                            output::printable(&names.join(", "))
                        ),
                    },
                )?;
            }
        }
    }
    Ok(Exit::Done)
}

fn text(conflict: &WholeConflict) -> String {
    let mut text = output::fields(conflict, &FIELDS);
    let value = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => output::printable(text),
        other => output::printable(&other.to_string()),
    };
    let line = |name: &str, first: &Value, this: &Value| {
        format!(
            "  {}: {} -> {}\n",
            output::printable(name),
            value(first),
            value(this)
        )
    };
    if !conflict.differences.headers.is_empty() {
        text.push_str("\nheaders that differ\n");
    }
    for HeaderDifference { name, first, this } in &conflict.differences.headers {
        text.push_str(&line(name, first, this));
    }
    if !conflict.differences.body.is_empty() {
        text.push_str("\nbody\n");
    }
    for difference in &conflict.differences.body {
        text.push_str(&match difference {
            BodyDifference::Place { path, first, this } => line(path, first, this),
            BodyDifference::Byte { byte, first_bytes, these_bytes } => {
                format!("  differs from byte {byte} on; {first_bytes} bytes at first, {these_bytes} now\n")
            }
        });
    }
    text.push_str(&format!(
        "\n{}\n",
        output::body(conflict.body.as_deref(), conflict.body_base64.as_deref())
    ));
    text
}
