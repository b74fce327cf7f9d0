//! The step ledger: who may execute a step, and what came of it. One statement decides a claim;
//! whoever extends or ends one gives its fence and changes nothing where that has moved. Only the
//! database's time counts. What an answer looks like is not decided here.

mod claim;
mod complete;
mod emit;
mod fenced;
mod hold;
mod place;
mod resolve;
mod settled;

pub use claim::{Claim, Claimed, NewClaim, claim};
pub use complete::{Completion, complete};
pub use emit::Emitted;
pub use fenced::Fenced;
pub use hold::{give_up, heartbeat, release};
pub use place::Place;
pub use resolve::{Resolution, resolve};
pub use settled::settled;
