//! Events that steps emit. The statement that ends a step records them too.

use std::sync::Arc;

use sqlx::PgConnection;
use uuid::Uuid;

use super::place::StepAddress;
use crate::{
    contract::{DeliveryId, EventId},
    event::{BodyDigest, Key},
};

/// An event that a step emits, and where it is delivered.
#[derive(Clone, Debug)]
pub struct Emitted {
    pub id: EventId,
    pub key: Key,
    pub source: Arc<str>,
    pub event_key: String,
    pub event_type: Option<String>,
    pub body: String,
    pub digest: BodyDigest,
    pub window_seconds: f64,
    /// A delivery's id and its destination.
    pub deliveries: Vec<(DeliveryId, Arc<str>)>,
}

/// The headers that an emitted event is kept with, in the form of a received event's.
pub const EMITTED_HEADERS: &str = r#"[["content-type","application/json"]]"#;

/// Events column by column, sorted by key, each with the step that must end for it to be recorded.
pub struct EmittedColumns<'a> {
    pub keys: Vec<Uuid>,
    pub steps: Vec<&'a str>,
    pub events: Vec<&'a Emitted>,
    pub deliveries: DeliveryColumns<'a>,
}

/// Deliveries as (id, event, destination), column by column.
type DeliveryColumns<'a> = (Vec<Uuid>, Vec<Uuid>, Vec<&'a str>);

impl<'a> EmittedColumns<'a> {
    pub fn of(steps: impl IntoIterator<Item = (&'a StepAddress, &'a [Emitted])>) -> Self {
        let events = steps
            .into_iter()
            .flat_map(|(place, events)| events.iter().map(move |event| (place, event)));
        let mut rows: Vec<(&StepAddress, &Emitted)> = events.collect();
        rows.sort_by_key(|(_, event)| event.key);
        Self {
            keys: rows.iter().map(|(place, _)| place.key.0).collect(),
            steps: rows.iter().map(|(place, _)| &*place.step).collect(),
            deliveries: deliveries(rows.iter().map(|(_, event)| *event)),
            events: rows.into_iter().map(|(_, event)| event).collect(),
        }
    }

    /// Only the events with these ids, without their steps and deliveries.
    pub fn only(&self, ids: &[Uuid]) -> Self {
        let events = self
            .events
            .iter()
            .copied()
            .filter(|event| ids.contains(&event.id.0))
            .collect();
        Self {
            keys: Vec::new(),
            steps: Vec::new(),
            events,
            deliveries: Default::default(),
        }
    }

    pub fn column<T>(&self, of: impl Fn(&'a Emitted) -> T) -> Vec<T> {
        self.events.iter().map(|event| of(event)).collect()
    }
}

fn deliveries<'a>(events: impl Iterator<Item = &'a Emitted>) -> DeliveryColumns<'a> {
    let rows = events.flat_map(|event| {
        event
            .deliveries
            .iter()
            .map(|(id, to)| (id.0, event.id.0, &**to))
    });
    rows.fold(
        DeliveryColumns::default(),
        |(mut ids, mut events, mut destinations), (id, event, destination)| {
            ids.push(id);
            events.push(event);
            destinations.push(destination);
            (ids, events, destinations)
        },
    )
}

/// Keeps events as conflicts if another batch inserted their key first while the statement ran.
/// That statement could not see the other body.
pub async fn keep_conflicts(
    connection: &mut PgConnection,
    events: &EmittedColumns<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        insert into conflict (key, body_digest, id, event_id, kind, source, event_key, event_type, headers, body)
        select v.key, v.digest, v.id, first.event_id, 'other_body', v.source, v.event_key, v.event_type, $8, v.body
          from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[])
                 as v (id, key, source, event_key, event_type, body, digest)
               join event_key first on first.key = v.key and first.body_digest <> v.digest
         order by v.key, v.digest
        on conflict (key, body_digest) do nothing
        "#,
        &events.column(|event| event.id.0),
        &events.column(|event| event.key.0),
        &events.column(|event| &*event.source) as &[&str],
        &events.column(|event| &*event.event_key) as &[&str],
        &events.column(|event| event.event_type.as_deref()) as &[Option<&str>],
        &events.column(|event| event.body.as_bytes()) as &[&[u8]],
        &events.column(|event| &event.digest.0[..]) as &[&[u8]],
        EMITTED_HEADERS,
    )
    .execute(connection)
    .await?;
    Ok(())
}
