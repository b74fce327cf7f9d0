//! Relays: claim, send, finish. Meets the ingress only in the outbox and in the hand-off.

pub mod destination;
pub mod finisher;
pub mod outcome;
pub mod retry;
mod target;
pub mod worker;
