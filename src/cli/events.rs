//! `events`: list, show, tail; conflicts are a file of their own.

use std::io::Write as _;

use anyhow::Context as _;
use clap::Subcommand;
use futures_util::StreamExt as _;
use serde_json::Value;
use uuid::Uuid;

use super::{
    Exit, Format, Globals,
    client::Client,
    conflicts,
    deliveries::COLUMNS as DELIVERY_COLUMNS,
    dev,
    output::{self, Column},
};
use crate::tail::TailLine;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Newest first
    List {
        #[arg(long)]
        source: Option<String>,
        /// A pattern of types, such as "invoice.*"
        #[arg(long, value_name = "GLOB")]
        r#type: Option<String>,
        /// RFC 3339, a date, or how long ago: "2h"
        #[arg(long, value_name = "T")]
        since: Option<String>,
        #[arg(long, value_name = "T")]
        until: Option<String>,
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// All about one, with its deliveries and conflicts
    Show {
        id: Uuid,
        /// The exact body of the request that it came in, and nothing else: of one that was split, the whole
        #[arg(long)]
        original: bool,
    },
    /// Requests and attempts as they happen
    Tail {
        #[arg(long)]
        source: Option<String>,
    },
    /// Requests that share their key with an event of another body, or their body with an event of another unsigned id
    #[command(subcommand)]
    Conflicts(conflicts::Command),
}

const COLUMNS: [Column; 7] = [
    ("ID", "id"),
    ("SOURCE", "source"),
    ("TYPE", "event_type"),
    ("KEY", "event_key"),
    ("RECEIVED", "received_at"),
    ("BYTES", "body_bytes"),
    ("MARK", "mark"),
];
const FIELDS: [Column; 8] = [
    ("id", "id"),
    ("source", "source"),
    ("type", "event_type"),
    ("key", "event_key"),
    ("received", "received_at"),
    ("bytes", "body_bytes"),
    ("sha256", "body_digest"),
    ("mark", "mark"),
];

pub async fn run(globals: &Globals, command: Command) -> anyhow::Result<Exit> {
    let client = Client::find(globals)?;
    match command {
        Command::Conflicts(command) => return conflicts::run(globals, &client, command).await,
        Command::List { source, r#type, since, until, limit } => {
            let query = [("source", source), ("type", r#type), ("since", since), ("until", until)];
            let events = client.list("/api/v1/events", &query, limit).await?;
            output::list(globals, &events, &COLUMNS)?;
        }
        Command::Show { id, original: true } => {
            let body = client.stream(&format!("/api/v1/events/{id}/original")).await?.bytes().await.context("the body broke off")?;
            std::io::stdout().write_all(&body).context("can't write the body")?;
        }
        Command::Show { id, original: false } => {
            let event = client.get(&format!("/api/v1/events/{id}")).await?;
            output::one(globals, &event, text)?;
        }
        Command::Tail { source } => tail(globals, &client, source.as_deref()).await?,
    }
    Ok(Exit::Done)
}

fn text(event: &Value) -> String {
    let mut text = output::fields(event, &FIELDS);
    text.push('\n');
    if let Some(why) = event["type_dropped"].as_str() {
        text.push_str(&format!("no type   what the request says is {}: it was left out\n", output::printable(why)));
    }
    if event["original"].is_object() {
        text.push_str(&format!(
            "split     one of {} events of a request of {} bytes: --original prints it\n",
            event["original"]["items"], event["original"]["body_bytes"]
        ));
    }
    for header in event["headers"].as_array().into_iter().flatten() {
        let part = |at: usize| output::printable(header[at].as_str().unwrap_or_default());
        text.push_str(&format!("{}: {}\n", part(0), part(1)));
    }
    let body = event["body"].as_str().or(event["body_base64"].as_str()).unwrap_or_default();
    let body: Vec<String> = body.lines().map(output::printable).collect();
    text.push_str(&format!("\n{}\n", body.join("\n")));
    for (name, columns) in [("deliveries", &DELIVERY_COLUMNS[..]), ("conflicts", &conflicts::COLUMNS[..])] {
        if let Some(rows) = event[name].as_array().filter(|rows| !rows.is_empty()) {
            text.push_str(&format!("\n{}", output::table(rows, columns)));
        }
    }
    text
}

/// Runs until Ctrl-C or the service's end.
async fn tail(globals: &Globals, client: &Client, source: Option<&str>) -> anyhow::Result<()> {
    let mut chunks = client.stream("/api/v1/stream").await?.bytes_stream();
    globals.note("waiting for requests and attempts; Ctrl-C ends");
    let mut waiting: Vec<u8> = Vec::new();
    while let Some(chunk) = chunks.next().await {
        waiting.extend_from_slice(&chunk.context("the stream broke off")?);
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            let Some(data) = line.strip_prefix(b"data: ") else { continue };
            show(globals, &serde_json::from_slice(data).context("the stream is not hookonce's")?, source)?;
        }
    }
    globals.note("the service ended the stream");
    Ok(())
}

fn show(globals: &Globals, data: &Value, source: Option<&str>) -> anyhow::Result<()> {
    if let Some(lines) = data["lines"].as_u64() {
        globals.note(&format!("({lines} lines were too many to show)"));
        return Ok(());
    }
    if source.is_some_and(|source| data["source"].as_str() != Some(source)) {
        return Ok(());
    }
    match globals.output {
        Format::Table => output::print(&dev::show(&serde_json::from_value::<TailLine>(data.clone())?))?,
        Format::Json | Format::Ndjson => output::line(data)?,
    }
    Ok(())
}
