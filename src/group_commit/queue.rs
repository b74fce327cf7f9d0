//! The items that wait for a writer, and the slots of the writers. Nothing here does I/O.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::PgConnection;
use tokio::sync::oneshot;

use super::statement::{CommitError, Statement};
use crate::meters::Meters;

/// Items wait for a batch that is on its way, but no longer than this: then another may begin.
pub(super) const SOON: Duration = Duration::from_millis(100);

/// A second batch runs beside the first once `batch_rows_max` divided by this waits. Fewer rows are
/// not worth a commit of their own: docs/decisions/0006-one-batch-at-a-time.md has the
/// measurements.
const BESIDE_DIVISOR: usize = 4;

/// A group commit's name, bounds and meters.
#[derive(Clone)]
pub struct Options {
    /// The name that its batches are counted under.
    pub name: &'static str,
    pub meters: Meters,
    /// Rows that may wait.
    pub rows_max: usize,
    /// Bytes that may wait.
    pub bytes_max: usize,
    /// Rows of one statement.
    pub batch_rows_max: usize,
    /// Bytes of one statement. A batch has at least one item, however large.
    pub batch_bytes_max: usize,
    /// Statements that run at the same time, each on its own connection.
    pub writers: usize,
    /// How long a batch that is not full waits for more items.
    pub linger: Duration,
    /// A statement that takes longer counts as failed, and its connection is dropped.
    pub write_timeout: Duration,
    /// A batch is given up after this many failures in a row.
    pub tries_max: u32,
}

/// An item in the queue.
pub(super) struct Waiting<S: Statement> {
    pub item: S::Item,
    pub answer: Option<oneshot::Sender<Result<S::Answer, CommitError>>>,
    pub since: Instant,
    /// How many statements have left it undecided.
    pub rounds: u32,
    pub _share: Share,
}

impl<S: Statement> Waiting<S> {
    /// Whether its caller has gone, so that it need not be written.
    pub fn is_unwanted(&self) -> bool {
        self.answer.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    pub fn answer(self, answer: Result<S::Answer, CommitError>) {
        if let Some(sender) = self.answer {
            // Sending fails if the caller has gone, and then nobody needs the answer.
            let _ = sender.send(answer);
        }
    }
}

/// The rows and bytes that wait or are being written.
pub(super) struct Room {
    rows: AtomicUsize,
    bytes: AtomicUsize,
    rows_max: usize,
    bytes_max: usize,
}

/// An item's part of the room; dropping it gives the part back.
pub(super) struct Share {
    room: Arc<Room>,
    rows: usize,
    bytes: usize,
}

impl Room {
    pub fn new(rows_max: usize, bytes_max: usize) -> Self {
        Self {
            rows: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            rows_max,
            bytes_max,
        }
    }

    /// Takes a part of the room. An empty room admits any item, because its caller bounds its size.
    pub fn share(room: &Arc<Self>, rows: usize, bytes: usize) -> Result<Share, CommitError> {
        let rows_before = room.rows.fetch_add(rows, Ordering::Relaxed);
        let bytes_before = room.bytes.fetch_add(bytes, Ordering::Relaxed);
        let share = Share {
            room: room.clone(),
            rows,
            bytes,
        };
        let has_rows = rows_before == 0 || rows_before + rows <= room.rows_max;
        let has_bytes = bytes_before == 0 || bytes_before + bytes <= room.bytes_max;
        if has_rows && has_bytes {
            Ok(share)
        } else {
            Err(CommitError::Busy)
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.rows.fetch_sub(self.rows, Ordering::Relaxed);
        self.room.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A writer's slot: busy, or free with the connection that it used last.
#[derive(Default)]
struct Slot {
    connection: Option<PgConnection>,
    /// When its batch began.
    busy_since: Option<Instant>,
}

/// The items that wait, and the writers' slots.
pub(super) struct Queue<S: Statement> {
    waiting: VecDeque<Waiting<S>>,
    slots: Vec<Slot>,
    batch_rows_max: usize,
    batch_bytes_max: usize,
    closed: bool,
}

impl<S: Statement> Queue<S> {
    pub fn new(options: &Options) -> Self {
        Self {
            waiting: VecDeque::new(),
            slots: (0..options.writers.max(1))
                .map(|_| Slot::default())
                .collect(),
            batch_rows_max: options.batch_rows_max,
            batch_bytes_max: options.batch_bytes_max,
            closed: false,
        }
    }

    pub fn push(&mut self, waiting: Waiting<S>) -> Result<(), CommitError> {
        if self.closed {
            return Err(CommitError::Unavailable);
        }
        self.waiting.push_back(waiting);
        Ok(())
    }

    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Drops the connections of free writers.
    pub fn disconnect(&mut self) {
        self.slots
            .iter_mut()
            .for_each(|slot| slot.connection = None);
    }

    pub fn is_any_busy_for(&self, time: Duration) -> bool {
        self.slots
            .iter()
            .any(|slot| slot.busy_since.is_some_and(|since| since.elapsed() >= time))
    }

    /// Whether a batch that is not full may wait for more.
    pub fn may_linger(&self) -> bool {
        !self.closed && self.waiting.len() < self.batch_rows_max
    }

    /// Whether a batch should begin now. Fewer rows than make a second batch wait for one that is
    /// on its way, because its writer takes them next.
    fn is_ready(&self) -> bool {
        let is_back_soon =
            |slot: &Slot| slot.busy_since.is_some_and(|since| since.elapsed() < SOON);
        let is_enough = self.waiting.len() >= self.batch_rows_max.div_ceil(BESIDE_DIVISOR);
        !self.waiting.is_empty() && (is_enough || !self.slots.iter().any(is_back_soon))
    }

    /// Occupies a free slot if a batch should begin now.
    pub fn occupy(&mut self) -> Option<(usize, Option<PgConnection>)> {
        if !self.is_ready() {
            return None;
        }
        let free = self
            .slots
            .iter()
            .position(|slot| slot.busy_since.is_none())?;
        self.slots[free].busy_since = Some(Instant::now());
        Some((free, self.slots[free].connection.take()))
    }

    /// Frees the slot of a writer that ended half-way.
    pub fn free(&mut self, slot: usize) {
        self.slots[slot].busy_since = None;
    }

    /// Whether the slot's writer has more to write. If not, frees the slot under the same lock, so
    /// that the next item finds it free, and keeps the connection in it.
    pub fn goes_on(&mut self, slot: usize, connection: &mut Option<PgConnection>) -> bool {
        self.slots[slot].busy_since = None;
        if !self.is_ready() {
            self.slots[slot].connection = connection.take();
            return false;
        }
        self.slots[slot].busy_since = Some(Instant::now());
        true
    }

    /// Takes the next batch. It is empty if another writer was faster.
    pub fn next_batch(&mut self) -> Vec<Waiting<S>> {
        let (mut rows, mut bytes) = (0, 0);
        let fits = |waiting: &&Waiting<S>| {
            let is_first = rows == 0;
            rows += S::rows(&waiting.item);
            bytes += S::bytes(&waiting.item);
            is_first || (rows <= self.batch_rows_max && bytes <= self.batch_bytes_max)
        };
        let items = self.waiting.iter().take_while(fits).count();
        self.waiting.drain(..items).collect()
    }
}
