//! All SQL, and nothing else: each function is one statement, or a few that need no transaction.
//! Who calls a function, and how often, is not decided here.

mod batches;
pub(crate) mod conflict;
pub(crate) mod counts;
pub(crate) mod dedup;
pub mod delivery;
pub(crate) mod destination;
pub(crate) mod emitted;
mod error;
pub(crate) mod gauges;
pub mod inbox;
pub(crate) mod indexes;
pub(crate) mod learnt;
pub mod ledger;
pub mod link;
pub(crate) mod replay;
pub mod retention;
pub mod schema;
pub(crate) mod search;
pub(crate) mod step;
pub(crate) mod terms;
pub mod tls;
pub(crate) mod token;
mod words;

pub use error::Error;
