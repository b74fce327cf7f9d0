//! What is failing: deliveries by destination and class of error, refusals by source and reason. The
//! service has no list of issues, so they are put together here from its newest deliveries and
//! rejections; how many were looked at is said. An API of issues takes the place of `of_deliveries`
//! and `of_refusals`: the tool, its arguments and the shape of an issue stay.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    arguments::{ListIssues, Within},
    session::{Reporter, Session},
};
use crate::{
    cli::client::Client,
    clock::Clock,
    contract::{
        Delivery, DeliveryId, DeliveryState, EventId, RejectionCount, RejectionId, Rejections,
        Time, WholeDelivery,
    },
};

/// Deliveries of each state that are listed.
const LISTED_MAX: usize = 200;
/// Deliveries of one destination and state that are looked at, which is a call each.
const LOOKED_AT_MAX: usize = 20;
/// Such calls at once.
const CALLS_AT_ONCE: usize = 8;
/// Rejections that are listed.
const REJECTIONS_MAX: usize = 200;
/// Deliveries or rejections that an issue names.
const EXAMPLES_MAX: usize = 3;

/// Failures of one cause.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Issue {
    /// Deliveries to one destination that fail with one class of error.
    Delivery {
        destination: String,
        /// A stable class; null where an attempt left none.
        error: Option<String>,
        /// Whether it is tried again: `failing`, or `dead`.
        state: &'static str,
        /// Of those that were looked at.
        count: u64,
        /// Of the newest.
        http_status: Option<i16>,
        /// Of the newest.
        detail: Option<String>,
        first_at: Time,
        last_at: Time,
        /// The earliest of all; null where nothing is tried again.
        next_try_at: Option<Time>,
        examples: Vec<Example>,
    },
    /// Requests to one source that were refused for one reason.
    Refusal {
        source: Option<String>,
        reason: String,
        /// Since the service started.
        count: u64,
        /// Of those that are kept.
        first_at: Option<Time>,
        last_at: Option<Time>,
        examples: Vec<Example>,
    },
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Example {
    Delivery {
        delivery: DeliveryId,
        event: EventId,
    },
    Rejection {
        rejection: RejectionId,
    },
}

pub async fn list(
    session: Arc<Session>,
    asked: ListIssues,
    reporter: Reporter,
) -> anyhow::Result<Value> {
    let client = session.client()?;
    let hours = Within::or(asked.hours, 24);
    let from = Clock::System.utc() - Duration::from_secs(u64::from(hours) * 3600);
    reporter.say(0.0, 3.0, "reading deliveries".into()).await;
    let failing = newest_of_each(failing(&client).await?, from);
    let dead = newest_of_each(listed(&client, DeliveryState::Dead).await?, from);
    reporter
        .say(1.0, 3.0, "reading their attempts".into())
        .await;
    let looked_at = failing.len() + dead.len();
    let mut issues = of_deliveries("failing", &whole(&client, failing).await?);
    issues.extend(of_deliveries("dead", &whole(&client, dead).await?));
    reporter.say(2.0, 3.0, "reading rejections".into()).await;
    issues.extend(of_refusals(&client, hours).await?);
    Ok(json!({ "issues": issues, "hours": hours, "deliveries_looked_at": looked_at }))
}

async fn listed(client: &Client, state: DeliveryState) -> anyhow::Result<Vec<Delivery>> {
    let query = [("state", Some(state.to_string()))];
    client.list("/api/v1/deliveries", &query, LISTED_MAX).await
}

/// Open deliveries that were tried, in vain so far.
async fn failing(client: &Client) -> anyhow::Result<Vec<Delivery>> {
    let mut found = Vec::new();
    for state in [
        DeliveryState::Pending,
        DeliveryState::Paused,
        DeliveryState::Leased,
    ] {
        found.extend(listed(client, state).await?);
    }
    found.retain(|delivery| delivery.attempts > 0);
    Ok(found)
}

/// The newest of each destination that ended, or began, since then.
fn newest_of_each(mut found: Vec<Delivery>, from: OffsetDateTime) -> Vec<Delivery> {
    found.sort_by_key(|delivery| std::cmp::Reverse(delivery.id));
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    found.retain(|delivery| {
        let at = delivery.ended_at.unwrap_or(delivery.created_at);
        let count = counts.entry(delivery.destination.clone()).or_default();
        *count += usize::from(at.0 >= from);
        at.0 >= from && *count <= LOOKED_AT_MAX
    });
    found
}

async fn whole(client: &Client, found: Vec<Delivery>) -> anyhow::Result<Vec<WholeDelivery>> {
    stream::iter(found)
        .map(|delivery| async move {
            let path = format!("/api/v1/deliveries/{}", delivery.id);
            client.get::<WholeDelivery>(&path).await
        })
        .buffered(CALLS_AT_ONCE)
        .try_collect()
        .await
}

/// The issues of these deliveries, which come newest first.
fn of_deliveries(state: &'static str, deliveries: &[WholeDelivery]) -> Vec<Issue> {
    let mut by_cause: BTreeMap<(&str, Option<&str>), Vec<&WholeDelivery>> = BTreeMap::new();
    for delivery in deliveries {
        let error = delivery
            .attempts
            .last()
            .and_then(|attempt| attempt.error.as_deref());
        let cause = (delivery.destination.as_str(), error);
        by_cause.entry(cause).or_default().push(delivery);
    }
    by_cause
        .into_iter()
        .filter_map(|((destination, error), of_it)| {
            let (newest, oldest) = (of_it.first()?, of_it.last()?);
            let last = newest.attempts.last();
            Some(Issue::Delivery {
                destination: destination.to_owned(),
                error: error.map(str::to_owned),
                state,
                count: of_it.len() as u64,
                http_status: last.and_then(|attempt| attempt.status),
                detail: last.and_then(|attempt| attempt.detail.clone()),
                first_at: oldest.created_at,
                last_at: last.map_or(newest.created_at, |attempt| attempt.started_at),
                next_try_at: of_it.iter().filter_map(|delivery| delivery.due_at).min(),
                examples: of_it
                    .iter()
                    .take(EXAMPLES_MAX)
                    .map(|delivery| Example::Delivery {
                        delivery: delivery.id,
                        event: delivery.event,
                    })
                    .collect(),
            })
        })
        .collect()
}

async fn of_refusals(client: &Client, hours: u32) -> anyhow::Result<Vec<Issue>> {
    let query = [
        ("since", Some(format!("{hours}h"))),
        ("limit", Some(REJECTIONS_MAX.to_string())),
    ];
    let found: Rejections = client.ask("/api/v1/rejections", &query).await?;
    let issue = |counted: &RejectionCount| {
        let mut of_it = found
            .items
            .iter()
            .filter(|one| one.source == counted.source && one.reason == counted.reason)
            .peekable();
        of_it.peek()?;
        let kept: Vec<_> = of_it.collect();
        Some(Issue::Refusal {
            source: counted.source.clone(),
            reason: counted.reason.clone().into_owned(),
            count: counted.count,
            first_at: kept.last().and_then(|one| one.rejected_at),
            last_at: kept.first().and_then(|one| one.rejected_at),
            examples: kept
                .iter()
                .take(EXAMPLES_MAX)
                .map(|one| Example::Rejection { rejection: one.id })
                .collect(),
        })
    };
    Ok(found.counts.iter().filter_map(issue).collect())
}
