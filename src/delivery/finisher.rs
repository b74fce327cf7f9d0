//! Writes how deliveries ended, in batches after a short linger, each ending fenced by its epoch.
//! How they end is not decided here.

use std::{collections::HashSet, time::Duration};

use sqlx::PgConnection;

use crate::{
    group_commit::{GroupCommit, Options, Statement},
    handoff::LaneSlot,
    meters::Meters,
    store::{
        Error,
        delivery::{self, Finished},
        link::Dialer,
    },
};

/// After this many tries the leases are long over, and the rescuer has given the deliveries back.
const TRIES_MAX: u32 = 60;

/// A finished delivery with its place, which is free again once the ending is written.
pub struct Entry {
    pub finished: Finished,
    pub place: LaneSlot,
}

/// The group commit of endings.
pub struct Finisher(GroupCommit<Endings>);

impl Finisher {
    /// `rows_max`: endings in one statement. `linger`: how long an ending waits for others.
    pub fn new(
        meters: Meters,
        dialer: Dialer,
        rows_max: usize,
        linger: Duration,
        write_timeout: Duration,
    ) -> Self {
        let options = Options {
            name: "endings",
            meters,
            // The places bound the queue: no more entries wait than lanes have rows.
            rows_max: usize::MAX,
            bytes_max: usize::MAX,
            batch_rows_max: rows_max,
            batch_bytes_max: usize::MAX,
            writers: 1,
            linger,
            write_timeout,
            tries_max: TRIES_MAX,
        };
        Self(GroupCommit::new(Endings, dialer, None, options))
    }

    /// Queues an ending to be written.
    pub fn finish(&self, entry: Entry) {
        if self.0.put(entry).is_err() {
            tracing::error!(
                "an ending came after the finisher was closed: the delivery will be made again"
            );
        }
    }

    /// Takes no more endings, and returns when the waiting ones are written.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

struct Endings;

impl Statement for Endings {
    type Item = Entry;
    type Answer = ();

    fn bytes(_: &Entry) -> usize {
        0
    }

    async fn run(
        &self,
        connection: &mut PgConnection,
        batch: &[&Entry],
    ) -> Result<Vec<Option<()>>, Error> {
        let finished: Vec<&Finished> = batch.iter().map(|entry| &entry.finished).collect();
        let done: HashSet<_> = delivery::finish(connection, &finished)
            .await?
            .into_iter()
            .collect();
        let stale: Vec<_> = finished
            .iter()
            .map(|row| row.id.0)
            .filter(|id| !done.contains(id))
            .collect();
        if !stale.is_empty() {
            tracing::warn!(stale = stale.len(), ids = ?stale, "completions refused: their leases were lost");
        }
        Ok(vec![Some(()); batch.len()])
    }
}
