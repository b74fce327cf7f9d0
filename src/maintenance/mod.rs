//! Background roles, one a file. Each is a loop that any number of nodes may run at once; none
//! serves a request.

pub mod counting;
pub mod emitter;
pub mod pruner;
pub mod rescuer;
