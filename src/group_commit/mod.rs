//! Group commit: items that wait together are written by one statement, and each caller is answered
//! after the commit. The queue is bounded in rows and bytes; an item beyond that is refused as
//! `Busy`. The statement itself belongs to its owner: the intake's recorder, the ledger, or the
//! relay's finisher.

mod queue;
mod shared;
mod statement;
mod writer;

use std::{
    sync::{Arc, MutexGuard},
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::oneshot};
use tokio_util::task::TaskTracker;

pub use self::{
    queue::Options,
    statement::{CommitError, Statement},
};
use self::{
    queue::{Queue, Room, SOON, Waiting},
    shared::Shared,
    writer::Writer,
};
use crate::store::link::Dialer;

/// A node is not ready while a batch has been on its way for longer than this.
const STUCK: Duration = Duration::from_millis(1500);

/// The queue of one statement, and its writers. A writer is a task: it starts when an item waits
/// and ends when none does.
pub struct GroupCommit<S: Statement> {
    shared: Arc<Shared<S>>,
    room: Arc<Room>,
    /// The runtime of the writers; None takes the runtime of whoever enqueues the first item. On
    /// the thread that reads requests, neither the statement nor its answer has to wake another
    /// thread.
    runtime: Option<Handle>,
    writing: TaskTracker,
}

impl<S: Statement> GroupCommit<S> {
    /// Opens no connection: the first writer does that.
    pub fn new(statement: S, dialer: Dialer, runtime: Option<Handle>, options: Options) -> Self {
        let room = Arc::new(Room::new(options.rows_max, options.bytes_max));
        let shared = Arc::new(Shared::new(statement, dialer, options));
        Self {
            shared,
            room,
            runtime,
            writing: TaskTracker::new(),
        }
    }

    /// The statement that writes the items.
    pub fn statement(&self) -> &S {
        &self.shared.statement
    }

    /// Refuses new items, and returns when those that wait are written and answered.
    pub async fn close(&self) {
        self.shared.queue().close();
        self.writing.close();
        self.writing.wait().await;
        self.shared.queue().disconnect();
    }

    /// Whether the database does not take batches: the last one failed just now, or one has been on
    /// its way for longer than `STUCK`.
    pub fn is_stuck(&self) -> bool {
        self.shared.has_failed_within(STUCK) || self.shared.queue().is_any_busy_for(STUCK)
    }

    /// Writes an item and returns its answer within `budget`. An item whose caller goes away while
    /// it waits is not written.
    ///
    /// # Errors
    ///
    /// `Busy` if the queue is full, `Unavailable` if the database did not commit in time, `Refused`
    /// if it refuses this very item.
    pub async fn decide(&self, item: S::Item, budget: Duration) -> Result<S::Answer, CommitError> {
        let (answer, mut receiver) = oneshot::channel();
        self.enqueue(item, Some(answer))?;
        let soon = SOON.min(budget);
        let answered = match tokio::time::timeout(soon, &mut receiver).await {
            Ok(answered) => answered,
            Err(_) => {
                // The batch ahead is late, so this item looks whether another may begin beside it.
                self.start_writer(self.shared.queue());
                let late = tokio::time::timeout(budget - soon, receiver).await;
                late.map_err(|_| CommitError::Unavailable)?
            }
        };
        answered.unwrap_or(Err(CommitError::Unavailable))
    }

    /// Enqueues an item whose answer nobody waits for.
    ///
    /// # Errors
    ///
    /// `Busy` if the queue is full, `Unavailable` once it is closed.
    pub fn put(&self, item: S::Item) -> Result<(), CommitError> {
        self.enqueue(item, None)
    }

    fn enqueue(
        &self,
        item: S::Item,
        answer: Option<oneshot::Sender<Result<S::Answer, CommitError>>>,
    ) -> Result<(), CommitError> {
        let share = Room::share(&self.room, S::rows(&item), S::bytes(&item))?;
        let mut queue = self.shared.queue();
        queue.push(Waiting {
            item,
            answer,
            since: Instant::now(),
            rounds: 0,
            _share: share,
        })?;
        self.start_writer(queue);
        Ok(())
    }

    /// Starts a writer if a slot is free and the queue is ready to be written.
    fn start_writer(&self, mut queue: MutexGuard<'_, Queue<S>>) {
        let Some((slot, connection)) = queue.occupy() else {
            return;
        };
        drop(queue);
        let run = self
            .writing
            .track_future(Writer::new(self.shared.clone(), slot, connection).run());
        match &self.runtime {
            Some(runtime) => drop(runtime.spawn(run)),
            None => drop(tokio::spawn(run)),
        }
    }
}
