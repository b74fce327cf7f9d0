//! `rejections`: list, explain.

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
    /// Newest first
    List {
        #[arg(long)]
        source: Option<String>,
        /// A stable code, such as "no_match"
        #[arg(long)]
        reason: Option<String>,
        /// RFC 3339, a date, or how long ago: "2h"
        #[arg(long, value_name = "T")]
        since: Option<String>,
        #[arg(long, value_name = "T")]
        until: Option<String>,
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// What was checked, what failed, and what is probably wrong
    Explain { id: Uuid },
}

const COLUMNS: [Column; 6] =
    [("ID", "id"), ("SOURCE", "source"), ("REASON", "reason"), ("DETAIL", "detail"), ("AT", "rejected_at"), ("BYTES", "body_bytes")];
const FIELDS: [Column; 8] = [
    ("id", "id"),
    ("source", "source"),
    ("reason", "reason"),
    ("at", "rejected_at"),
    ("request", "method"),
    ("target", "target"),
    ("bytes", "body_bytes"),
    ("sha256", "body_digest"),
];

pub async fn run(globals: &Globals, command: Command) -> anyhow::Result<Exit> {
    let client = Client::find(globals)?;
    match command {
        Command::List { source, reason, since, until, limit } => {
            let query = [("source", source), ("reason", reason), ("since", since), ("until", until)];
            output::list(globals, &client.list("/api/v1/rejections", &query, limit).await?, &COLUMNS)?;
        }
        Command::Explain { id } => {
            let rejection = client.get(&format!("/api/v1/rejections/{id}/explain")).await?;
            output::one(globals, &rejection, text)?;
        }
    }
    Ok(Exit::Done)
}

fn text(rejection: &Value) -> String {
    let mut text = output::fields(rejection, &FIELDS);
    text.push('\n');
    for header in rejection["headers"].as_array().into_iter().flatten() {
        let part = |at: usize| output::printable(header[at].as_str().unwrap_or_default());
        text.push_str(&format!("{}: {}\n", part(0), part(1)));
    }
    text.push('\n');
    for check in rejection["checks"].as_array().into_iter().flatten() {
        let mark = match check["passed"].as_bool() {
            Some(true) => "ok",
            Some(false) => "FAILED",
            None => "-",
        };
        let part = |key: &str| output::printable(check[key].as_str().unwrap_or_default());
        text.push_str(&format!("{mark:<7} {:<10} {}\n", part("check"), part("found")));
    }
    let secrets: Vec<&str> = rejection["secrets"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !secrets.is_empty() {
        text.push_str(&format!("\nthe source's secrets, by the start of their SHA-256: {}\n", secrets.join(", ")));
    }
    for diagnosis in rejection["diagnoses"].as_array().into_iter().flatten() {
        let part = |key: &str| output::printable(diagnosis[key].as_str().unwrap_or_default());
        text.push_str(&format!("\n{}: {}\n", part("code"), part("text")));
    }
    text
}
