//! Why a call of the store has no answer.

/// Why a call of one statement, or of a few that belong together, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the call had read was changed before the call was done, as when a key is forgotten
    /// between two statements. The connection is fine, and the same call may be made again.
    #[error("what was read has changed meanwhile")]
    Again,
    /// The server is a standby, or was set to read-only.
    #[error("transactions are read-only here")]
    ReadOnly,
    /// The database refused the statement, or did not answer.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}
