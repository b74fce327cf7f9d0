//! The managed PostgreSQL: finds or installs the binaries, makes a cluster, starts, adopts and
//! stops the server.
//!
//! Real PostgreSQL as a child process with full durability, reachable over a private unix socket
//! alone. Deliberately not here: SQL beyond a readiness probe and `create database`; migrations;
//! and what to print while it works (callers get `Progress` and errors to show).

mod account;
mod cluster;
mod data_dir;
mod error;
mod find;
mod install;
mod postmaster;
mod server;
mod version;
mod watchdog;

pub use data_dir::{DATA_DIR_VARIABLE, default_data_dir};
pub use error::PostgresError;
pub use find::{BINARIES_VARIABLE, Binaries};
pub use install::{Progress, install};
pub use server::{Server, ServerOptions, running_url};
pub use version::{OLDEST_MAJOR, Version};
