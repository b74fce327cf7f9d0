//! New deliveries. Their rows are written in the same statement as the event, so neither exists
//! without the other. Those statements are in `inbox`, `ledger` and `conflict`, and in `advance`
//! for replays. All share one text for it: `blocks/born.sql`, after `blocks/event.sql`.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    contract::{DeliveryId, EventId},
    event::Key,
};

/// A delivery to be written with its event.
#[derive(Debug)]
pub struct NewDelivery {
    pub id: DeliveryId,
    pub event_id: EventId,
    pub key: Key,
    pub source: Arc<str>,
    pub destination: Arc<str>,
    pub body_bytes: i32,
    /// True: leased to this node at once. False: due at once for any node.
    pub leased: bool,
}

/// The node that records, and how long new deliveries are leased to it.
#[derive(Clone, Copy)]
pub struct Lessee {
    pub node: Uuid,
    pub lease_seconds: f64,
}

/// Deliveries column by column, as a statement takes them.
pub struct DeliveryColumns<'a> {
    pub ids: Vec<Uuid>,
    pub events: Vec<Uuid>,
    pub keys: Vec<Uuid>,
    pub sources: Vec<&'a str>,
    pub destinations: Vec<&'a str>,
    pub sizes: Vec<i32>,
    pub leased: Vec<bool>,
}

impl<'a> DeliveryColumns<'a> {
    pub fn of(deliveries: &'a [NewDelivery]) -> Self {
        Self {
            ids: deliveries.iter().map(|delivery| delivery.id.0).collect(),
            events: deliveries
                .iter()
                .map(|delivery| delivery.event_id.0)
                .collect(),
            keys: deliveries.iter().map(|delivery| delivery.key.0).collect(),
            sources: deliveries
                .iter()
                .map(|delivery| &*delivery.source)
                .collect(),
            destinations: deliveries
                .iter()
                .map(|delivery| &*delivery.destination)
                .collect(),
            sizes: deliveries
                .iter()
                .map(|delivery| delivery.body_bytes)
                .collect(),
            leased: deliveries.iter().map(|delivery| delivery.leased).collect(),
        }
    }
}
