//! Records events: what is new is decided by the database, in the statement that also writes the event and its deliveries.

use std::sync::Arc;

use bytes::Bytes;
use sqlx::{
    PgConnection, PgExecutor, Postgres,
    postgres::{PgArguments, PgRow},
    query::Map,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    event::{BodyDigest, Key, Mark, body_key_of},
    provider::VerifiedRequest,
    store::delivery::DeliveryColumns,
};

pub use crate::store::delivery::{Lessee, NewDelivery};

/// A verified request on its way into the inbox.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub id: Uuid,
    /// The id as text; empty where the request has a key.
    pub id_text: String,
    pub key: Key,
    /// Set where the same body under another key is looked at.
    pub guard: Option<Guard>,
    /// The key that earlier versions recorded it under, where that was another.
    pub key_before: Option<Key>,
    pub mark: Option<Mark>,
    pub source: Arc<str>,
    pub window_seconds: f64,
    /// A JSON array of [name, value] pairs.
    pub headers: String,
    pub request: VerifiedRequest,
    /// The request that it is a part of, where that was split.
    pub original: Option<Arc<Original>>,
}

impl NewEvent {
    /// What the event is told by; its own id where the request says nothing.
    pub fn event_key(&self) -> &str {
        self.request.event_key().unwrap_or(&self.id_text)
    }
}

/// The second key of an event, made of its body.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    pub body_key: Key,
    /// The event is not recorded where the body is known; else it is, with a mark.
    pub holds: bool,
}

/// An event that was recorded.
pub struct NewRow {
    pub id: Uuid,
    pub mark: Option<Mark>,
}

/// The body of a request that was split into several events.
#[derive(Debug)]
pub struct Original {
    pub id: Uuid,
    pub body: Bytes,
    pub digest: BodyDigest,
    pub items: i32,
}

/// A row of `event_key`.
#[derive(Clone, Copy, Debug)]
pub struct SeenKey {
    pub key: Key,
    pub event_id: Uuid,
    pub digest: BodyDigest,
    /// How long it counts yet; not positive where it has expired, and is only not deleted yet.
    pub seconds_left: f64,
}

impl SeenKey {
    pub fn counts(&self) -> bool {
        self.seconds_left > 0.0
    }
}

/// Events column by column, as the statement takes them.
struct EventColumns<'a> {
    keys: Vec<Uuid>,
    ids: Vec<Uuid>,
    digests: Vec<&'a [u8]>,
    windows: Vec<f64>,
    sources: Vec<&'a str>,
    event_keys: Vec<&'a str>,
    types: Vec<Option<&'a str>>,
    headers: Vec<&'a str>,
    bodies: Vec<&'a [u8]>,
    originals: Vec<Option<Uuid>>,
    marks: Vec<Option<&'static str>>,
    exact: Vec<Option<&'a [u8]>>,
}

impl<'a> EventColumns<'a> {
    fn of(events: &[&'a NewEvent]) -> Self {
        Self {
            keys: events.iter().map(|event| event.key).collect(),
            ids: events.iter().map(|event| event.id).collect(),
            digests: events.iter().map(|event| &event.request.compared().0[..]).collect(),
            windows: events.iter().map(|event| event.window_seconds).collect(),
            sources: events.iter().map(|event| &*event.source).collect(),
            event_keys: events.iter().map(|event| event.event_key()).collect(),
            types: events.iter().map(|event| event.request.event_type()).collect(),
            headers: events.iter().map(|event| event.headers.as_str()).collect(),
            bodies: events.iter().map(|event| &event.request.body()[..]).collect(),
            originals: of_some(events, |event| event.original.as_ref().map(|original| original.id)),
            marks: of_some(events, |event| event.mark.map(Mark::as_str)),
            exact: of_some(events, |event| exact_digest(event).map(|digest| &digest.0[..])),
        }
    }
}

/// Empty where none of them has it.
fn of_some<'a, T: Clone>(events: &[&'a NewEvent], read: impl Fn(&'a NewEvent) -> Option<T>) -> Vec<Option<T>> {
    let all: Vec<Option<T>> = events.iter().map(|event| read(event)).collect();
    if all.iter().all(Option::is_none) { Vec::new() } else { all }
}

/// The digest of the body, where repeats are not compared by it.
fn exact_digest(event: &NewEvent) -> Option<&BodyDigest> {
    Some(event.request.digest()).filter(|digest| *digest != event.request.compared())
}

/// The second keys of those events that have one.
#[derive(Default)]
struct BodyKeyColumns<'a> {
    keys: Vec<Uuid>,
    ids: Vec<Uuid>,
    digests: Vec<&'a [u8]>,
    windows: Vec<f64>,
    held: Vec<bool>,
}

impl<'a> BodyKeyColumns<'a> {
    fn of(events: &[&'a NewEvent]) -> Self {
        let mut columns = Self::default();
        for (event, guard) in events.iter().filter_map(|event| Some((event, event.guard?))) {
            columns.keys.push(guard.body_key);
            columns.ids.push(event.id);
            columns.digests.push(&event.request.compared().0);
            columns.windows.push(event.window_seconds);
            columns.held.push(guard.holds);
        }
        columns
    }
}

#[derive(Default)]
struct OriginalColumns<'a> {
    ids: Vec<Uuid>,
    keys: Vec<Uuid>,
    bodies: Vec<&'a [u8]>,
    digests: Vec<&'a [u8]>,
    items: Vec<i32>,
}

impl<'a> OriginalColumns<'a> {
    /// Each once.
    fn of(events: &[&'a NewEvent]) -> Self {
        let mut columns = Self::default();
        let mut all: Vec<(&Original, &str)> =
            events.iter().filter_map(|event| Some((event.original.as_deref()?, &*event.source))).collect();
        all.sort_unstable_by_key(|(original, _)| original.id);
        all.dedup_by_key(|(original, _)| original.id);
        for (original, source) in all {
            columns.ids.push(original.id);
            columns.keys.push(body_key_of(source, &original.digest));
            columns.bodies.push(&original.body);
            columns.digests.push(&original.digest.0);
            columns.items.push(original.items);
        }
        columns
    }
}

/// Records a batch in one statement and returns those that are new. `events` must be sorted by key, without repeats: two overlapping batches
/// in different orders would deadlock.
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
        _ => batch(lessee, events, deliveries).fetch_all(connection).await,
    }
}

/// Deletes those of the keys that have expired, before the pruner does. Whoever inserts one next is its first: the unique index decides, as for a key
/// that never was.
pub async fn forget_expired(connection: &mut PgConnection, keys: &[Key]) -> Result<(), sqlx::Error> {
    // The time is compared so that no index on it seems to serve: a plan made while the table is empty would then read all of it.
    sqlx::query!("delete from event_key where key = any($1) and (expires_at <= now()) is true", keys).execute(connection).await?;
    Ok(())
}

/// What the statement for one event has no room for.
fn is_special(event: &NewEvent) -> bool {
    event.original.is_some() || event.mark.is_some()
}

/// The statement that records a batch, its arguments encoded: to be run by its own methods, as an executor that is given it would prepare it anew
/// each time.
pub fn batch(
    Lessee { node, lease_seconds }: Lessee,
    events: &[&NewEvent],
    deliveries: &[NewDelivery],
) -> Map<'static, Postgres, impl FnMut(PgRow) -> Result<NewRow, sqlx::Error> + Send, PgArguments> {
    let e = EventColumns::of(events);
    let b = BodyKeyColumns::of(events);
    let d = DeliveryColumns::of(deliveries);
    let r = OriginalColumns::of(events);
    sqlx::query_file!(
        "src/store/record_many.sql",
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
    .map(|row| NewRow { id: row.id, mark: row.mark.as_deref().and_then(Mark::parse) })
}

/// The same for one event with one delivery at most: without arrays, which cost a lone event more than all else.
async fn record_one(
    connection: &mut PgConnection,
    Lessee { node, lease_seconds }: Lessee,
    event: &NewEvent,
    delivery: Option<&NewDelivery>,
) -> Result<Option<NewRow>, sqlx::Error> {
    let id = sqlx::query_scalar!(
        r#"
        with k as (
            insert into event_key (key, event_id, body_digest, expires_at) values ($1, $2, $3, now() + $4 * interval '1 second')
            on conflict (key) do nothing
            returning event_id
        ), e as (
            insert into event (id, key, source, event_key, event_type, headers, body, body_digest)
            select event_id, $1, $5, $6, $7, $8, $9, coalesce($16, $3) from k
            returning id
        ), o as (
            insert into outbox (id, key, event_id, source, destination, body_bytes, state, epoch, lease_until, node)
            select $10, $1, id, $5, $11, $12,
                   case when $13 then 'leased' else 'pending' end,
                   case when $13 then 1 else 0 end,
                   case when $13 then now() + $14 * interval '1 second' end,
                   case when $13 then $15::uuid end
              from e
             where $10::uuid is not null
        )
        select id as "id!" from e
        "#,
        event.key,
        event.id,
        &event.request.compared().0[..],
        event.window_seconds,
        &*event.source,
        event.event_key(),
        event.request.event_type(),
        event.headers,
        &event.request.body()[..],
        delivery.map(|delivery| delivery.id),
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

/// The same where the body has a key as well: what only those events need costs the others nothing.
async fn record_guarded(
    connection: &mut PgConnection,
    Lessee { node, lease_seconds }: Lessee,
    event: &NewEvent,
    guard: Guard,
    delivery: Option<&NewDelivery>,
) -> Result<Option<NewRow>, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        with k as (
            insert into event_key (key, event_id, body_digest, expires_at) values ($1, $2, $3, now() + $4 * interval '1 second')
            on conflict (key) do nothing
            returning event_id
        ), b as (
            insert into event_key (key, event_id, body_digest, expires_at)
            select $16, event_id, $3, now() + $4 * interval '1 second' from k
            on conflict (key) do update
               set event_id = excluded.event_id, body_digest = excluded.body_digest, expires_at = excluded.expires_at
             where event_key.expires_at <= now()
            returning event_id
        ), e as (
            insert into event (id, key, source, event_key, event_type, headers, body, body_digest, mark)
            select k.event_id, $1, $5, $6, $7, $8, $9, coalesce($18, $3), case when b.event_id is null then 'same-body' end
              from k left join b on true
             where not $17 or b.event_id is not null
            returning id, mark
        ), o as (
            insert into outbox (id, key, event_id, source, destination, body_bytes, state, epoch, lease_until, node)
            select $10, $1, id, $5, $11, $12,
                   case when $13 then 'leased' else 'pending' end,
                   case when $13 then 1 else 0 end,
                   case when $13 then now() + $14 * interval '1 second' end,
                   case when $13 then $15::uuid end
              from e
             where $10::uuid is not null
        )
        select id as "id!", mark as "mark?" from e
        "#,
        event.key,
        event.id,
        &event.request.compared().0[..],
        event.window_seconds,
        &*event.source,
        event.event_key(),
        event.request.event_type(),
        event.headers,
        &event.request.body()[..],
        delivery.map(|delivery| delivery.id),
        delivery.map(|delivery| &*delivery.destination),
        delivery.map(|delivery| delivery.body_bytes),
        delivery.is_some_and(|delivery| delivery.leased),
        lease_seconds,
        node,
        guard.body_key,
        guard.holds,
        exact_digest(event).map(|digest| &digest.0[..]),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| NewRow { id: row.id, mark: row.mark.as_deref().and_then(Mark::parse) }))
}

/// The rows that these keys have.
pub async fn seen(connection: &mut PgConnection, keys: &[Key]) -> Result<Vec<SeenKey>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select key, event_id, body_digest, extract(epoch from expires_at - now())::float8 as "seconds_left!"
          from event_key where key = any($1)
        "#,
        keys
    )
    .fetch_all(connection)
    .await?;
    let seen = |key, event_id, digest: Vec<u8>, seconds_left| {
        Some(SeenKey { key, event_id, digest: BodyDigest(digest.try_into().ok()?), seconds_left })
    };
    Ok(rows.into_iter().filter_map(|row| seen(row.key, row.event_id, row.body_digest, row.seconds_left)).collect())
}

/// When the last key expires that was recorded in the form of earlier versions; None where all have.
pub async fn keys_before_until(executor: impl PgExecutor<'_>) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    sqlx::query_scalar!("select until from keys_before where until > now() limit 1").fetch_optional(executor).await
}

/// An event as it is kept, for what is read of it anew.
pub struct StoredEvent {
    pub key: Key,
    /// A JSON array of [name, value] pairs.
    pub headers: String,
    pub body: Bytes,
    /// It is a part of a request that was split.
    pub is_item: bool,
    pub mark: Option<Mark>,
}

pub async fn stored(executor: impl PgExecutor<'_>, id: Uuid) -> Result<Option<StoredEvent>, sqlx::Error> {
    let row = sqlx::query!("select key, headers, body, original_id, mark from event where id = $1", id).fetch_optional(executor).await?;
    Ok(row.map(|row| StoredEvent {
        key: row.key,
        headers: row.headers,
        body: row.body.into(),
        is_item: row.original_id.is_some(),
        mark: row.mark.as_deref().and_then(Mark::parse),
    }))
}
