//! Signs as providers do, from the data that verifies, for senders' tools and for tests. Also signs
//! as the relay does, by Standard Webhooks.

pub(crate) mod draft;
mod put;
pub(crate) mod replace;
pub(crate) mod sample;
pub(crate) mod samples;
pub(crate) mod secret;
pub(crate) mod sender;
pub mod standard;
mod token;
