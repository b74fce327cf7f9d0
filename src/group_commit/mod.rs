//! Group commit: what waits together is written by one statement.

pub mod batcher;
pub mod commits;
