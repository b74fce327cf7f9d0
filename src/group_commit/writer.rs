//! A writer: it sends one statement at a time until nothing waits. A batch that failed is tried
//! again on another connection. A batch that the database refuses is halved until the item at fault
//! stands alone, so that the others are written.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::PgConnection;

use super::{
    queue::Waiting,
    shared::Shared,
    statement::{CommitError, Statement},
};
use crate::{
    backoff::Backoff,
    store::{Error, link::within},
};

const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LONGEST: Duration = Duration::from_secs(2);
/// How many statements may leave the same item undecided. Each one does so only because others
/// changed the item's row meanwhile.
const ROUNDS_MAX: u32 = 64;

pub(super) struct Writer<S: Statement> {
    shared: Arc<Shared<S>>,
    connection: Option<PgConnection>,
    /// None once the slot is given back.
    slot: Option<usize>,
}

impl<S: Statement> Drop for Writer<S> {
    /// Frees the slot of a writer that ended half-way, as when its runtime stops, so that another
    /// may write in its place.
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.shared.queue().free(slot);
        }
    }
}

impl<S: Statement> Writer<S> {
    pub fn new(shared: Arc<Shared<S>>, slot: usize, connection: Option<PgConnection>) -> Self {
        Self {
            shared,
            connection,
            slot: Some(slot),
        }
    }

    pub async fn run(mut self) {
        while let Some(slot) = self.slot {
            self.linger().await;
            let batch = self.shared.queue().next_batch();
            self.write(batch).await;
            if !self.shared.queue().goes_on(slot, &mut self.connection) {
                self.slot = None;
            }
        }
    }

    /// Waits for a batch that is not full to grow.
    async fn linger(&self) {
        let linger = self.shared.options.linger;
        if !linger.is_zero() && self.shared.queue().may_linger() {
            tokio::time::sleep(linger).await;
        }
    }

    async fn write(&mut self, batch: Vec<Waiting<S>>) {
        let mut parts = vec![batch];
        let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LONGEST);
        let mut failures = 0;
        while let Some(mut part) = parts.pop() {
            part.retain(|waiting| !waiting.is_unwanted());
            if part.is_empty() {
                continue;
            }
            let began = Instant::now();
            match within(self.shared.options.write_timeout, self.statement(&part)).await {
                Ok(answers) => {
                    self.shared.note_success();
                    self.count(&part, began);
                    parts.push(answer(part, answers));
                    backoff.reset();
                    failures = 0;
                }
                Err(Error::Again) => {
                    tracing::debug!(
                        rows = part.len(),
                        "rows changed under a batch, which is tried again"
                    );
                    parts.push(part);
                    tokio::time::sleep(backoff.pause()).await;
                }
                Err(error) if is_refusal(&error) && part.len() > 1 => {
                    let half = part.split_off(part.len() / 2);
                    parts.extend([half, part]);
                }
                Err(error) if is_refusal(&error) => {
                    tracing::error!(%error, "the database refuses a row");
                    part.into_iter()
                        .for_each(|waiting| waiting.answer(Err(CommitError::Refused)));
                }
                Err(error) => {
                    failures += 1;
                    self.disconnect();
                    let (rows, pause) = (part.len(), backoff.pause());
                    if failures >= self.shared.options.tries_max {
                        tracing::error!(%error, rows, failures, "a batch is given up");
                        part.into_iter()
                            .for_each(|waiting| waiting.answer(Err(CommitError::Unavailable)));
                        continue;
                    }
                    let delay_ms = pause.as_millis();
                    tracing::warn!(%error, rows, delay_ms, "a batch was not written and is tried again");
                    parts.push(part);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn statement(&mut self, part: &[Waiting<S>]) -> Result<Vec<Option<S::Answer>>, Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.shared.dialer.connect().await?),
        };
        let items: Vec<&S::Item> = part.iter().map(|waiting| &waiting.item).collect();
        self.shared.statement.run(connection, &items).await
    }

    /// Counts a statement that wrote this part of a batch.
    fn count(&self, part: &[Waiting<S>], began: Instant) {
        let rows = part.iter().map(|waiting| S::rows(&waiting.item)).sum();
        let waited = part
            .first()
            .map_or(Duration::ZERO, |first| began.duration_since(first.since));
        let options = &self.shared.options;
        options
            .meters
            .batch(options.name, rows, waited, began.elapsed());
    }

    fn disconnect(&mut self) {
        self.connection = None;
        self.shared.note_failure();
        self.shared.statement.lost_connection();
    }
}

/// Answers the items that were decided, and returns those that have to be asked again.
fn answer<S: Statement>(part: Vec<Waiting<S>>, answers: Vec<Option<S::Answer>>) -> Vec<Waiting<S>> {
    let mut undecided = Vec::new();
    for (mut waiting, answer) in part.into_iter().zip(answers) {
        waiting.rounds += 1;
        match answer {
            Some(answer) => waiting.answer(Ok(answer)),
            None if waiting.rounds < ROUNDS_MAX => undecided.push(waiting),
            None => waiting.answer(Err(CommitError::Unavailable)),
        }
    }
    undecided
}

/// Whether the database refuses the data itself. Then trying again would not help, and only one
/// item of the batch may be at fault. Of PostgreSQL's error classes (appendix A of its manual), 21
/// is two rows of one statement that contradict each other, 22 a value, 23 a constraint, 54 a
/// limit.
fn is_refusal(error: &Error) -> bool {
    let Error::Database(error) = error else {
        return false;
    };
    match error {
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| matches!(&code[..2], "21" | "22" | "23" | "54")),
        sqlx::Error::Encode(_) => true,
        _ => false,
    }
}
