//! The intake: it verifies requests, decides what makes two of them one event, and records what is
//! new. It knows no HTTP server: `http::public` hands it requests and turns its results into
//! answers.

pub(crate) mod explain;
pub mod keyring;
pub(crate) mod learning;
mod outcomes;
pub(crate) mod receiver;
mod recent;
pub(crate) mod recorder;
mod recording;
pub(crate) mod rejections;
mod rewritten;
pub(crate) mod sources;

pub use self::outcomes::Recorded;
