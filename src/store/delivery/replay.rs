//! New deliveries of stored events. `store::replay` finds the events, and the caller decides where
//! they go.

use sqlx::PgExecutor;
use uuid::Uuid;

use crate::{
    contract::{DeliveryId, EventId, ReplayId},
    event::Key,
};

/// A delivery to be made by a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayDelivery {
    pub id: DeliveryId,
    pub event_id: EventId,
    pub key: Key,
    pub source: String,
    pub destination: String,
    pub body_bytes: i32,
}

/// Where a replay's cursor stands, and where it goes next.
#[derive(Clone, Copy, Debug)]
pub struct NextPage {
    pub replay: ReplayId,
    pub from: Uuid,
    pub to: Uuid,
    /// Whether this is the last page.
    pub last: bool,
}

/// Makes a page of deliveries, due now, and moves the cursor, in one statement. False if the cursor
/// no longer stands at `step.from` or the replay has ended: then nothing was made.
pub async fn advance(
    executor: impl PgExecutor<'_>,
    step: NextPage,
    deliveries: &[ReplayDelivery],
) -> Result<bool, sqlx::Error> {
    let ids: Vec<Uuid> = deliveries.iter().map(|delivery| delivery.id.0).collect();
    let keys: Vec<Uuid> = deliveries.iter().map(|delivery| delivery.key.0).collect();
    let events: Vec<Uuid> = deliveries
        .iter()
        .map(|delivery| delivery.event_id.0)
        .collect();
    let sources: Vec<&str> = deliveries
        .iter()
        .map(|delivery| delivery.source.as_str())
        .collect();
    let destinations: Vec<&str> = deliveries
        .iter()
        .map(|delivery| delivery.destination.as_str())
        .collect();
    let sizes: Vec<i32> = deliveries
        .iter()
        .map(|delivery| delivery.body_bytes)
        .collect();
    let moved = sqlx::query_file_scalar!(
        "src/store/delivery/advance.sql",
        step.replay.0,
        step.from,
        step.to,
        step.last,
        &ids,
        &keys,
        &events,
        &sources as &[&str],
        &destinations as &[&str],
        &sizes,
    )
    .fetch_one(executor)
    .await?;
    Ok(moved > 0)
}
