//! Deliveries as they are born. The row is written in the statement that writes the event, so that
//! there is never one without the other: `inbox`, `ledger` and `conflict` have those statements,
//! and `advance` that of replays. All have the same text for it: `blocks/born.sql`, after
//! `blocks/event.sql`.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    contract::{DeliveryId, EventId},
    event::Key,
};

/// A delivery to be born with its event.
#[derive(Debug)]
pub struct NewDelivery {
    pub id: DeliveryId,
    pub event_id: EventId,
    pub key: Key,
    pub source: Arc<str>,
    pub destination: Arc<str>,
    pub body_bytes: i32,
    /// Born leased to this node; otherwise due at once for any.
    pub leased: bool,
}

/// Who records, and for how long what is born leased is leased to it.
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
