//! The intake: it verifies requests, decides what makes two of them one event, and records what is
//! new. It knows no HTTP server: `http::public` hands it requests and turns its results into
//! answers.

pub mod dropped_types;
pub mod explain;
pub mod keyring;
pub mod learning;
mod outcomes;
pub mod receiver;
mod recent;
pub mod recorder;
mod recording;
pub mod rejections;
mod rewritten;
pub mod sources;

pub use self::outcomes::Recorded;
