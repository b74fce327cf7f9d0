//! Relays: claim, send, finish. They meet the ingress only in the outbox and in the hand-off.

pub mod destination;
pub mod finisher;
pub mod outcome;
mod pace;
pub mod relays;
pub mod retry;
mod target;
pub mod worker;
