//! The calls that wait for a step that another executes. They hold no connection: one task asks the
//! database for all of them, and an event in this process wakes them at once. A wake is only a
//! hint, so the woken call asks again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::jittered,
    store::{
        ledger::{self, StepAddress},
        link::Db,
    },
};

/// How many steps one statement asks for.
const CHUNK_STEPS: usize = 1000;

struct Room {
    notify: Arc<Notify>,
    waiting: usize,
}

type Rooms = HashMap<StepAddress, Room>;

pub struct Waiters {
    rooms: Mutex<Rooms>,
    /// How many wait in all rooms. It changes only while `rooms` is held.
    waiting: watch::Sender<usize>,
    waiting_max: usize,
}

/// A seat among those who wait for a step. Dropping it gives it back.
pub struct Seat<'a> {
    waiters: &'a Waiters,
    place: StepAddress,
    notify: Arc<Notify>,
}

impl Seat<'_> {
    /// A future that listens from the time when it is enabled or first polled.
    pub fn woken(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut rooms = self.waiters.rooms();
        if let Some(room) = rooms.get_mut(&self.place) {
            room.waiting -= 1;
            if room.waiting == 0 {
                rooms.remove(&self.place);
            }
        }
        self.waiters.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

impl Waiters {
    pub fn new(waiting_max: usize) -> Self {
        Self {
            rooms: Mutex::default(),
            waiting: watch::Sender::default(),
            waiting_max,
        }
    }

    /// How many calls wait.
    pub fn waiting(&self) -> watch::Receiver<usize> {
        self.waiting.subscribe()
    }

    fn rooms(&self) -> std::sync::MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a seat, or None if too many wait already.
    pub fn enter(&self, place: &StepAddress) -> Option<Seat<'_>> {
        let mut rooms = self.rooms();
        if *self.waiting.borrow() >= self.waiting_max {
            return None;
        }
        self.waiting.send_modify(|waiting| *waiting += 1);
        let room = rooms.entry(place.clone()).or_insert_with(|| Room {
            notify: Arc::default(),
            waiting: 0,
        });
        room.waiting += 1;
        Some(Seat {
            waiters: self,
            place: place.clone(),
            notify: room.notify.clone(),
        })
    }

    pub fn wake(&self, place: &StepAddress) {
        if let Some(room) = self.rooms().get(place) {
            room.notify.notify_waiters();
        }
    }

    fn places(&self) -> Vec<StepAddress> {
        self.rooms().keys().cloned().collect()
    }

    /// Asks the database for all steps that are waited for, once each interval. A waiter that
    /// arrives during a poll is covered by the next one.
    pub async fn poll_until_stopped(
        self: Arc<Self>,
        pool: Db,
        interval: Duration,
        stopping: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(jittered(interval, 0.25)) => {}
            }
            for places in self.places().chunks(CHUNK_STEPS) {
                let keys: Vec<_> = places.iter().map(|place| place.key).collect();
                let steps: Vec<&str> = places.iter().map(|place| &*place.step).collect();
                match ledger::settled(&pool, &keys, &steps).await {
                    Ok(settled) => settled.iter().for_each(|place| self.wake(place)),
                    Err(error) => {
                        tracing::warn!(%error, "steps that are waited for could not be looked up")
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(step: &str) -> StepAddress {
        StepAddress {
            key: crate::event::Key(uuid::Uuid::nil()),
            step: step.into(),
        }
    }

    #[tokio::test]
    async fn seats_are_bounded_woken_together_and_given_back() {
        let waiters = Waiters::new(2);
        let (a, b) = (
            waiters.enter(&place("s")).unwrap(),
            waiters.enter(&place("s")).unwrap(),
        );
        assert!(waiters.enter(&place("t")).is_none());
        {
            let (first, second) = (a.woken(), b.woken());
            tokio::pin!(first, second);
            assert!(!first.as_mut().enable() && !second.as_mut().enable());
            waiters.wake(&place("s"));
            first.await;
            second.await;
        }
        drop((a, b));
        assert!(waiters.places().is_empty());
        assert!(waiters.enter(&place("t")).is_some());
    }
}
