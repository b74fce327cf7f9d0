//! What waits for a writer, and which writers there are. Nothing here does I/O.

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

/// A batch that is on its way for longer than this is not waited for by another.
pub(super) const SOON: Duration = Duration::from_millis(100);

/// A second batch runs beside the first once `batch_rows_max` divided by this waits. Two halves of
/// a batch cost two commits, and more than the whole.
const BESIDE_DIVISOR: usize = 4;

/// The bounds of a group commit.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rows that may wait.
    pub rows_max: usize,
    /// Bytes that may wait.
    pub bytes_max: usize,
    /// Rows of one statement.
    pub batch_rows_max: usize,
    /// Bytes of one statement. One item is always taken.
    pub batch_bytes_max: usize,
    /// Statements at the same time, each on a connection of its own.
    pub writers: usize,
    /// How long a batch that is not full waits for more.
    pub linger: Duration,
    /// A statement that takes longer has lost its connection.
    pub write_timeout: Duration,
    /// After so many failures in a row a batch is given up.
    pub tries_max: u32,
}

/// An item in the queue.
pub(super) struct Waiting<S: Statement> {
    pub item: S::Item,
    pub answer: Option<oneshot::Sender<Result<S::Answer, CommitError>>>,
    /// Statements that left it undecided.
    pub rounds: u32,
    pub _share: Share,
}

impl<S: Statement> Waiting<S> {
    /// Whether its caller has gone.
    pub fn is_unwanted(&self) -> bool {
        self.answer.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    pub fn answer(self, answer: Result<S::Answer, CommitError>) {
        if let Some(sender) = self.answer {
            // The caller may have gone meanwhile.
            let _ = sender.send(answer);
        }
    }
}

/// How much waits or is being written, in rows and bytes.
pub(super) struct Room {
    rows: AtomicUsize,
    bytes: AtomicUsize,
    rows_max: usize,
    bytes_max: usize,
}

/// An item's part of the room, given back when it is dropped.
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

    /// Takes a part of the room. An empty room has a place for any item, whose own bounds hold it.
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

/// A writer's place: free, with the connection it had, or busy.
#[derive(Default)]
struct Slot {
    connection: Option<PgConnection>,
    /// When its batch began.
    busy_since: Option<Instant>,
}

/// What waits, and who may write it.
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

    /// Whether what waits should be written now. A batch that comes back soon takes it along.
    fn is_ready(&self) -> bool {
        let is_back_soon =
            |slot: &Slot| slot.busy_since.is_some_and(|since| since.elapsed() < SOON);
        let is_enough = self.waiting.len() >= self.batch_rows_max.div_ceil(BESIDE_DIVISOR);
        !self.waiting.is_empty() && (is_enough || !self.slots.iter().any(is_back_soon))
    }

    /// Occupies a free slot if what waits should be written now.
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

    /// Frees a slot, whose writer ended half-way.
    pub fn free(&mut self, slot: usize) {
        self.slots[slot].busy_since = None;
    }

    /// Whether the slot's writer has more to write. If not, its slot is freed under the same lock,
    /// so the next item finds it free, and its connection is kept there.
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
