//! Deliveries: every change of one is a statement of this folder. The search and the lists only
//! read them; the worker decides what is sent when.
//!
//! A delivery is open (a row of `outbox`, pending or leased) or ended (a row of `delivery_ended`),
//! never both: each move between the two tables is one statement.
//!
//! | What happens | From → to | Epoch | Attempts | Where |
//! |---|---|---|---|---|
//! | born due | → pending | 0 | 0 | `born`, with its event; `replay` |
//! | born leased | → leased | 1 | 0 | `born`, with its event |
//! | claimed | pending → leased | + 1 | as before | `claim` |
//! | finished | leased → delivered or dead | as leased | + 1 | `finish` |
//! | to be tried again | leased → pending | as leased | + 1 | `finish` |
//! | released | leased → pending | as leased | as before | `finish` |
//! | rescued | leased → pending | as leased | as before | `rescue` |
//! | retried by hand | ended → pending | + 1 | 0 | `by_hand` |
//! | cancelled | pending or leased → cancelled | + 1 | as before | `by_hand` |
//! | pruned | ended → gone | | | `retention`, by day; `prune` |
//!
//! The epoch is the fence. Whoever finishes a delivery gives the epoch that it was leased under,
//! and that counts only while the row is still leased under this epoch: a claim raises it, and
//! after a release or a rescue the row is no longer leased. `tests/outbox_model.rs` tries this in
//! every order.

mod born;
mod by_hand;
mod claim;
mod finish;
mod prune;
mod replay;
mod rescue;

pub(super) use born::DeliveryColumns;
pub use born::{Lessee, NewDelivery};
pub use by_hand::{cancel, retry};
pub use claim::claim;
pub use finish::{Attempt, Finish, Finished, finish};
pub(super) use prune::is_open_between;
pub use replay::{NextPage, ReplayDelivery, advance};
pub use rescue::rescue;
