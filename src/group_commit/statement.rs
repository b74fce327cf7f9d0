//! What a group commit asks of the statement that it writes with.

use std::future::Future;

use sqlx::PgConnection;

use crate::store::Error;

/// Decides items together.
pub trait Statement: Send + Sync + 'static {
    /// What is written.
    type Item: Send + Sync + 'static;
    /// What is said of one item after the commit.
    type Answer: Send + 'static;

    /// Rows that an item is counted as.
    fn rows(_item: &Self::Item) -> usize {
        1
    }

    /// Bytes that an item is counted as.
    fn bytes(item: &Self::Item) -> usize;

    /// Decides all items in one statement, or in a few whose repeat gives the same answers. An item
    /// without an answer is asked again with the next batch.
    ///
    /// # Errors
    ///
    /// Those of the database. After one that is not about the items the connection is dropped; not
    /// after `Again`, which has the same batch tried again.
    fn run(
        &self,
        connection: &mut PgConnection,
        items: &[&Self::Item],
    ) -> impl Future<Output = Result<Vec<Option<Self::Answer>>, Error>> + Send;

    /// A connection was dropped. Who answers the next one may not know what this one wrote.
    fn lost_connection(&self) {}
}

/// Why an item was not decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Nothing of it was written.
    #[error("the queue is full")]
    Busy,
    /// Whether it was written is not known.
    #[error("the database did not decide in time: the same call may be sent again")]
    Unavailable,
    /// Nothing of it was written, and trying again is no use.
    #[error("the database refuses what was sent")]
    Refused,
}
