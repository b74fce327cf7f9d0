//! The loop of both group commits, `recorder`'s and `batcher`'s: a batch is written until the database takes it or nobody waits any longer. What
//! the database refuses is found by halving, so that one row does not take the others with it.

use std::{future::Future, time::Duration};

use crate::store::link::within;

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_CAP: Duration = Duration::from_secs(2);

/// A writer with its connection.
pub trait Commits {
    type Waiting: Send + Sync;
    /// What a statement said of each.
    type Answers: Send;

    /// Nobody waits for its answer.
    fn is_gone(waiting: &Self::Waiting) -> bool;

    /// How long a statement may take.
    fn limit(&self) -> Duration;

    /// One statement. Its repeat gives the same answers.
    fn statement(&mut self, part: &[Self::Waiting]) -> impl Future<Output = Result<Self::Answers, sqlx::Error>> + Send;

    /// Answers what was decided, and gives back what has to be asked again.
    fn answer(part: Vec<Self::Waiting>, answers: Self::Answers) -> Vec<Self::Waiting>;

    /// The database refuses this very one.
    fn refuse(waiting: Self::Waiting);

    /// The next statement is to have a new connection.
    fn disconnect(&mut self);
}

pub async fn write<C: Commits + Send>(writer: &mut C, batch: Vec<C::Waiting>) {
    let mut parts = vec![batch];
    let mut delay = RETRY_FIRST;
    while let Some(mut part) = parts.pop() {
        part.retain(|waiting| !C::is_gone(waiting));
        if part.is_empty() {
            continue;
        }
        match within(writer.limit(), writer.statement(&part)).await {
            Ok(answers) => {
                parts.push(C::answer(part, answers));
                delay = RETRY_FIRST;
            }
            Err(error) if is_refusal(&error) && part.len() > 1 => {
                let half = part.split_off(part.len() / 2);
                parts.extend([half, part]);
            }
            Err(error) if is_refusal(&error) => {
                tracing::error!(%error, "the database refuses a row");
                part.into_iter().for_each(C::refuse);
            }
            Err(error) => {
                tracing::warn!(%error, rows = part.len(), delay_ms = delay.as_millis(), "a batch was not written and is tried again");
                writer.disconnect();
                parts.push(part);
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(RETRY_CAP);
            }
        }
    }
}

/// Whether the database refuses the data itself: then trying again is no use, and another row may be at fault. Class 21: two rows of one statement
/// that may not come together.
fn is_refusal(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| matches!(&code[..2], "21" | "22" | "23" | "54")),
        sqlx::Error::Encode(_) => true,
        _ => false,
    }
}
