//! A scheme, compiled: every string of it is read once, and every mistake is told with its key. It
//! knows what must hold for a request and how that is found, but not whether a signature is right.

pub(crate) mod bind;
pub(crate) mod catalog;
pub(crate) mod challenge;
pub(crate) mod compiled;
pub(crate) mod coverage;
pub(crate) mod doubts;
pub(crate) mod identity;
pub(crate) mod ignored;
pub(crate) mod items;
pub(crate) mod overrides;
mod signing;
pub(crate) mod time;
