//! Records requests, many in one commit. `outcomes` decides the outcome of each key; this writes,
//! remembers, and hands deliveries to the workers.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    outcomes::{
        AllFound, Found, Recorded, Row, answer, known, known_before, other_bodies, resolve,
    },
    recent::RecentEvents,
};
use crate::{
    contract::{DeliveryId, EventId},
    event::{Key, Mark},
    group_commit::{CommitError, GroupCommit, Options, Statement},
    handoff::{Handoff, Leased, RelayEvent, Reserved},
    ids,
    meters::Meters,
    store::{
        Error,
        inbox::{self, Lessee, NewDelivery, NewEvent},
        link::Dialer,
    },
};

/// The bodies and headers of one statement add up to at most this many bytes. A single request is
/// always taken.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// A request as the intake hands it to the recorder.
pub struct Incoming {
    /// One row, or several if the request was split.
    pub rows: Vec<Row>,
}

#[derive(Clone)]
pub struct RecorderOptions {
    pub meters: Meters,
    pub node: Uuid,
    pub lease_seconds: f64,
    pub rows_max: usize,
    pub bytes_max: usize,
    pub batch_rows_max: usize,
    pub recent_keys_max: usize,
    pub writers: usize,
    /// A batch that takes longer counts as failed, and its connection is dropped.
    pub write_timeout: Duration,
}

/// The group commit of requests.
pub struct Recorder(GroupCommit<Recording>);

impl Recorder {
    /// Opens no connection: the first request does that.
    pub fn new(dialer: Dialer, handoff: Arc<Handoff>, options: RecorderOptions) -> Arc<Self> {
        let recording = Recording {
            handoff,
            recent: RecentEvents::new(options.recent_keys_max),
            asks_first: AtomicBool::new(false),
            node: options.node,
            lease_seconds: options.lease_seconds,
        };
        let options = Options {
            name: "events",
            meters: options.meters,
            rows_max: options.rows_max,
            bytes_max: options.bytes_max,
            batch_rows_max: options.batch_rows_max,
            batch_bytes_max: BATCH_BYTES_MAX,
            writers: options.writers,
            linger: Duration::ZERO,
            write_timeout: options.write_timeout,
            tries_max: u32::MAX,
        };
        Arc::new(Self(GroupCommit::new(recording, dialer, None, options)))
    }

    /// Refuses new requests, and returns when those that wait are written and answered.
    pub async fn close(&self) {
        self.0.close().await;
    }

    /// Whether the database does not take batches, as `GroupCommit::is_stuck`.
    pub fn is_stuck(&self) -> bool {
        self.0.is_stuck()
    }

    /// The events that were recorded lately.
    pub fn recent(&self) -> &RecentEvents {
        &self.0.statement().recent
    }

    /// Records a request and returns the outcome of each row, in their order, after the commit.
    ///
    /// # Errors
    ///
    /// As `GroupCommit::decide`; `budget` is the provider's time for an answer.
    pub async fn record(
        &self,
        incoming: Incoming,
        budget: Duration,
    ) -> Result<Vec<Recorded>, CommitError> {
        self.0.decide(incoming, budget).await
    }
}

/// The statement that records requests.
struct Recording {
    handoff: Arc<Handoff>,
    recent: RecentEvents,
    /// True if most rows of the last statement were repeats. Then the next one asks which keys are
    /// there before it writes.
    asks_first: AtomicBool,
    node: Uuid,
    lease_seconds: f64,
}

impl Statement for Recording {
    type Item = Incoming;
    type Answer = Vec<Recorded>;

    fn rows(incoming: &Incoming) -> usize {
        incoming.rows.len()
    }

    fn bytes(incoming: &Incoming) -> usize {
        let original = incoming
            .rows
            .first()
            .and_then(|row| row.event.original.as_ref());
        let original = original.map_or(0, |original| original.body.len());
        let of_row = |row: &Row| row.event.request.body().len() + row.event.headers.len();
        original + incoming.rows.iter().map(of_row).sum::<usize>()
    }

    async fn run(
        &self,
        connection: &mut PgConnection,
        batch: &[&Incoming],
    ) -> Result<Vec<Option<Vec<Recorded>>>, Error> {
        let known_by = self.recent.server();
        let rows = || batch.iter().flat_map(|incoming| &incoming.rows);
        let firsts = first_of_each_key(rows());
        let mut found = self.record_rows(connection, &firsts).await?;
        let others = other_bodies(connection, rows(), &mut found).await?;
        let of_others = match others.as_slice() {
            [] => AllFound::new(),
            others => {
                self.record_rows(connection, &first_of_each_key(others))
                    .await?
            }
        };
        let mut answers = Vec::with_capacity(batch.len());
        for incoming in batch {
            let mut of_rows = Vec::with_capacity(incoming.rows.len());
            for row in &incoming.rows {
                of_rows.push(answer(connection, row, &found, &of_others).await?);
            }
            answers.push(Some(of_rows));
        }
        for (row, found) in firsts
            .iter()
            .filter_map(|row| Some((row, found.get(&row.event.key)?)))
        {
            self.recent
                .remember(&row.event, found.recent(&row.event), known_by);
        }
        Ok(answers)
    }

    fn lost_connection(&self) {
        self.recent.forget();
    }
}

impl Recording {
    /// The outcomes of these rows' keys. The rows are sorted by key.
    async fn record_rows(
        &self,
        connection: &mut PgConnection,
        rows: &[&Row],
    ) -> Result<AllFound, Error> {
        let mut found = AllFound::with_capacity(rows.len());
        if self.asks_first.load(Ordering::Relaxed) {
            found = known(connection, rows).await?;
        }
        if rows.iter().any(|row| row.event.key_before.is_some()) {
            known_before(connection, rows, &mut found).await?;
        }
        let unknown: Vec<&Row> = rows
            .iter()
            .copied()
            .filter(|row| !found.contains_key(&row.event.key))
            .collect();
        let mut new = 0;
        if !unknown.is_empty() {
            let (inserted, expired) = self.insert(connection, &unknown, &mut found).await?;
            new += inserted;
            if !expired.is_empty() {
                let keys: Vec<Key> = expired.iter().map(|row| row.event.key).collect();
                inbox::forget_expired(connection, &keys).await?;
                let (inserted, late) = self.insert(connection, &expired, &mut found).await?;
                new += inserted;
                if !late.is_empty() {
                    return Err(Error::Again);
                }
            }
        }
        self.asks_first
            .store(new * 2 < rows.len(), Ordering::Relaxed);
        Ok(found)
    }

    /// Records these rows, hands the deliveries of new ones to their workers, and adds the outcomes
    /// to `found`. Returns how many are new, and the rows whose key is there but has expired.
    async fn insert<'r>(
        &self,
        connection: &mut PgConnection,
        rows: &[&'r Row],
        found: &mut AllFound,
    ) -> Result<(usize, Vec<&'r Row>), Error> {
        let events: Vec<&NewEvent> = rows.iter().map(|row| &row.event).collect();
        let (deliveries, places) = plan_deliveries(&self.handoff, rows);
        let leased_at = Instant::now();
        let lessee = Lessee {
            node: self.node,
            lease_seconds: self.lease_seconds,
        };
        let mut recorded = inbox::record(connection, lessee, &events, &deliveries).await?;
        recorded.sort_unstable_by_key(|row| row.id);
        let recorded_as = |event: &NewEvent| {
            Some(
                &recorded[recorded
                    .binary_search_by_key(&event.id, |row| row.id)
                    .ok()?],
            )
        };
        let (new, others): (Vec<&'r Row>, Vec<&'r Row>) = rows
            .iter()
            .partition(|row| recorded_as(&row.event).is_some());
        let marked = |event: &NewEvent| recorded_as(event).and_then(|row| row.mark);
        found.extend(new.iter().map(|row| {
            (
                row.event.key,
                Found::first(&row.event, marked(&row.event), leased_at),
            )
        }));
        hand_over(&new, marked, deliveries, places, leased_at);
        let expired = if others.is_empty() {
            Vec::new()
        } else {
            resolve(connection, &others, found).await?
        };
        Ok((new.len(), expired))
    }
}

/// The first row of each key, sorted by key.
fn first_of_each_key<'r>(rows: impl IntoIterator<Item = &'r Row>) -> Vec<&'r Row> {
    let mut rows: Vec<&Row> = rows.into_iter().collect();
    // The sort is stable, so of equal keys the first stays first.
    rows.sort_by_key(|row| row.event.key);
    rows.dedup_by_key(|row| row.event.key);
    rows
}

fn plan_deliveries(handoff: &Handoff, rows: &[&Row]) -> (Vec<NewDelivery>, Vec<Option<Reserved>>) {
    let mut deliveries = Vec::new();
    let mut places = Vec::new();
    for Row {
        event,
        destinations,
        ..
    } in rows
    {
        let bytes = event.request.body().len();
        for destination in destinations {
            let place = handoff.reserve(destination, bytes);
            deliveries.push(NewDelivery {
                id: DeliveryId(ids::new()),
                event_id: EventId(event.id),
                key: event.key,
                source: event.source.clone(),
                destination: destination.clone(),
                body_bytes: i32::try_from(bytes).unwrap_or(i32::MAX),
                leased: place.is_some(),
            });
            places.push(place);
        }
    }
    (deliveries, places)
}

/// Gives the leased deliveries of new events to their workers after the commit. The events are
/// sorted by key.
fn hand_over(
    new: &[&Row],
    marked: impl Fn(&NewEvent) -> Option<Mark>,
    deliveries: Vec<NewDelivery>,
    places: Vec<Option<Reserved>>,
    leased_at: Instant,
) {
    let mut shared: HashMap<EventId, Arc<RelayEvent>> = HashMap::new();
    for (delivery, place) in deliveries.into_iter().zip(places) {
        let Some(place) = place else { continue };
        let Ok(at) = new.binary_search_by_key(&delivery.key, |row| row.event.key) else {
            continue;
        };
        let event = &new[at].event;
        let event = shared
            .entry(delivery.event_id)
            .or_insert_with(|| relay_event(event, marked(event)))
            .clone();
        let (id, key) = (delivery.id, delivery.key);
        place.send(Leased {
            id,
            key,
            epoch: 1,
            attempts: 0,
            replay_id: None,
            age_seconds: 0.0,
            leased_at,
            event: Some(event),
        });
    }
}

fn relay_event(event: &NewEvent, mark: Option<Mark>) -> Arc<RelayEvent> {
    Arc::new(RelayEvent {
        id: EventId(event.id),
        source: event.source.clone(),
        event_key: event.event_key().to_owned(),
        event_type: event.request.event_type().map(str::to_owned),
        mark,
        headers: event.headers.clone(),
        body: event.request.body().clone(),
    })
}
