//! Group commit: requests queue here, a few writers each take what waits and record it in one statement, and every request is answered after
//! its commit. No timer: a lone request is a batch of one. The queue is bounded in rows and bytes; beyond that the answer is "busy".

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::PgConnection;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::{
    event::{Key, Mark},
    group_commit::commits::{self, Commits},
    handoff::{Handoff, Leased, RelayEvent, Reserved},
    ids,
    intake::{
        outcomes::{AllFound, Found, Recorded, Row, answer, known, known_before, other_bodies, resolve},
        recent::RecentEvents,
    },
    store::{
        inbox::{self, Lessee, NewDelivery, NewEvent},
        link::Dialer,
    },
};

/// A batch beside another has this part of `batch_rows_max` at least.
const WORTHWHILE: usize = 4;

/// A batch that is on its way for longer is not waited for.
const SOON: Duration = Duration::from_millis(100);

/// A batch that has not come back after so long makes a node not ready.
const STUCK: Duration = Duration::from_millis(1500);

/// Bodies of one statement add up to at most this, but one row is always taken.
const BATCH_BYTES_MAX: usize = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the queue is full")]
    Busy,
    #[error("the database did not take the event in time")]
    Unavailable,
    #[error("the database refuses this event")]
    Refused,
}

/// A request as the ingress hands it over.
pub struct Incoming {
    /// One at least; several where the request was split.
    pub rows: Vec<Row>,
}

impl Incoming {
    /// The bodies, with that of the request where it was split.
    fn body_bytes(&self) -> usize {
        let original = self.rows.first().and_then(|row| row.event.original.as_ref()).map_or(0, |original| original.body.len());
        original + self.rows.iter().map(|row| row.event.request.body().len()).sum::<usize>()
    }

    fn header_bytes(&self) -> usize {
        self.rows.iter().map(|row| row.event.headers.len()).sum()
    }
}

/// What each row came to, in their order.
type Answer = Result<Vec<Recorded>, RecordError>;

struct Waiting {
    incoming: Incoming,
    answer: oneshot::Sender<Answer>,
    _room: Room,
}

/// The room of a request's rows in the queue, free again when it is dropped.
struct Room {
    queue: Arc<Queue>,
    rows: usize,
    bytes: usize,
}

#[derive(Default)]
struct Queue {
    rows: AtomicUsize,
    bytes: AtomicUsize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.queue.rows.fetch_sub(self.rows, Ordering::Relaxed);
        self.queue.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[derive(Clone, Debug)]
pub struct RecorderOptions {
    pub node: Uuid,
    pub lease_seconds: f64,
    pub rows_max: usize,
    pub bytes_max: usize,
    pub batch_rows_max: usize,
    pub recent_keys_max: usize,
    pub writers: usize,
    /// A batch that takes longer has lost its connection.
    pub write_timeout: Duration,
}

/// The group commit. Its writers are tasks of whoever brings the first request: on the thread that reads requests, neither the statement nor
/// its answer has to wake another.
pub struct Recorder {
    line: Mutex<Line>,
    queue: Arc<Queue>,
    handoff: Arc<Handoff>,
    recent: RecentEvents,
    /// The last statement was for repeats for the most part: whether a key is there is then asked before it is written.
    asks_first: AtomicBool,
    dialer: Dialer,
    trouble: Trouble,
    options: RecorderOptions,
    writing: TaskTracker,
}

/// What waits, and who may write it.
struct Line {
    waiting: VecDeque<Waiting>,
    places: Vec<Place>,
    /// So many that wait are worth a batch beside another.
    worthwhile: usize,
    closed: bool,
}

/// A writer's, with its connection while it has nothing to do.
#[derive(Default)]
struct Place {
    connection: Option<PgConnection>,
    /// Since when its batch is on its way.
    busy_since: Option<Instant>,
}

impl Line {
    /// Whether what waits should be written now. A batch that comes back soon takes it: two halves cost two commits, and more than a whole.
    fn is_ready(&self) -> bool {
        let comes_back_soon = |place: &Place| place.busy_since.is_some_and(|since| since.elapsed() < SOON);
        !self.waiting.is_empty() && (self.waiting.len() >= self.worthwhile || !self.places.iter().any(comes_back_soon))
    }
}

impl Recorder {
    /// Connections are opened when there is something to write.
    pub fn new(dialer: Dialer, handoff: Arc<Handoff>, options: RecorderOptions) -> Arc<Self> {
        let places = (0..options.writers.max(1)).map(|_| Place::default()).collect();
        let worthwhile = options.batch_rows_max.div_ceil(WORTHWHILE);
        Arc::new(Self {
            line: Mutex::new(Line { waiting: VecDeque::new(), places, worthwhile, closed: false }),
            queue: Arc::default(),
            handoff,
            recent: RecentEvents::new(options.recent_keys_max),
            asks_first: AtomicBool::new(false),
            dialer,
            trouble: Trouble::default(),
            options,
            writing: TaskTracker::new(),
        })
    }

    /// No more requests; ends when what waits is written and answered.
    pub async fn close(&self) {
        self.line().closed = true;
        self.writing.close();
        self.writing.wait().await;
        self.line().places.iter_mut().for_each(|place| place.connection = None);
    }

    /// Nothing is left half-done under the lock.
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether batches are not taken: the last one failed just now, or one is on its way for far longer than any should be.
    pub fn is_stuck(&self) -> bool {
        let is_late = |place: &Place| place.busy_since.is_some_and(|since| since.elapsed() >= STUCK);
        self.trouble.is_recent() || self.line().places.iter().any(is_late)
    }

    /// What was recorded lately.
    pub fn recent(&self) -> &RecentEvents {
        &self.recent
    }

    /// What the request came to, after its commit, where that comes within the budget.
    pub async fn record(self: &Arc<Self>, incoming: Incoming, budget: Duration) -> Answer {
        let mut answer = self.queue(incoming)?;
        let soon = SOON.min(budget);
        let answered = match tokio::time::timeout(soon, &mut answer).await {
            Ok(answered) => answered,
            Err(_) => {
                // The batch that was to come back soon has not: another may write.
                self.write(self.line());
                tokio::time::timeout(budget - soon, answer).await.map_err(|_| RecordError::Unavailable)?
            }
        };
        answered.unwrap_or(Err(RecordError::Unavailable))
    }

    /// The receiver gets its answer after the commit.
    fn queue(self: &Arc<Self>, incoming: Incoming) -> Result<oneshot::Receiver<Answer>, RecordError> {
        let bytes = incoming.body_bytes() + incoming.header_bytes();
        let rows = incoming.rows.len();
        let queued_rows = self.queue.rows.fetch_add(rows, Ordering::Relaxed);
        let queued = self.queue.bytes.fetch_add(bytes, Ordering::Relaxed);
        let room = Room { queue: self.queue.clone(), rows, bytes };
        // What was split is never too much for an empty queue: its own bounds hold it.
        if (queued_rows > 0 && queued_rows + rows > self.options.rows_max) || (queued > 0 && queued + bytes > self.options.bytes_max) {
            return Err(RecordError::Busy);
        }
        let (answer, receiver) = oneshot::channel();
        let mut line = self.line();
        if line.closed {
            return Err(RecordError::Unavailable);
        }
        line.waiting.push_back(Waiting { incoming, answer, _room: room });
        self.write(line);
        Ok(receiver)
    }

    /// Starts a writer where one is free and something waits for it.
    fn write(self: &Arc<Self>, mut line: MutexGuard<'_, Line>) {
        let free = if line.is_ready() { line.places.iter().position(|place| place.busy_since.is_none()) } else { None };
        let Some(at) = free else { return };
        line.places[at].busy_since = Some(Instant::now());
        let writer = Writer { recorder: self.clone(), connection: line.places[at].connection.take(), place: Some(at) };
        drop(line);
        tokio::spawn(self.writing.track_future(writer.run()));
    }
}

impl Recorder {
    /// What the keys of these rows came to, which are sorted by key.
    async fn record_rows(&self, connection: &mut PgConnection, rows: &[&Row]) -> Result<AllFound, sqlx::Error> {
        let mut found = AllFound::with_capacity(rows.len());
        if self.asks_first.load(Ordering::Relaxed) {
            found = known(connection, rows).await?;
        }
        if rows.iter().any(|row| row.event.key_before.is_some()) {
            known_before(connection, rows, &mut found).await?;
        }
        let unknown: Vec<&Row> = rows.iter().copied().filter(|row| !found.contains_key(&row.event.key)).collect();
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
                    return Err(sqlx::Error::RowNotFound);
                }
            }
        }
        self.asks_first.store(new * 2 < rows.len(), Ordering::Relaxed);
        Ok(found)
    }

    /// Records these rows, hands the deliveries of what is new to their workers, and adds what each came to; how many are new, and the rows
    /// whose key is there and has expired.
    async fn insert<'r>(
        &self,
        connection: &mut PgConnection,
        rows: &[&'r Row],
        found: &mut AllFound,
    ) -> Result<(usize, Vec<&'r Row>), sqlx::Error> {
        let events: Vec<&NewEvent> = rows.iter().map(|row| &row.event).collect();
        let (deliveries, places) = plan_deliveries(&self.handoff, rows);
        let leased_at = Instant::now();
        let lessee = Lessee { node: self.options.node, lease_seconds: self.options.lease_seconds };
        let mut recorded = inbox::record(connection, lessee, &events, &deliveries).await?;
        recorded.sort_unstable_by_key(|row| row.id);
        let recorded_as = |event: &NewEvent| Some(&recorded[recorded.binary_search_by_key(&event.id, |row| row.id).ok()?]);
        let (new, others): (Vec<&'r Row>, Vec<&'r Row>) = rows.iter().partition(|row| recorded_as(&row.event).is_some());
        let marked = |event: &NewEvent| recorded_as(event).and_then(|row| row.mark);
        found.extend(new.iter().map(|row| (row.event.key, Found::first(&row.event, marked(&row.event), leased_at))));
        hand_over(&new, marked, deliveries, places, leased_at);
        let expired = if others.is_empty() { Vec::new() } else { resolve(connection, &others, found).await? };
        Ok((new.len(), expired))
    }
}

/// One statement at a time, until nothing waits for it.
struct Writer {
    recorder: Arc<Recorder>,
    connection: Option<PgConnection>,
    /// None once it is given back.
    place: Option<usize>,
}

impl Drop for Writer {
    /// Ended half-way, with its thread: another may write in its place.
    fn drop(&mut self) {
        if let Some(at) = self.place {
            self.recorder.line().places[at].busy_since = None;
        }
    }
}

impl Writer {
    async fn run(mut self) {
        while let Some(batch) = self.next_batch() {
            commits::write(&mut self, batch).await;
        }
    }

    /// What waits now; None where nothing does, or another takes it soon. Then the writer is free at that very moment: what comes next finds it so.
    fn next_batch(&mut self) -> Option<Vec<Waiting>> {
        let mut line = self.recorder.line();
        let at = self.place?;
        line.places[at].busy_since = None;
        if !line.is_ready() {
            line.places[at].connection = self.connection.take();
            self.place = None;
            return None;
        }
        line.places[at].busy_since = Some(Instant::now());
        let (mut rows, mut bytes) = (0, 0);
        let fits = |waiting: &&Waiting| {
            let first = rows == 0;
            rows += waiting.incoming.rows.len();
            bytes += waiting.incoming.body_bytes();
            first || (rows <= self.recorder.options.batch_rows_max && bytes <= BATCH_BYTES_MAX)
        };
        let requests = line.waiting.iter().take_while(fits).count();
        Some(line.waiting.drain(..requests).collect())
    }

    /// What each row of each request came to.
    async fn record(&mut self, batch: &[Waiting]) -> Result<Vec<Vec<Recorded>>, sqlx::Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.recorder.dialer.connect().await?),
        };
        let recorder = &*self.recorder;
        let known_by = recorder.recent.server();
        let rows = || batch.iter().flat_map(|waiting| &waiting.incoming.rows);
        let firsts = first_of_each_key(rows());
        let mut found = recorder.record_rows(connection, &firsts).await?;
        let others = other_bodies(connection, rows(), &mut found).await?;
        let of_others = match others.as_slice() {
            [] => AllFound::new(),
            others => recorder.record_rows(connection, &first_of_each_key(others)).await?,
        };
        let mut answers = Vec::with_capacity(batch.len());
        for Waiting { incoming, .. } in batch {
            let mut of_rows = Vec::with_capacity(incoming.rows.len());
            for row in &incoming.rows {
                of_rows.push(answer(connection, row, &found, &of_others).await?);
            }
            answers.push(of_rows);
        }
        for (row, found) in firsts.iter().filter_map(|row| Some((row, found.get(&row.event.key)?))) {
            recorder.recent.remember(&row.event, found.recent(&row.event), known_by);
        }
        Ok(answers)
    }
}

impl Commits for Writer {
    type Waiting = Waiting;
    type Answers = Vec<Vec<Recorded>>;

    fn is_gone(waiting: &Waiting) -> bool {
        waiting.answer.is_closed()
    }

    fn limit(&self) -> Duration {
        self.recorder.options.write_timeout
    }

    async fn statement(&mut self, part: &[Waiting]) -> Result<Self::Answers, sqlx::Error> {
        let answers = self.record(part).await?;
        self.recorder.trouble.over();
        Ok(answers)
    }

    fn answer(part: Vec<Waiting>, answers: Self::Answers) -> Vec<Waiting> {
        for (waiting, answer) in part.into_iter().zip(answers) {
            let _ = waiting.answer.send(Ok(answer));
        }
        Vec::new()
    }

    fn refuse(waiting: Waiting) {
        let _ = waiting.answer.send(Err(RecordError::Refused));
    }

    /// Whoever answers the next connection may not be who knows what this one wrote.
    fn disconnect(&mut self) {
        self.connection = None;
        self.recorder.trouble.begin();
        self.recorder.recent.forget();
    }
}

/// When the last batch was not taken.
#[derive(Default)]
struct Trouble(Mutex<Option<Instant>>);

impl Trouble {
    fn begin(&self) {
        *self.lock() = Some(Instant::now());
    }

    fn over(&self) {
        *self.lock() = None;
    }

    fn is_recent(&self) -> bool {
        self.lock().is_some_and(|at| at.elapsed() < STUCK)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first row of each key, sorted by key.
fn first_of_each_key<'r>(rows: impl IntoIterator<Item = &'r Row>) -> Vec<&'r Row> {
    let mut rows: Vec<&Row> = rows.into_iter().collect();
    // Stable: of equal keys the first stays first.
    rows.sort_by_key(|row| row.event.key);
    rows.dedup_by_key(|row| row.event.key);
    rows
}

fn plan_deliveries(handoff: &Handoff, rows: &[&Row]) -> (Vec<NewDelivery>, Vec<Option<Reserved>>) {
    let mut deliveries = Vec::new();
    let mut places = Vec::new();
    for Row { event, destinations, .. } in rows {
        let bytes = event.request.body().len();
        for destination in destinations {
            let place = handoff.reserve(destination, bytes);
            deliveries.push(NewDelivery {
                id: ids::new(),
                event_id: event.id,
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

/// Gives the committed, leased deliveries of new events, which are sorted by key, to their workers.
fn hand_over(
    new: &[&Row],
    marked: impl Fn(&NewEvent) -> Option<Mark>,
    deliveries: Vec<NewDelivery>,
    places: Vec<Option<Reserved>>,
    leased_at: Instant,
) {
    let mut shared: HashMap<Uuid, Arc<RelayEvent>> = HashMap::new();
    for (delivery, place) in deliveries.into_iter().zip(places) {
        let Some(place) = place else { continue };
        let Ok(at) = new.binary_search_by_key(&delivery.key, |row| row.event.key) else { continue };
        let event = &new[at].event;
        let event = shared.entry(delivery.event_id).or_insert_with(|| relay_event(event, marked(event))).clone();
        let (id, key) = (delivery.id, delivery.key);
        place.send(Leased { id, key, epoch: 1, attempts: 0, replay_id: None, age_seconds: 0.0, leased_at, event: Some(event) });
    }
}

fn relay_event(event: &NewEvent, mark: Option<Mark>) -> Arc<RelayEvent> {
    Arc::new(RelayEvent {
        id: event.id,
        source: event.source.clone(),
        event_key: event.event_key().to_owned(),
        event_type: event.request.event_type().map(str::to_owned),
        mark,
        headers: event.headers.clone(),
        body: event.request.body().clone(),
    })
}
