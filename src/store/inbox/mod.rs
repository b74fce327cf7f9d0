//! The inbox: the database decides what is new, in the statement that also writes the event and its
//! deliveries. What follows from a key that was not new is not decided here.

mod columns;
mod event;
mod known;
mod record;

pub use super::delivery::{Lessee, NewDelivery};
pub use event::{Guard, NewEvent, NewRow, Original};
pub use known::{SeenKey, StoredEvent, forget_expired, keys_before_until, seen, stored};
pub use record::{batch, record};
