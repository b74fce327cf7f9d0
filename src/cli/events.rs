//! `events`: list, show, tail; conflicts are a file of their own.

use std::io::Write as _;

use anyhow::Context as _;
use clap::Subcommand;
use futures_util::StreamExt as _;
use serde::Deserialize;

use super::{
    Exit, Format, Globals,
    client::Client,
    conflicts,
    deliveries::COLUMNS as DELIVERY_COLUMNS,
    dev,
    output::{self, Column, columns},
    send,
};
use crate::{
    contract::{Event, EventId, Original, WholeEvent},
    tail::TailLine,
};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Newest first
    List {
        #[arg(long)]
        source: Option<String>,
        /// A pattern of types, such as "invoice.*"
        #[arg(long, value_name = "GLOB")]
        r#type: Option<String>,
        /// The provider's key of an event, whole
        #[arg(long)]
        key: Option<String>,
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
        id: EventId,
        /// The exact body of the request that it came in, and nothing else: of one that was split,
        /// the whole
        #[arg(long, conflicts_with = "as_send")]
        original: bool,
        /// The command that sends it again, signed anew
        #[arg(long)]
        as_send: bool,
    },
    /// Requests and attempts as they happen
    Tail {
        #[arg(long)]
        source: Option<String>,
    },
    /// Requests that share their key with an event of another body, or their body with an event of
    /// another unsigned id
    #[command(subcommand)]
    Conflicts(conflicts::Command),
}

const COLUMNS: [Column<Event>; 7] = columns!(
    Event;
    "ID" => id,
    "SOURCE" => source,
    "TYPE" => event_type,
    "KEY" => event_key,
    "RECEIVED" => received_at,
    "BYTES" => body_bytes,
    "MARK" => mark,
);
const FIELDS: [Column<WholeEvent>; 8] = columns!(
    WholeEvent;
    "id" => id,
    "source" => source,
    "type" => event_type,
    "key" => event_key,
    "received" => received_at,
    "bytes" => body_bytes,
    "sha256" => body_digest,
    "mark" => mark,
);

pub async fn run(globals: &Globals, command: Command) -> anyhow::Result<Exit> {
    let client = Client::find(globals)?;
    match command {
        Command::Conflicts(command) => return conflicts::run(globals, &client, command).await,
        Command::List {
            source,
            r#type,
            key,
            since,
            until,
            limit,
        } => {
            let query = [
                ("source", source),
                ("type", r#type),
                ("key", key),
                ("since", since),
                ("until", until),
            ];
            let events: Vec<Event> = client.list("/api/v1/events", &query, limit).await?;
            output::list(globals, &events, &COLUMNS)?;
        }
        Command::Show {
            id, original: true, ..
        } => {
            let body = client
                .stream(&format!("/api/v1/events/{id}/original"))
                .await?
                .bytes()
                .await
                .context("the body broke off")?;
            std::io::stdout()
                .write_all(&body)
                .context("can't write the body")?;
        }
        Command::Show {
            id,
            original: false,
            as_send,
        } => {
            let event: WholeEvent = client.get(&format!("/api/v1/events/{id}")).await?;
            if as_send {
                output::print(&send::command_for(globals, &client, &event).await?)?;
            } else {
                output::one(globals, &event, text)?;
            }
        }
        Command::Tail { source } => tail(globals, &client, source.as_deref()).await?,
    }
    Ok(Exit::Done)
}

fn text(event: &WholeEvent) -> String {
    let mut text = output::fields(event, &FIELDS);
    text.push('\n');
    if let Some(why) = &event.type_dropped {
        text.push_str(&format!(
            "no type   what the request says is {}: it was left out\n",
            output::printable(why)
        ));
    }
    if let Some(Original {
        items, body_bytes, ..
    }) = &event.original
    {
        text.push_str(&format!("split     one of {items} events of a request of {body_bytes} bytes: --original prints it\n"));
    }
    for (name, value) in &event.headers {
        text.push_str(&format!(
            "{}: {}\n",
            output::printable(name),
            output::printable(value)
        ));
    }
    text.push_str(&format!(
        "\n{}\n",
        output::body(event.body.as_deref(), event.body_base64.as_deref())
    ));
    if !event.deliveries.is_empty() {
        text.push_str(&format!(
            "\n{}",
            output::table(&event.deliveries, &DELIVERY_COLUMNS)
        ));
    }
    if !event.conflicts.is_empty() {
        text.push_str(&format!(
            "\n{}",
            output::table(&event.conflicts, &conflicts::COLUMNS)
        ));
    }
    text
}

/// A message of the stream: a line of the tail, or how many lines were missed.
#[derive(Deserialize)]
#[serde(untagged)]
enum Streamed {
    Missed { lines: u64 },
    Line(TailLine),
}

/// Runs until Ctrl-C or until the service ends the stream.
async fn tail(globals: &Globals, client: &Client, source: Option<&str>) -> anyhow::Result<()> {
    let mut chunks = client.stream("/api/v1/stream").await?.bytes_stream();
    globals.note("waiting for requests and attempts; Ctrl-C ends");
    let mut waiting: Vec<u8> = Vec::new();
    while let Some(chunk) = chunks.next().await {
        waiting.extend_from_slice(&chunk.context("the stream broke off")?);
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            let Some(data) = line.strip_prefix(b"data: ") else {
                continue;
            };
            show(
                globals,
                serde_json::from_slice(data).context("the stream is not hookonce's")?,
                source,
            )?;
        }
    }
    globals.note("the service ended the stream");
    Ok(())
}

fn show(globals: &Globals, said: Streamed, source: Option<&str>) -> anyhow::Result<()> {
    let line = match said {
        Streamed::Missed { lines } => {
            globals.note(&format!("({lines} lines were too many to show)"));
            return Ok(());
        }
        Streamed::Line(line) => line,
    };
    let of = match &line {
        TailLine::Request { source, .. } => Some(source.as_str()),
        TailLine::Attempt { .. } => None,
    };
    if source.is_some_and(|source| of != Some(source)) {
        return Ok(());
    }
    match globals.output {
        Format::Table => output::print(&dev::show(&line))?,
        Format::Json | Format::Ndjson => output::line(&line)?,
    }
    Ok(())
}
