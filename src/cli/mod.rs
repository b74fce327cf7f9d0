//! The commands, one a file: arguments in, exit code out.

pub mod sample;
pub mod verify;
