//! Tools about events: find one, what happened to it, wait for one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    arguments::{FindEvents, GetDelivery, GetEvent, Nothing, WaitForEvent, Within},
    session::{Reporter, Session},
};
use crate::{
    cli::{Failure, client::Client},
    contract::{
        Delivery, DeliveryId, Destination, Event, Page, Source, Status, WholeDelivery, WholeEvent,
    },
};

/// Deliveries of an event that are shown with their attempts.
const DELIVERIES_SHOWN: usize = 20;
/// How often a wait looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Events that a wait shows, if several came.
const WAITED_FOR_MAX: usize = 10;
const DEFAULT_ROWS: u32 = 20;

pub async fn find(session: Arc<Session>, asked: FindEvents, _: Reporter) -> anyhow::Result<Value> {
    let client = session.client()?;
    if let Some(id) = asked.id {
        let WholeEvent {
            id,
            source,
            event_type,
            event_key,
            received_at,
            body_bytes,
            mark,
            ..
        } = client.get(&format!("/api/v1/events/{id}")).await?;
        let body_bytes = i32::try_from(body_bytes).unwrap_or(i32::MAX);
        let event = Event {
            id,
            source,
            event_type,
            event_key,
            received_at,
            body_bytes,
            mark,
        };
        return Ok(json!({ "events": [event] }));
    }
    let query = [
        ("source", asked.source),
        ("type", asked.r#type),
        ("key", asked.key),
        ("since", asked.since),
        ("until", asked.until),
    ];
    let limit = Within::or(asked.limit, DEFAULT_ROWS) as usize;
    let events: Vec<Event> = client.list("/api/v1/events", &query, limit).await?;
    Ok(json!({ "events": events }))
}

pub async fn get(
    session: Arc<Session>,
    asked: GetEvent,
    reporter: Reporter,
) -> anyhow::Result<Value> {
    let client = session.client()?;
    let mut event: WholeEvent = client.get(&format!("/api/v1/events/{}", asked.id)).await?;
    let found = event.deliveries.len();
    event.deliveries.truncate(DELIVERIES_SHOWN);
    let response_bytes = Within::or(asked.response_bytes, 0);
    let mut deliveries = Vec::with_capacity(event.deliveries.len());
    for (done, Delivery { id, .. }) in event.deliveries.iter().enumerate() {
        deliveries.push(whole_delivery(&client, *id, response_bytes).await?);
        let (done, total) = (done + 1, event.deliveries.len());
        reporter
            .say(done as f64, total as f64, format!("{done} deliveries read"))
            .await;
    }
    let shown = Within::or(asked.body_bytes, 0);
    event.body = shortened(event.body, shown);
    event.body_base64 = shortened(event.body_base64, shown);
    let mut whole = serde_json::to_value(&event)?;
    whole["deliveries"] = deliveries.into();
    whole["deliveries_not_shown"] = (found - event.deliveries.len()).into();
    if !asked.headers
        && let Some(members) = whole.as_object_mut()
    {
        members.remove("headers");
    }
    Ok(json!({ "event": whole }))
}

pub async fn delivery(
    session: Arc<Session>,
    asked: GetDelivery,
    _: Reporter,
) -> anyhow::Result<Value> {
    let response_bytes = Within::or(asked.response_bytes, 0);
    let delivery = whole_delivery(&*session.client()?, asked.id, response_bytes).await?;
    Ok(json!({ "delivery": delivery }))
}

async fn whole_delivery(
    client: &Client,
    id: DeliveryId,
    response_bytes: u32,
) -> anyhow::Result<Value> {
    let mut delivery: WholeDelivery = client.get(&format!("/api/v1/deliveries/{id}")).await?;
    for attempt in &mut delivery.attempts {
        attempt.response = shortened(attempt.response.take(), response_bytes);
        attempt.response_base64 = shortened(attempt.response_base64.take(), response_bytes);
    }
    Ok(serde_json::to_value(&delivery)?)
}

/// The first bytes of a text, whole characters alone; None where none are asked for.
pub fn shortened(text: Option<String>, bytes: u32) -> Option<String> {
    let mut text = text.filter(|_| bytes > 0)?;
    text.truncate(text.floor_char_boundary(bytes as usize));
    Some(text)
}

/// Polls: the service's live tail has only what its own node receives.
pub async fn wait(
    session: Arc<Session>,
    asked: WaitForEvent,
    reporter: Reporter,
) -> anyhow::Result<Value> {
    if asked.source.is_none() && asked.r#type.is_none() && asked.key.is_none() {
        return Err(
            Failure::usage("say what to wait for: a source, a type, a key, or several").into(),
        );
    }
    let client = session.client()?;
    let timeout = Duration::from_secs(Within::or(asked.timeout_s, 60).into());
    let look_back = Duration::from_secs(Within::or(asked.look_back_s, 30).into());
    let begun = Instant::now();
    loop {
        // How long ago, so that it goes by the service's clock. What is told late must not fall out.
        let since = look_back + begun.elapsed() + LOOK_EVERY;
        let query = [
            ("source", asked.source.clone()),
            ("type", asked.r#type.clone()),
            ("key", asked.key.clone()),
            ("since", Some(format!("{}ms", since.as_millis()))),
        ];
        let events: Vec<Event> = client
            .list("/api/v1/events", &query, WAITED_FOR_MAX)
            .await?;
        let waited = begun.elapsed();
        if !events.is_empty() || waited >= timeout {
            return Ok(
                json!({ "found": !events.is_empty(), "waited_s": waited.as_secs(), "events": events }),
            );
        }
        let (waited_s, total) = (waited.as_secs_f64(), timeout.as_secs_f64());
        reporter
            .say(waited_s, total, "no such event yet".into())
            .await;
        sleep(LOOK_EVERY.min(timeout - waited)).await;
    }
}

/// What there is: names to ask with.
pub async fn status(session: Arc<Session>, _: Nothing, _: Reporter) -> anyhow::Result<Value> {
    let client = session.client()?;
    let node: Status = client.get("/api/v1/status").await?;
    let sources: Page<Source> = client.get("/api/v1/sources").await?;
    let destinations: Page<Destination> = client.get("/api/v1/destinations").await?;
    Ok(json!({ "node": node, "sources": sources.items, "destinations": destinations.items }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_shown_only_as_far_as_it_was_asked_for() {
        let text = || Some("añb".to_owned());
        assert_eq!(shortened(text(), 0), None);
        assert_eq!(shortened(text(), 2).as_deref(), Some("a"));
        assert_eq!(shortened(text(), 3).as_deref(), Some("añ"));
        assert_eq!(shortened(text(), 9).as_deref(), Some("añb"));
        assert_eq!(shortened(None, 9), None);
    }
}
