//! Records events: what is new is decided by the database, in the statement that also writes the event and its deliveries.

use std::sync::Arc;

use bytes::Bytes;
use sqlx::{Execute, Executor as _, PgConnection, Postgres, Row as _};
use uuid::Uuid;

use crate::{
    event::{BodyDigest, Key, body_key_of},
    provider::VerifiedRequest,
};

/// A verified request on its way into the inbox.
#[derive(Debug)]
pub struct NewEvent {
    pub id: Uuid,
    pub key: Key,
    /// Set where the signature does not cover the event key: then the body, too, must be new.
    pub body_key: Option<Key>,
    pub source: Arc<str>,
    pub window_seconds: f64,
    /// A JSON array of [name, value] pairs.
    pub headers: String,
    pub request: VerifiedRequest,
    /// The request that it is a part of, where that was split.
    pub original: Option<Arc<Original>>,
}

/// The body of a request that was split into several events.
#[derive(Debug)]
pub struct Original {
    pub id: Uuid,
    pub body: Bytes,
    pub digest: BodyDigest,
    pub items: i32,
}

/// A delivery to be born with its event.
#[derive(Debug)]
pub struct NewDelivery {
    pub id: Uuid,
    pub event_id: Uuid,
    pub key: Key,
    pub source: Arc<str>,
    pub destination: Arc<str>,
    pub body_bytes: i32,
    /// Born leased to this node; otherwise due at once for any.
    pub leased: bool,
}

/// A row of `event_key`.
#[derive(Clone, Copy, Debug)]
pub struct SeenKey {
    pub key: Key,
    pub event_id: Uuid,
    pub digest: BodyDigest,
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
}

impl<'a> EventColumns<'a> {
    fn of(events: &[&'a NewEvent]) -> Self {
        Self {
            keys: events.iter().map(|event| event.key).collect(),
            ids: events.iter().map(|event| event.id).collect(),
            digests: events.iter().map(|event| &event.request.digest().0[..]).collect(),
            windows: events.iter().map(|event| event.window_seconds).collect(),
            sources: events.iter().map(|event| &*event.source).collect(),
            event_keys: events.iter().map(|event| event.request.event_key()).collect(),
            types: events.iter().map(|event| event.request.event_type()).collect(),
            headers: events.iter().map(|event| event.headers.as_str()).collect(),
            bodies: events.iter().map(|event| &event.request.body()[..]).collect(),
            originals: originals_of(events),
        }
    }
}

/// Empty where none of them is a part of another request.
fn originals_of(events: &[&NewEvent]) -> Vec<Option<Uuid>> {
    if events.iter().all(|event| event.original.is_none()) {
        return Vec::new();
    }
    events.iter().map(|event| event.original.as_ref().map(|original| original.id)).collect()
}

/// The second keys of those events that have one.
#[derive(Default)]
struct BodyKeyColumns<'a> {
    keys: Vec<Uuid>,
    ids: Vec<Uuid>,
    digests: Vec<&'a [u8]>,
    windows: Vec<f64>,
}

impl<'a> BodyKeyColumns<'a> {
    fn of(events: &[&'a NewEvent]) -> Self {
        let mut columns = Self::default();
        for (event, body_key) in events.iter().filter_map(|event| Some((event, event.body_key?))) {
            columns.keys.push(body_key);
            columns.ids.push(event.id);
            columns.digests.push(&event.request.digest().0);
            columns.windows.push(event.window_seconds);
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

struct DeliveryColumns<'a> {
    ids: Vec<Uuid>,
    events: Vec<Uuid>,
    keys: Vec<Uuid>,
    sources: Vec<&'a str>,
    destinations: Vec<&'a str>,
    sizes: Vec<i32>,
    leased: Vec<bool>,
}

impl<'a> DeliveryColumns<'a> {
    fn of(deliveries: &'a [NewDelivery]) -> Self {
        Self {
            ids: deliveries.iter().map(|delivery| delivery.id).collect(),
            events: deliveries.iter().map(|delivery| delivery.event_id).collect(),
            keys: deliveries.iter().map(|delivery| delivery.key).collect(),
            sources: deliveries.iter().map(|delivery| &*delivery.source).collect(),
            destinations: deliveries.iter().map(|delivery| &*delivery.destination).collect(),
            sizes: deliveries.iter().map(|delivery| delivery.body_bytes).collect(),
            leased: deliveries.iter().map(|delivery| delivery.leased).collect(),
        }
    }
}

/// Records a batch in one statement and returns the ids of those that are new. `events` must be sorted by key, without repeats: two
/// overlapping batches in different orders would deadlock.
pub async fn record(
    connection: &mut PgConnection,
    node: Uuid,
    lease_seconds: f64,
    events: &[&NewEvent],
    deliveries: &[NewDelivery],
) -> Result<Vec<Uuid>, sqlx::Error> {
    match (events, deliveries) {
        ([event], _) if event.original.is_some() => record_many(connection, node, lease_seconds, events, deliveries).await,
        ([event], []) => record_one(connection, node, lease_seconds, event, None).await.map(Vec::from_iter),
        ([event], [delivery]) => record_one(connection, node, lease_seconds, event, Some(delivery)).await.map(Vec::from_iter),
        _ => record_many(connection, node, lease_seconds, events, deliveries).await,
    }
}

async fn record_many(
    connection: &mut PgConnection,
    node: Uuid,
    lease_seconds: f64,
    events: &[&NewEvent],
    deliveries: &[NewDelivery],
) -> Result<Vec<Uuid>, sqlx::Error> {
    let rows = connection.fetch_all(batch(node, lease_seconds, events, deliveries)).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// The statement that records a batch, its arguments encoded.
pub fn batch(
    node: Uuid,
    lease_seconds: f64,
    events: &[&NewEvent],
    deliveries: &[NewDelivery],
) -> impl Execute<'static, Postgres> + 'static {
    let e = EventColumns::of(events);
    let b = BodyKeyColumns::of(events);
    let d = DeliveryColumns::of(deliveries);
    let r = OriginalColumns::of(events);
    sqlx::query_file_scalar!(
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
    )
}

/// The same for one event with one delivery at most: without arrays, which cost a lone event more than all else.
async fn record_one(
    connection: &mut PgConnection,
    node: Uuid,
    lease_seconds: f64,
    event: &NewEvent,
    delivery: Option<&NewDelivery>,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        with k as (
            insert into event_key (key, event_id, body_digest, expires_at) values ($1, $2, $3, now() + $4 * interval '1 second')
            on conflict (key) do nothing
            returning event_id
        ), b as (
            insert into event_key (key, event_id, body_digest, expires_at)
            select $5, event_id, $3, now() + $4 * interval '1 second' from k where $5::uuid is not null
            on conflict (key) do nothing
            returning event_id
        ), e as (
            insert into event (id, key, source, event_key, event_type, headers, body, body_digest)
            select event_id, $1, $6, $7, $8, $9, $10, $3 from k where $5::uuid is null or exists (select from b)
            returning id
        ), o as (
            insert into outbox (id, key, event_id, source, destination, body_bytes, state, epoch, lease_until, node)
            select $11, $1, id, $6, $12, $13,
                   case when $14 then 'leased' else 'pending' end,
                   case when $14 then 1 else 0 end,
                   case when $14 then now() + $15 * interval '1 second' end,
                   case when $14 then $16::uuid end
              from e
             where $11::uuid is not null
        )
        select id as "id!" from e
        "#,
        event.key,
        event.id,
        &event.request.digest().0[..],
        event.window_seconds,
        event.body_key,
        &*event.source,
        event.request.event_key(),
        event.request.event_type(),
        event.headers,
        &event.request.body()[..],
        delivery.map(|delivery| delivery.id),
        delivery.map(|delivery| &*delivery.destination),
        delivery.map(|delivery| delivery.body_bytes),
        delivery.is_some_and(|delivery| delivery.leased),
        lease_seconds,
        node,
    )
    .fetch_optional(connection)
    .await
}

/// The rows that these keys have.
pub async fn seen(connection: &mut PgConnection, keys: &[Key]) -> Result<Vec<SeenKey>, sqlx::Error> {
    let rows = sqlx::query!("select key, event_id, body_digest from event_key where key = any($1)", keys).fetch_all(connection).await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| Some(SeenKey { key: row.key, event_id: row.event_id, digest: BodyDigest(row.body_digest.try_into().ok()?) }))
        .collect())
}

/// Keeps a request that is not the event of its key, once per key and body, and points a key that was taken for nothing at the first event.
pub async fn keep_conflict(connection: &mut PgConnection, event: &NewEvent, first: Uuid, same_body: bool) -> Result<(), sqlx::Error> {
    let body: &[u8] = if same_body { b"" } else { event.request.body() };
    sqlx::query!(
        r#"
        with repointed as (update event_key set event_id = $4 where key = $1 and event_id = $3)
        insert into conflict (key, body_digest, id, event_id, kind, source, event_key, event_type, headers, body)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        on conflict (key, body_digest) do nothing
        "#,
        event.key,
        &event.request.digest().0[..],
        event.id,
        first,
        if same_body { "same_body_new_id" } else { "other_body" },
        &*event.source,
        event.request.event_key(),
        event.request.event_type(),
        event.headers,
        body,
    )
    .execute(connection)
    .await?;
    Ok(())
}
