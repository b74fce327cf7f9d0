//! A node: how it is built from its parts, starts, stops and reloads, and what it needs around it:
//! ports, data folder, database.

pub mod application;
pub(crate) mod data_dir;
pub(crate) mod database;
mod learner;
mod listener;
mod probe;
pub(crate) mod schemes;
mod server;
mod shared;
mod skew;
