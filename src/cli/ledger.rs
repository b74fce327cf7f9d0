//! `ledger`: list, runs, show, resolve.

use clap::Subcommand;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{
    Exit, Failure, Format, Globals,
    client::Client,
    output::{self, Column, Shown as _, columns},
};
use crate::contract::{Run, Settled, Step, StepOutcome, StepState, WholeStep};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Steps of all runs, newest first
    List {
        #[arg(long)]
        run: Option<String>,
        #[arg(long, value_enum)]
        status: Option<StepState>,
        #[arg(long)]
        tenant: Option<String>,
        /// RFC 3339, a date, or how long ago: "2h"
        #[arg(long, value_name = "T")]
        since: Option<String>,
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// Runs by name, with how many of their steps are in each state
    Runs {
        /// What their names begin with
        prefix: Option<String>,
        #[arg(long)]
        tenant: Option<String>,
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
        outcome: StepOutcome,
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

const COLUMNS: [Column<Step>; 8] = columns!(
    Step;
    "RUN" => run,
    "STEP" => step,
    "STATUS" => status,
    "FENCE" => fence,
    "ATTEMPT" => attempt,
    "OWNER" => owner,
    "CLAIMED" => claimed_at,
    "TENANT" => tenant,
);
const RUN_COLUMNS: [Column<Run>; 9] = columns!(
    Run;
    "RUN" => run,
    "RUNNING" => steps.running,
    "UNKNOWN" => steps.unknown,
    "RELEASED" => steps.released,
    "DONE" => steps.done,
    "FAILED" => steps.failed,
    "FIRST" => first_at,
    "LAST" => last_at,
    "TENANT" => tenant,
);
const FIELDS: [Column<WholeStep>; 13] = columns!(
    WholeStep;
    "run" => step.run,
    "step" => step.step,
    "tenant" => step.tenant,
    "status" => step.status,
    "fence" => step.fence,
    "attempt" => step.attempt,
    "effect key" => step.effect_key,
    "owner" => step.owner,
    "on lost" => step.on_lost,
    "input hash" => step.input_hash,
    "claimed" => step.claimed_at,
    "lease until" => step.lease_until,
    "ended" => step.ended_at,
);

/// Where a run is, or one of its steps, or an action on that.
pub fn path(run: &str, step: Option<&str>, action: &str, tenant: Option<&str>) -> String {
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
        Command::List {
            run,
            status,
            tenant,
            since,
            limit,
        } => {
            let query = [
                ("run", run),
                ("status", status.map(|status| status.to_string())),
                ("tenant", tenant),
                ("since", since),
            ];
            let steps: Vec<Step> = client.list("/api/v1/steps", &query, limit).await?;
            output::list(globals, &steps, &COLUMNS)?;
        }
        Command::Runs {
            prefix,
            tenant,
            limit,
        } => {
            let query = [("prefix", prefix), ("tenant", tenant)];
            let runs: Vec<Run> = client.list("/v1/runs", &query, limit).await?;
            output::list(globals, &runs, &RUN_COLUMNS)?;
        }
        Command::Show {
            run,
            step: None,
            tenant,
        } => show_run(globals, &client, &run, tenant).await?,
        Command::Show {
            run,
            step: Some(step),
            tenant,
        } => {
            let step = whole_step(&client, &run, &step, tenant.as_deref()).await?;
            output::one(globals, &step, text)?;
        }
        Command::Resolve {
            run,
            step,
            outcome,
            result,
            evidence,
            fence,
            tenant,
        } => {
            let told = Told {
                outcome,
                result,
                evidence,
                fence,
            };
            told.say(globals, &client, (&run, &step), tenant.as_deref())
                .await?;
        }
    }
    Ok(Exit::Done)
}

/// What somebody found out about a step.
struct Told {
    outcome: StepOutcome,
    result: Option<String>,
    evidence: String,
    fence: Option<i64>,
}

impl Told {
    async fn say(
        self,
        globals: &Globals,
        client: &Client,
        (run, step): (&str, &str),
        tenant: Option<&str>,
    ) -> anyhow::Result<()> {
        let result = self
            .result
            .map(|result| serde_json::from_str::<Value>(&result))
            .transpose();
        let result =
            result.map_err(|error| Failure::usage(format!("--result is no JSON: {error}")))?;
        let fence = match self.fence {
            Some(fence) => fence,
            None => whole_step(client, run, step, tenant).await?.step.fence,
        };
        let mut body = json!({
            "expected_fence": fence,
            "outcome": self.outcome,
            "evidence": self.evidence,
        });
        if let Some(result) = result {
            body["result"] = result;
        }
        let path = path(run, Some(step), "/resolve", tenant);
        let answer: Settled = client.post(&path, Some(&body)).await?;
        Ok(output::one(globals, &answer, |answer| {
            match answer.status {
                StepState::Released => format!("{run} {step} may be claimed again"),
                status => format!("{run} {step} is {status}"),
            }
        })?)
    }
}

async fn whole_step(
    client: &Client,
    run: &str,
    step: &str,
    tenant: Option<&str>,
) -> anyhow::Result<WholeStep> {
    client.get(&path(run, Some(step), "", tenant)).await
}

/// The steps of a run: a table has a line for each, JSON has them whole.
async fn show_run(
    globals: &Globals,
    client: &Client,
    run: &str,
    tenant: Option<String>,
) -> anyhow::Result<()> {
    let path = path(run, None, "", None);
    let steps: Vec<WholeStep> = client
        .list(&path, &[("tenant", tenant)], usize::MAX)
        .await?;
    if steps.is_empty() {
        return Err(Failure::not_found(format!("there is no run {run:?}")).into());
    }
    match globals.output {
        Format::Table => {
            let steps: Vec<Step> = steps.into_iter().map(|whole| whole.step).collect();
            output::list(globals, &steps, &COLUMNS)?;
        }
        Format::Json | Format::Ndjson => output::list(globals, &steps, &[])?,
    }
    Ok(())
}

fn text(step: &WholeStep) -> String {
    let mut text = output::fields(step, &FIELDS);
    if let Some(request) = &step.step.request {
        let caller = request.caller.as_deref().unwrap_or("-");
        let sent_at = request.sent_at.shown().unwrap_or_default();
        let line = format!(
            "{} {} of {caller}, sent {sent_at}",
            request.method, request.path
        );
        text.push_str(&format!("{:<11} {}\n", "request", output::printable(&line)));
    }
    for (key, json) in [
        ("result", &step.result),
        ("not kept", &step.result_not_kept),
        ("error", &step.error),
        ("evidence", &step.evidence),
    ] {
        // It is shown as other JSON is: compact, with its members sorted by name.
        let value = json
            .as_ref()
            .and_then(|json| serde_json::from_str::<Value>(json.get()).ok());
        if let Some(value) = value.filter(|value| !value.is_null()) {
            text.push_str(&format!(
                "{key:<11} {}\n",
                output::printable(&value.to_string())
            ));
        }
    }
    text
}
