//! All SQL, and nothing else: each function is one statement, or a few that need no transaction.
//! Who calls a function, and how often, is not decided here.

mod batches;
pub mod conflict;
pub mod dedup;
pub mod delivery;
pub mod destination;
mod error;
pub mod inbox;
pub mod learnt;
pub mod ledger;
pub mod link;
pub mod replay;
pub mod retention;
pub mod schema;
pub mod search;
pub mod step;
pub mod tls;
pub mod token;
mod words;

pub use error::Error;
