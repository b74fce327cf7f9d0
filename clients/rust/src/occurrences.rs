//! Which occurrence of a tool call comes next in a run, as this process has counted.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

/// Which occurrences of each call this process has in use or behind it.
pub(crate) type Occurrences = Arc<Mutex<HashMap<String, Numbers>>>;

#[derive(Default)]
pub(crate) struct Numbers {
    last: u32,
    /// Numbers whose call has come to no end.
    open: BTreeSet<u32>,
}

impl Numbers {
    fn take(&mut self) -> u32 {
        self.open.pop_first().unwrap_or_else(|| {
            self.last += 1;
            self.last
        })
    }
}

/// An occurrence in use. If its call comes to no end, the next call is the same occurrence.
pub(crate) struct Taken {
    occurrences: Occurrences,
    name: String,
    pub number: u32,
    pub has_ended: bool,
}

impl Taken {
    pub fn of(occurrences: &Occurrences, name: &str) -> Self {
        let mut all = occurrences.lock().unwrap_or_else(PoisonError::into_inner);
        let number = all.entry(name.to_owned()).or_default().take();
        Self {
            occurrences: occurrences.clone(),
            name: name.to_owned(),
            number,
            has_ended: false,
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let mut all = self
            .occurrences
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(numbers) = all.get_mut(&self.name) {
            numbers.open.insert(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_whose_call_came_to_no_end_is_the_next_ones() {
        let all = Occurrences::default();
        let take = || Taken::of(&all, "call:a");
        let (mut first, second) = (take(), take());
        assert_eq!((first.number, second.number), (1, 2));
        first.has_ended = true;
        drop((first, second));
        let (again, third) = (take(), take());
        assert_eq!((again.number, third.number), (2, 3));
        assert_eq!(Taken::of(&all, "call:b").number, 1);
    }
}
