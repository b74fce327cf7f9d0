//! Replays that were counted: a count is remembered for a while, and counts for one replay of the very
//! same filter.

use std::time::{Duration, Instant};

/// How long a count may be relied on.
const COUNTED_FOR: Duration = Duration::from_secs(15 * 60);
/// Counts that are remembered; the oldest go first.
const COUNTED_MAX: usize = 32;

/// The filters that were counted and not yet replayed, oldest first.
#[derive(Debug, Default)]
pub struct DryRuns(Vec<Counted>);

#[derive(Clone, Debug)]
pub struct Counted {
    pub filter: String,
    pub deliveries: i64,
    pub at: Instant,
}

impl DryRuns {
    pub fn note(&mut self, counted: Counted) {
        self.0.retain(|known| known.filter != counted.filter);
        if self.0.len() >= COUNTED_MAX {
            self.0.remove(0);
        }
        self.0.push(counted);
    }

    /// The count of this filter, which from now on counts for nothing more.
    pub fn take(&mut self, filter: &str, now: Instant) -> Option<Counted> {
        self.0
            .retain(|known| now.saturating_duration_since(known.at) < COUNTED_FOR);
        let at = self.0.iter().position(|known| known.filter == filter)?;
        Some(self.0.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(filter: &str, at: Instant) -> Counted {
        Counted {
            filter: filter.into(),
            deliveries: 1,
            at,
        }
    }

    #[test]
    fn a_count_is_good_for_one_replay_and_for_a_while() {
        let (mut runs, now) = (DryRuns::default(), Instant::now());
        runs.note(counted("a", now));
        runs.note(counted("a", now));
        assert!(runs.take("b", now).is_none());
        assert!(runs.take("a", now).is_some());
        assert!(runs.take("a", now).is_none());
        runs.note(counted("a", now));
        assert!(runs.take("a", now + COUNTED_FOR).is_none());
        for n in 0..=COUNTED_MAX {
            runs.note(counted(&n.to_string(), now));
        }
        assert!(runs.take("0", now).is_none());
        assert!(runs.take("1", now).is_some());
    }
}
