//! Types that were left out of a source's events because they are not valid names. All are counted,
//! and the log reports them at a bounded rate.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often the log reports one for the same source.
const SAID_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct DroppedTypes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    total: u64,
    unsaid: u64,
    said_at: Option<Instant>,
}

impl DroppedTypes {
    /// How many there were since the start.
    pub fn total(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    pub fn note(&self, source: &str, why: &'static str) {
        if let Some(count) = self.count(Instant::now()) {
            tracing::warn!(
                source,
                why,
                count,
                "an event's type was left out: only routes that take every event take it. A type is at most 255 bytes without control characters"
            );
        }
    }

    /// How many there were since the last report, if another one is due now.
    fn count(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.total += 1;
        state.unsaid += 1;
        if state
            .said_at
            .is_some_and(|said_at| now.saturating_duration_since(said_at) < SAID_EVERY)
        {
            return None;
        }
        state.said_at = Some(now);
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_others_once_a_minute() {
        let (dropped, start) = (DroppedTypes::default(), Instant::now());
        let said: Vec<Option<u64>> = [0, 1, 59, 60, 61, 200]
            .map(|second| dropped.count(start + Duration::from_secs(second)))
            .to_vec();
        assert_eq!(said, [Some(1), None, None, Some(3), None, Some(2)]);
        assert_eq!(dropped.total(), 6);
    }
}
