//! `events conflicts`: list, show with what differs, relay.

use clap::Subcommand;
use serde_json::Value;
use uuid::Uuid;

use super::{
    Exit, Globals,
    client::Client,
    output::{self, Column},
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
    Show { id: Uuid },
    /// Make it an event of its own, and relay it to where its routes lead now
    Relay {
        #[arg(required = true)]
        ids: Vec<Uuid>,
    },
}

pub const COLUMNS: [Column; 8] = [
    ("ID", "id"),
    ("SOURCE", "source"),
    ("KIND", "kind"),
    ("KEY", "event_key"),
    ("TYPE", "event_type"),
    ("FIRST EVENT", "event"),
    ("RECEIVED", "received_at"),
    ("RELAYED AS", "relayed_as"),
];
const FIELDS: [Column; 9] = [
    ("id", "id"),
    ("source", "source"),
    ("kind", "kind"),
    ("key", "event_key"),
    ("type", "event_type"),
    ("received", "received_at"),
    ("first event", "event"),
    ("first received", "first_received_at"),
    ("relayed as", "relayed_as"),
];
const COUNTS: [Column; 3] = [("SOURCE", "source"), ("CONFLICTS", "conflicts"), ("NOT RELAYED", "not_relayed")];

pub async fn run(globals: &Globals, client: &Client, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::List { source, since, until, limit } => {
            let query = [("source", source), ("since", since), ("until", until)];
            let conflicts = client.list("/api/v1/conflicts", &query, limit).await?;
            output::list(globals, &conflicts, &COLUMNS)?;
            let page = client.get("/api/v1/conflicts?limit=1").await?;
            if let Some(counts) = page["counts"].as_array().filter(|counts| !counts.is_empty()) {
                globals.note(&format!("\n{}", output::table(counts, &COUNTS)));
            }
        }
        Command::Show { id } => {
            let conflict = client.get(&format!("/api/v1/conflicts/{id}")).await?;
            output::one(globals, &conflict, text)?;
        }
        Command::Relay { ids } => {
            for id in ids {
                let relayed = client.post(&format!("/api/v1/conflicts/{id}/relay"), None).await?;
                output::one(globals, &relayed, |relayed| {
                    let destinations: Vec<&str> =
                        relayed["destinations"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                    let event = relayed["event"].as_str().unwrap_or_default();
                    match destinations.as_slice() {
                        [] => format!("{id} is the event {event} now; no route leads anywhere"),
                        names => format!("{id} is the event {event} now, on its way to {}", output::printable(&names.join(", "))),
                    }
                })?;
            }
        }
    }
    Ok(Exit::Done)
}

fn text(conflict: &Value) -> String {
    let mut text = output::fields(conflict, &FIELDS);
    let value = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => output::printable(text).to_string(),
        other => output::printable(&other.to_string()).to_string(),
    };
    for (title, part, name) in [("headers that differ", "headers", "name"), ("body", "body", "path")] {
        let Some(differences) = conflict["differences"][part].as_array().filter(|differences| !differences.is_empty()) else { continue };
        text.push_str(&format!("\n{title}\n"));
        for difference in differences {
            text.push_str(&match difference["byte"].as_u64() {
                Some(byte) => {
                    format!(
                        "  differs from byte {byte} on; {} bytes at first, {} now\n",
                        difference["first_bytes"], difference["these_bytes"]
                    )
                }
                None => format!("  {}: {} -> {}\n", value(&difference[name]), value(&difference["first"]), value(&difference["this"])),
            });
        }
    }
    let body = conflict["body"].as_str().or(conflict["body_base64"].as_str()).unwrap_or_default();
    let body: Vec<String> = body.lines().map(|line| output::printable(line).to_string()).collect();
    text.push_str(&format!("\n{}\n", body.join("\n")));
    text
}
