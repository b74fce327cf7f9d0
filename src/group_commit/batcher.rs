//! Group commit for calls that are one row each: they queue here, a few writers take what waits and decide it in one statement, and each is
//! answered after the commit. As `recorder` does for events, without what only events need. Bounded in rows and bytes.

use std::{
    future::Future,
    sync::{Arc, RwLock},
    time::Duration,
};

use sqlx::{Connection as _, PgConnection};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    group_commit::commits::{self, Commits},
    store::link::Dialer,
};

/// Statements that leave the same call undecided; each means that others changed its row meanwhile.
const ROUNDS_MAX: u32 = 64;

/// What is decided together.
pub trait Statement: Clone + Send + Sync + 'static {
    type Item: Send + Sync + 'static;
    type Answer: Send + 'static;

    fn bytes(item: &Self::Item) -> usize;

    /// Decides all in one statement, whose repeat gives the same answers. None: to be asked again.
    fn run(
        &self,
        connection: &mut PgConnection,
        items: &[&Self::Item],
    ) -> impl Future<Output = Result<Vec<Option<Self::Answer>>, sqlx::Error>> + Send;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("the queue is full")]
    Busy,
    #[error("the database did not decide in time: the same call may be sent again")]
    Unavailable,
    #[error("the database refuses what was sent")]
    Refused,
}

#[derive(Clone, Debug)]
pub struct BatcherOptions {
    pub rows_max: usize,
    pub bytes_max: usize,
    pub batch_rows_max: usize,
    pub writers: usize,
    pub timeout: Duration,
    /// A statement that takes longer has lost its connection.
    pub write_timeout: Duration,
}

struct Waiting<S: Statement> {
    item: S::Item,
    rounds: u32,
    answer: oneshot::Sender<Result<S::Answer, BatchError>>,
    _bytes: OwnedSemaphorePermit,
}

/// The callers' side.
pub struct Batcher<S: Statement> {
    sender: RwLock<Option<mpsc::Sender<Waiting<S>>>>,
    bytes: Arc<Semaphore>,
    timeout: Duration,
}

impl<S: Statement> Batcher<S> {
    /// Starts the writers; they end, all answered, after `close`. Connections are opened when there is something to write.
    pub fn start(statement: &S, dialer: &Dialer, options: &BatcherOptions) -> (Self, Vec<JoinHandle<()>>) {
        let (sender, receiver) = mpsc::channel(options.rows_max);
        let receiver = Arc::new(Mutex::new(receiver));
        let writers = (0..options.writers.max(1))
            .map(|_| {
                let writer = Writer {
                    statement: statement.clone(),
                    receiver: receiver.clone(),
                    dialer: dialer.clone(),
                    write_timeout: options.write_timeout,
                    connection: None,
                    rows_max: options.batch_rows_max,
                };
                tokio::spawn(writer.run())
            })
            .collect();
        let bytes = Arc::new(Semaphore::new(options.bytes_max.min(Semaphore::MAX_PERMITS)));
        (Self { sender: RwLock::new(Some(sender)), bytes, timeout: options.timeout }, writers)
    }

    /// No more calls: the writers decide what waits and end.
    pub fn close(&self) {
        if let Ok(mut sender) = self.sender.write() {
            *sender = None;
        }
    }

    /// Has a call decided. One whose caller went away before it was written is not written.
    pub async fn decide(&self, item: S::Item) -> Result<S::Answer, BatchError> {
        let bytes = u32::try_from(S::bytes(&item)).map_err(|_| BatchError::Busy)?;
        let permit = self.bytes.clone().try_acquire_many_owned(bytes).map_err(|_| BatchError::Busy)?;
        let (answer, receiver) = oneshot::channel();
        {
            let sender = self.sender.read().map_err(|_| BatchError::Unavailable)?;
            let sender = sender.as_ref().ok_or(BatchError::Unavailable)?;
            sender.try_send(Waiting { item, rounds: 0, answer, _bytes: permit }).map_err(|_| BatchError::Busy)?;
        }
        match tokio::time::timeout(self.timeout, receiver).await {
            Ok(Ok(answer)) => answer,
            _ => Err(BatchError::Unavailable),
        }
    }
}

struct Writer<S: Statement> {
    statement: S,
    receiver: Arc<Mutex<mpsc::Receiver<Waiting<S>>>>,
    dialer: Dialer,
    write_timeout: Duration,
    connection: Option<PgConnection>,
    rows_max: usize,
}

impl<S: Statement> Writer<S> {
    async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            commits::write(&mut self, batch).await;
        }
        if let Some(connection) = self.connection.take() {
            let _ = connection.close().await;
        }
    }

    /// What waits now, at least one; None when no more can come.
    async fn next_batch(&self) -> Option<Vec<Waiting<S>>> {
        let mut receiver = self.receiver.lock().await;
        let mut batch = vec![receiver.recv().await?];
        while batch.len() < self.rows_max {
            let Ok(next) = receiver.try_recv() else { break };
            batch.push(next);
        }
        Some(batch)
    }
}

impl<S: Statement> Commits for Writer<S> {
    type Waiting = Waiting<S>;
    type Answers = Vec<Option<S::Answer>>;

    fn is_gone(waiting: &Waiting<S>) -> bool {
        waiting.answer.is_closed()
    }

    fn limit(&self) -> Duration {
        self.write_timeout
    }

    async fn statement(&mut self, part: &[Waiting<S>]) -> Result<Self::Answers, sqlx::Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.dialer.connect().await?),
        };
        let items: Vec<&S::Item> = part.iter().map(|waiting| &waiting.item).collect();
        self.statement.run(connection, &items).await
    }

    fn answer(part: Vec<Waiting<S>>, answers: Self::Answers) -> Vec<Waiting<S>> {
        let mut rest = Vec::new();
        for (mut waiting, answer) in part.into_iter().zip(answers) {
            waiting.rounds += 1;
            match answer {
                Some(answer) => drop(waiting.answer.send(Ok(answer))),
                None if waiting.rounds < ROUNDS_MAX => rest.push(waiting),
                None => drop(waiting.answer.send(Err(BatchError::Unavailable))),
            }
        }
        rest
    }

    fn refuse(waiting: Waiting<S>) {
        drop(waiting.answer.send(Err(BatchError::Refused)));
    }

    fn disconnect(&mut self) {
        self.connection = None;
    }
}
