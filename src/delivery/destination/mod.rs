//! The kinds of destinations, one file each.

pub mod http;
