//! Where a step is, and in which order the rows of several are locked.

use std::sync::Arc;

use crate::event::Key;

/// Where a step is. `key` is made from tenant and run (`event::run_key`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepAddress {
    pub key: Key,
    pub step: Arc<str>,
}

/// The index of the first item of each place, in the order in which rows are locked everywhere.
pub fn firsts<T>(items: &[T], place: impl Fn(&T) -> &StepAddress) -> Vec<usize> {
    let mut indexes: Vec<usize> = (0..items.len()).collect();
    indexes.sort_by_key(|index| (place(&items[*index]), *index));
    indexes.dedup_by_key(|index| place(&items[*index]));
    indexes
}
