//! The step ledger: who may execute a step, and how it ended. One statement decides a claim.
//! Whoever extends or ends a claim gives its fence, and changes nothing if that has moved. Only the
//! database's time counts. What an answer looks like is not decided here.

mod claim;
mod complete;
mod emit;
mod fenced;
mod hold;
mod lost;
mod place;
mod resolve;
mod settled;

pub use claim::{Claim, Claimed, NewClaim, claim};
pub use complete::{Completion, complete};
pub use emit::{EMITTED_HEADERS, Emitted};
pub use fenced::Fenced;
pub use hold::{Abandoned, Abandonment, Beat, abandon, heartbeat, release};
pub use lost::{LostStep, become_unknown, lost};
pub use place::StepAddress;
pub use resolve::{Resolution, Resolved, resolve};
pub use settled::settled;
