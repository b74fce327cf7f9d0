//! The second group commit: how deliveries ended is written in batches, after a short linger, fenced by their epochs.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::{
    handoff::Place,
    store::{
        link::Db,
        outbox::{self, Finished},
    },
};

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_CAP: Duration = Duration::from_secs(2);
/// Past this many tries the leases are long over and the rescuer has given the deliveries back.
const TRIES_MAX: u32 = 60;

/// A finished delivery, with its place, which is free again once this is written.
pub struct Entry {
    pub finished: Finished,
    pub place: Place,
}

#[derive(Clone)]
pub struct Finisher {
    sender: mpsc::UnboundedSender<Entry>,
}

impl Finisher {
    /// Starts it; the task ends, all written, when every clone is dropped.
    pub fn start(pool: Db, rows_max: usize, linger: Duration) -> (Self, tokio::task::JoinHandle<()>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let task = tokio::spawn(run(pool, receiver, rows_max, linger));
        (Self { sender }, task)
    }

    /// Bounded by the places: no more entries wait than lanes have rows.
    pub fn finish(&self, entry: Entry) {
        let _ = self.sender.send(entry);
    }
}

async fn run(pool: Db, mut receiver: mpsc::UnboundedReceiver<Entry>, rows_max: usize, linger: Duration) {
    let mut batch: Vec<Entry> = Vec::new();
    while receiver.recv_many(&mut batch, rows_max).await > 0 {
        if batch.len() < rows_max {
            tokio::time::sleep(linger).await;
            while batch.len() < rows_max
                && let Ok(entry) = receiver.try_recv()
            {
                batch.push(entry);
            }
        }
        let (finished, places): (Vec<Finished>, Vec<Place>) = batch.drain(..).map(|entry| (entry.finished, entry.place)).unzip();
        write(&pool, &finished).await;
        drop(places);
    }
}

async fn write(pool: &Db, finished: &[Finished]) {
    let mut delay = RETRY_FIRST;
    for _ in 0..TRIES_MAX {
        match outbox::finish(pool, finished).await {
            Ok(done) => {
                let stale = finished.len() - done.len();
                if stale > 0 {
                    let ids: Vec<_> = finished.iter().map(|row| row.id).filter(|id| !done.contains(id)).collect();
                    tracing::warn!(stale, ?ids, "completions refused: their leases were lost");
                }
                return;
            }
            Err(error) => {
                tracing::warn!(%error, rows = finished.len(), delay_ms = delay.as_millis(), "completions were not written and are tried again");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(RETRY_CAP);
            }
        }
    }
    tracing::error!(rows = finished.len(), "completions are given up: the deliveries will be made again when their leases end");
}
