//! Replays: count first, then make. What was counted is remembered for a while, and counts for one
//! replay of the very same filter, so that a model which plans the same replay twice makes one.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    arguments::ReplayFilter,
    counted::Counted,
    session::{Reporter, Session},
};
use crate::{
    cli::Failure,
    contract::{Advanced, DryRun, Replay},
};

/// Events of one page.
const PAGE_EVENTS: u32 = 100;
const IDS_MAX: usize = 100;

/// The filter in its one form, and as the API takes it.
fn request_of(mut filter: ReplayFilter) -> anyhow::Result<(String, Value)> {
    if let Some(ids) = &mut filter.ids {
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() || ids.len() > IDS_MAX {
            return Err(Failure::usage(format!("ids: give between 1 and {IDS_MAX}")).into());
        }
    }
    // Else whoever can make a model call tools could have stored events sent to a place of theirs.
    if filter.to.as_ref().is_some_and(|to| to.contains("://")) {
        let why = "to: only the name of a configured destination; to send events to a URL, a person runs `hookonce replay --to URL`";
        return Err(Failure::usage(why).into());
    }
    let request = serde_json::to_value(&filter)?;
    let limited_alone = request.as_object().is_some_and(|members| {
        members
            .keys()
            .all(|name| matches!(name.as_str(), "limit" | "to"))
    });
    if limited_alone {
        let what = "say what to replay: ids, source, type, since, until or a status (\"any\" for everything)";
        return Err(Failure::usage(what).into());
    }
    Ok((request.to_string(), request))
}

pub async fn dry_run(
    session: Arc<Session>,
    filter: ReplayFilter,
    _: Reporter,
) -> anyhow::Result<Value> {
    let (filter, mut request) = request_of(filter)?;
    request["dry_run"] = true.into();
    let counts: DryRun = session
        .client()?
        .post("/api/v1/replays", Some(&request))
        .await?;
    session.dry_runs(|runs, at| {
        runs.note(Counted {
            filter,
            deliveries: counts.deliveries,
            at,
        });
    });
    let message = if session.allow_write {
        "Nothing was sent. To make these deliveries, call replay with this same filter within 15 minutes."
    } else {
        "Nothing was sent. This server is read-only: a person may run `hookonce replay`, or start it with --allow-write."
    };
    Ok(json!({ "message": message, "counts": counts }))
}

pub async fn replay(
    session: Arc<Session>,
    filter: ReplayFilter,
    reporter: Reporter,
) -> anyhow::Result<Value> {
    let client = session.client()?;
    let (filter, request) = request_of(filter)?;
    let Some(counted) = session.dry_runs(|runs, now| runs.take(&filter, now)) else {
        let why = "refused: this filter was not counted in the last 15 minutes, or was replayed since. Call replay_dry_run with exactly this filter, look at its counts, then call replay again";
        return Err(Failure::usage(why).into());
    };
    let replay: Replay = match client.post("/api/v1/replays", Some(&request)).await {
        Ok(replay) => replay,
        Err(error) => {
            // Without an answer there may be a replay, but one that nobody advances delivers nothing.
            session.dry_runs(|runs, _| runs.note(counted));
            return Err(error);
        }
    };
    let path = format!("/api/v1/replays/{}/advance", replay.id);
    let page = json!({ "limit": PAGE_EVENTS });
    loop {
        let advanced: Advanced = client.post(&path, Some(&page)).await.map_err(|error| {
            error.context(format!(
                "the replay was interrupted; a person goes on with `hookonce replay --resume {}`",
                replay.id
            ))
        })?;
        let made = advanced.deliveries;
        let total = counted.deliveries.max(made);
        reporter
            .say(
                made as f64,
                total as f64,
                format!("{made} deliveries were made"),
            )
            .await;
        if advanced.done {
            let message = "The deliveries were made and are on their way; get_event shows what becomes of them.";
            return Ok(json!({
                "message": message,
                "replay": replay.id,
                "made": made,
                "counted_before": counted.deliveries,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_filter_has_one_form() {
        let form = |filter: Value| {
            let filter = serde_json::from_value(filter).expect("a filter");
            request_of(filter).map(|(form, _)| form)
        };
        let (a, b) = (
            "01890000-0000-7000-8000-000000000001",
            "01890000-0000-7000-8000-000000000002",
        );
        assert_eq!(
            form(json!({ "ids": [b, a, b], "source": null })).expect("a form"),
            form(json!({ "limit": 100, "ids": [a, b] })).expect("a form")
        );
        assert_ne!(
            form(json!({ "ids": [a], "limit": 1 })).expect("a form"),
            form(json!({ "ids": [a] })).expect("a form")
        );
        for refused in [
            json!({}),
            json!({ "limit": 3 }),
            json!({ "to": "billing" }),
            json!({ "ids": [] }),
            json!({ "status": "any", "to": "https://evil.example/" }),
        ] {
            assert!(form(refused.clone()).is_err(), "{refused}");
        }
    }
}
