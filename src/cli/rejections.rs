//! `rejections`: list, explain.

use clap::Subcommand;

use super::{
    Exit, Globals,
    client::Client,
    output::{self, Column, columns},
};
use crate::contract::{Check, Diagnosis, Explained, Rejection, RejectionId};

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
    Explain { id: RejectionId },
}

const COLUMNS: [Column<Rejection>; 6] = columns!(
    Rejection;
    "ID" => id,
    "SOURCE" => source,
    "REASON" => reason,
    "DETAIL" => detail,
    "AT" => rejected_at,
    "BYTES" => body_bytes,
);
const FIELDS: [Column<Explained>; 8] = columns!(
    Explained;
    "id" => rejection.id,
    "source" => rejection.source,
    "reason" => rejection.reason,
    "at" => rejection.rejected_at,
    "request" => rejection.method,
    "target" => rejection.target,
    "bytes" => rejection.body_bytes,
    "sha256" => body_digest,
);

pub async fn run(globals: &Globals, command: Command) -> anyhow::Result<Exit> {
    let client = Client::find(globals)?;
    match command {
        Command::List {
            source,
            reason,
            since,
            until,
            limit,
        } => {
            let query = [
                ("source", source),
                ("reason", reason),
                ("since", since),
                ("until", until),
            ];
            let rejections: Vec<Rejection> =
                client.list("/api/v1/rejections", &query, limit).await?;
            output::list(globals, &rejections, &COLUMNS)?;
        }
        Command::Explain { id } => {
            let rejection: Explained = client
                .get(&format!("/api/v1/rejections/{id}/explain"))
                .await?;
            output::one(globals, &rejection, text)?;
        }
    }
    Ok(Exit::Done)
}

fn text(explained: &Explained) -> String {
    let mut text = output::fields(explained, &FIELDS);
    text.push('\n');
    for (name, value) in &explained.headers {
        text.push_str(&format!(
            "{}: {}\n",
            output::printable(name),
            output::printable(value)
        ));
    }
    text.push('\n');
    for Check {
        check,
        passed,
        found,
    } in &explained.checks
    {
        let mark = match passed {
            Some(true) => "ok",
            Some(false) => "FAILED",
            None => "-",
        };
        text.push_str(&format!(
            "{mark:<7} {:<10} {}\n",
            output::printable(check),
            output::printable(found)
        ));
    }
    if !explained.secrets.is_empty() {
        let secrets = explained.secrets.join(", ");
        text.push_str(&format!(
            "\nthe source's secrets, by the start of their SHA-256: {secrets}\n"
        ));
    }
    for Diagnosis { code, text: why } in &explained.diagnoses {
        text.push_str(&format!("\n{code}: {}\n", output::printable(why)));
    }
    text
}
