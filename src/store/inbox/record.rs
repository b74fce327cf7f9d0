//! Records events: a batch in one statement, and a lone event in a statement of its own, which
//! writes the same rows (`tests/it/recording.rs` compares them).

use sqlx::{
    PgConnection, Postgres,
    postgres::{PgArguments, PgRow},
    query::Map,
};
use uuid::Uuid;

use super::{
    columns::{BodyKeyColumns, EventColumns, OriginalColumns, exact_digest},
    event::{Guard, NewEvent, NewRow},
};
use crate::{
    event::Mark,
    store::delivery::{DeliveryColumns, Lessee, NewDelivery},
};

/// Records a batch in one statement and returns the new events. `events` must be sorted by key and
/// have no repeats, because two overlapping batches in different orders would deadlock.
pub async fn record(
    connection: &mut PgConnection,
    lessee: Lessee,
    events: &[&NewEvent],
    deliveries: &[NewDelivery],
) -> Result<Vec<NewRow>, sqlx::Error> {
    match (events, deliveries) {
        ([event], [] | [_]) if !is_special(event) => {
            let delivery = deliveries.first();
            let row = match event.guard {
                None => record_one(connection, lessee, event, delivery).await?,
                Some(guard) => record_guarded(connection, lessee, event, guard, delivery).await?,
            };
            Ok(Vec::from_iter(row))
        }
        _ => {
            batch(lessee, events, deliveries)
                .fetch_all(connection)
                .await
        }
    }
}

/// Whether the event has something that the statement for one event does not write.
fn is_special(event: &NewEvent) -> bool {
    event.original.is_some() || event.mark.is_some()
}

/// The statement that records a batch, with its arguments encoded. Run it by its own methods: an
/// executor that is given it would prepare it anew each time.
pub fn batch(
    Lessee {
        node,
        lease_seconds,
    }: Lessee,
    events: &[&NewEvent],
    deliveries: &[NewDelivery],
) -> Map<'static, Postgres, impl FnMut(PgRow) -> Result<NewRow, sqlx::Error> + Send, PgArguments> {
    let e = EventColumns::of(events);
    let b = BodyKeyColumns::of(events);
    let d = DeliveryColumns::of(deliveries);
    let r = OriginalColumns::of(events);
    sqlx::query_file!(
        "src/store/inbox/record_many.sql",
        &e.keys,
        &e.ids,
        &e.digests as &[&[u8]],
        &e.windows,
        &b.keys,
        &b.ids,
        &b.digests as &[&[u8]],
        &b.windows,
        &e.sources as &[&str],
        &e.event_keys as &[&str],
        &e.types as &[Option<&str>],
        &e.headers as &[&str],
        &e.bodies as &[&[u8]],
        &e.originals as &[Option<Uuid>],
        &r.ids,
        &r.keys,
        &r.bodies as &[&[u8]],
        &r.digests as &[&[u8]],
        &r.items,
        &d.ids,
        &d.events,
        &d.keys,
        &d.sources as &[&str],
        &d.destinations as &[&str],
        &d.sizes,
        &d.leased,
        lease_seconds,
        node,
        &b.held,
        &e.marks as &[Option<&str>],
        &e.exact as &[Option<&[u8]>],
    )
    .map(|row| NewRow {
        id: row.id,
        mark: row.mark.as_deref().and_then(Mark::parse),
    })
}

/// Records one event with at most one delivery, with plain values in place of arrays. The bench
/// case `first-seen` at one connection measures it.
async fn record_one(
    connection: &mut PgConnection,
    Lessee {
        node,
        lease_seconds,
    }: Lessee,
    event: &NewEvent,
    delivery: Option<&NewDelivery>,
) -> Result<Option<NewRow>, sqlx::Error> {
    let id = sqlx::query_file_scalar!(
        "src/store/inbox/record_one.sql",
        event.key.0,
        event.id,
        &event.request.compared().0[..],
        event.window_seconds,
        &*event.source,
        event.event_key(),
        event.request.event_type(),
        event.headers,
        &event.request.body()[..],
        delivery.map(|delivery| delivery.id.0),
        delivery.map(|delivery| &*delivery.destination),
        delivery.map(|delivery| delivery.body_bytes),
        delivery.is_some_and(|delivery| delivery.leased),
        lease_seconds,
        node,
        exact_digest(event).map(|digest| &digest.0[..]),
    )
    .fetch_optional(connection)
    .await?;
    Ok(id.map(|id| NewRow { id, mark: None }))
}

/// Records one event whose body has a key as well. Without that second key, `record_one` costs
/// PostgreSQL a tenth less.
async fn record_guarded(
    connection: &mut PgConnection,
    Lessee {
        node,
        lease_seconds,
    }: Lessee,
    event: &NewEvent,
    guard: Guard,
    delivery: Option<&NewDelivery>,
) -> Result<Option<NewRow>, sqlx::Error> {
    let row = sqlx::query_file!(
        "src/store/inbox/record_guarded.sql",
        event.key.0,
        event.id,
        &event.request.compared().0[..],
        event.window_seconds,
        &*event.source,
        event.event_key(),
        event.request.event_type(),
        event.headers,
        &event.request.body()[..],
        delivery.map(|delivery| delivery.id.0),
        delivery.map(|delivery| &*delivery.destination),
        delivery.map(|delivery| delivery.body_bytes),
        delivery.is_some_and(|delivery| delivery.leased),
        lease_seconds,
        node,
        guard.body_key.0,
        guard.holds,
        exact_digest(event).map(|digest| &digest.0[..]),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| NewRow {
        id: row.id,
        mark: row.mark.as_deref().and_then(Mark::parse),
    }))
}
