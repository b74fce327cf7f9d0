//! Background roles, one a file. Each is a loop that any number of nodes may run at once.

pub mod pruner;
pub mod rescuer;
