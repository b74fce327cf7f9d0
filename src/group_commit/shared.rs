//! What a group commit and its writers share.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    queue::{Options, Queue},
    statement::Statement,
};
use crate::store::link::Dialer;

pub(super) struct Shared<S: Statement> {
    pub statement: S,
    pub options: Options,
    pub dialer: Dialer,
    queue: Mutex<Queue<S>>,
    /// When a batch last failed, unless one has succeeded since.
    failed_at: Mutex<Option<Instant>>,
}

impl<S: Statement> Shared<S> {
    pub fn new(statement: S, dialer: Dialer, options: Options) -> Self {
        let queue = Mutex::new(Queue::new(&options));
        Self {
            statement,
            options,
            dialer,
            queue,
            failed_at: Mutex::default(),
        }
    }

    /// A panic of another thread does no harm, because nothing is left half-done under the lock.
    pub fn queue(&self) -> MutexGuard<'_, Queue<S>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note_failure(&self) {
        *self.failed_at() = Some(Instant::now());
    }

    pub fn note_success(&self) {
        *self.failed_at() = None;
    }

    pub fn has_failed_within(&self, time: Duration) -> bool {
        self.failed_at().is_some_and(|at| at.elapsed() < time)
    }

    fn failed_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.failed_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
