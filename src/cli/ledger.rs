//! `ledger`: list, show, resolve.

use clap::{Subcommand, ValueEnum};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{
    Exit, Failure, Globals,
    client::Client,
    output::{self, Column},
};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Steps of all runs, newest first
    List {
        #[arg(long)]
        run: Option<String>,
        #[arg(long, value_enum)]
        status: Option<Status>,
        #[arg(long)]
        tenant: Option<String>,
        /// RFC 3339, a date, or how long ago: "2h"
        #[arg(long, value_name = "T")]
        since: Option<String>,
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// A run, or one of its steps with its result
    Show {
        run: String,
        step: Option<String>,
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Say what came of a step whose holder was lost
    Resolve {
        run: String,
        step: String,
        #[arg(long, value_enum)]
        outcome: Outcome,
        /// JSON
        #[arg(long, value_name = "JSON")]
        result: Option<String>,
        /// How you know: it is kept with the step
        #[arg(long, value_name = "TEXT")]
        evidence: String,
        /// The fence that you saw; default: the step's, as it is now
        #[arg(long, value_name = "N")]
        fence: Option<i64>,
        #[arg(long)]
        tenant: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Status {
    Running,
    Unknown,
    Released,
    Done,
    Failed,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Outcome {
    Done,
    Failed,
    /// It may be claimed again
    NotExecuted,
}

const COLUMNS: [Column; 8] = [
    ("RUN", "run"),
    ("STEP", "step"),
    ("STATUS", "status"),
    ("FENCE", "fence"),
    ("ATTEMPT", "attempt"),
    ("OWNER", "owner"),
    ("CLAIMED", "claimed_at"),
    ("TENANT", "tenant"),
];
const FIELDS: [Column; 13] = [
    ("run", "run"),
    ("step", "step"),
    ("tenant", "tenant"),
    ("status", "status"),
    ("fence", "fence"),
    ("attempt", "attempt"),
    ("effect key", "effect_key"),
    ("owner", "owner"),
    ("on lost", "on_lost"),
    ("input hash", "input_hash"),
    ("claimed", "claimed_at"),
    ("lease until", "lease_until"),
    ("ended", "ended_at"),
];

fn name(value: impl ValueEnum) -> Option<String> {
    value.to_possible_value().map(|value| value.get_name().to_owned())
}

fn path(run: &str, step: Option<&str>, action: &str, tenant: Option<&str>) -> String {
    let part = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let mut path = format!("/v1/runs/{}/steps", part(run));
    if let Some(step) = step {
        path.push_str(&format!("/{}{action}", part(step)));
    }
    if let Some(tenant) = tenant {
        path.push_str(&format!("?tenant={}", part(tenant)));
    }
    path
}

pub async fn run(globals: &Globals, command: Command) -> anyhow::Result<Exit> {
    let client = Client::find(globals)?;
    match command {
        Command::List { run, status, tenant, since, limit } => {
            let query = [("run", run), ("status", status.and_then(name)), ("tenant", tenant), ("since", since)];
            let steps = client.list("/api/v1/steps", &query, limit).await?;
            output::list(globals, &steps, &COLUMNS)?;
        }
        Command::Show { run, step: None, tenant } => {
            let steps = client.list(&path(&run, None, "", None), &[("tenant", tenant)], usize::MAX).await?;
            if steps.is_empty() {
                return Err(Failure::not_found(format!("there is no run {run:?}")).into());
            }
            output::list(globals, &steps, &COLUMNS)?;
        }
        Command::Show { run, step: Some(step), tenant } => {
            let step = client.get(&path(&run, Some(&step), "", tenant.as_deref())).await?;
            output::one(globals, &step, text)?;
        }
        Command::Resolve { run, step, outcome, result, evidence, fence, tenant } => {
            let result = result.map(|result| serde_json::from_str::<Value>(&result)).transpose();
            let result = result.map_err(|error| Failure::usage(format!("--result is no JSON: {error}")))?;
            let fence = match fence {
                Some(fence) => fence,
                None => client.get(&path(&run, Some(&step), "", tenant.as_deref())).await?["fence"].as_i64().unwrap_or_default(),
            };
            let mut body = json!({ "expected_fence": fence, "outcome": name(outcome), "evidence": evidence });
            if let Some(result) = result {
                body["result"] = result;
            }
            let answer = client.post(&path(&run, Some(&step), "/resolve", tenant.as_deref()), Some(&body)).await?;
            output::one(globals, &answer, |answer| match answer["status"].as_str() {
                Some("released") => format!("{run} {step} may be claimed again"),
                status => format!("{run} {step} is {}", status.unwrap_or_default()),
            })?;
        }
    }
    Ok(Exit::Done)
}

fn text(step: &Value) -> String {
    let mut text = output::fields(step, &FIELDS);
    for key in ["result", "evidence"] {
        if !step[key].is_null() {
            text.push_str(&format!("{key:<11} {}\n", output::printable(&step[key].to_string())));
        }
    }
    text
}
