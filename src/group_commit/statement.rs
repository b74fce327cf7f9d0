//! What a group commit asks of the statement that it writes with.

use std::future::Future;

use sqlx::PgConnection;

use crate::store::Error;

/// A statement that decides many items together.
pub trait Statement: Send + Sync + 'static {
    /// What is written.
    type Item: Send + Sync + 'static;
    /// What the caller of one item gets after the commit.
    type Answer: Send + 'static;

    /// How many rows an item counts as.
    fn rows(_item: &Self::Item) -> usize {
        1
    }

    /// How many bytes an item counts as.
    fn bytes(item: &Self::Item) -> usize;

    /// Decides all items in one statement, or in a few that give the same answers when they are
    /// repeated. An item without an answer goes into the next batch.
    ///
    /// # Errors
    ///
    /// Those of the database. After `Again` the same batch is tried again on the same connection.
    /// After any other error that is not about the items the connection is dropped.
    fn run(
        &self,
        connection: &mut PgConnection,
        items: &[&Self::Item],
    ) -> impl Future<Output = Result<Vec<Option<Self::Answer>>, Error>> + Send;

    /// Called when a connection was dropped. The server behind the next one may not know what this
    /// one wrote, as after a failover.
    fn lost_connection(&self) {}
}

/// Why an item was not decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Nothing of it was written.
    #[error("the queue is full")]
    Busy,
    /// It is not known whether it was written.
    #[error("the database did not decide in time: the same call may be sent again")]
    Unavailable,
    /// Nothing of it was written, and trying again would not help.
    #[error("the database refuses what was sent")]
    Refused,
}
