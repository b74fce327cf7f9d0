//! Why a call of the store has no answer.

/// What ended a call of one statement, or of a few that belong together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the call had read was changed before it was done: a key was forgotten between two of
    /// its statements. Nothing is wrong with the connection, and the same call may be made again.
    #[error("what was read has changed meanwhile")]
    Again,
    /// The server writes nothing: it is a standby, or was set to.
    #[error("transactions are read-only here")]
    ReadOnly,
    /// The database refused the statement, or did not answer.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}
