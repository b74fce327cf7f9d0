//! Tools about the ledger's steps: list them, read one, say what came of one.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    arguments::{GetStep, ListSteps, ResolveStep, Within},
    events::shortened,
    session::{Reporter, Session},
};
use crate::{
    cli::ledger,
    contract::{Settled, Step, StepState, WholeStep},
};

const DEFAULT_ROWS: u32 = 20;

pub async fn list(session: Arc<Session>, asked: ListSteps, _: Reporter) -> anyhow::Result<Value> {
    let query = [
        ("run", asked.run),
        ("status", asked.status.map(|status| status.to_string())),
        ("tenant", asked.tenant),
        ("since", asked.since),
    ];
    let limit = Within::or(asked.limit, DEFAULT_ROWS) as usize;
    let steps: Vec<Step> = session
        .client()?
        .list("/api/v1/steps", &query, limit)
        .await?;
    Ok(json!({ "steps": steps }))
}

/// What callers sent is shown as the text of its JSON, so that it can be cut. Why a result is not
/// kept is short, and shown always.
pub async fn get(session: Arc<Session>, asked: GetStep, _: Reporter) -> anyhow::Result<Value> {
    let path = ledger::path(&asked.run, Some(&asked.step), "", asked.tenant.as_deref());
    let whole: WholeStep = session.client()?.get(&path).await?;
    let shown = Within::or(asked.result_bytes, 0);
    let mut step = serde_json::to_value(&whole.step)?;
    for (name, json) in [
        ("result", whole.result),
        // Not "error": that is a class of hookonce's own elsewhere.
        ("said_by_holder", whole.error),
        ("evidence", whole.evidence),
    ] {
        let text = json.map(|json| json.get().to_owned());
        step[name] = shortened(text, shown).into();
    }
    step["result_not_kept"] = whole.result_not_kept.map(|why| why.get().to_owned()).into();
    Ok(json!({ "steps": [step] }))
}

pub async fn resolve(
    session: Arc<Session>,
    asked: ResolveStep,
    _: Reporter,
) -> anyhow::Result<Value> {
    let mut body = json!({
        "expected_fence": asked.expected_fence,
        "outcome": asked.outcome,
        "evidence": asked.evidence,
    });
    if let Some(result) = asked.result {
        body["result"] = result;
    }
    let path = ledger::path(
        &asked.run,
        Some(&asked.step),
        "/resolve",
        asked.tenant.as_deref(),
    );
    let Settled { fence, status, .. } = session.client()?.post(&path, Some(&body)).await?;
    let message = match status {
        StepState::Released => "The step may be claimed again.".to_owned(),
        status => format!("The step is {status}."),
    };
    Ok(json!({ "status": status, "fence": fence, "message": message }))
}
