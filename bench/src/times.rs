//! When each numbered event came to some point, written by one thread and read by others.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::load::histogram;

pub struct Times {
    begin: Instant,
    /// Nanoseconds since `begin`, 0 for never.
    at: Vec<AtomicU64>,
    count: AtomicU64,
    again: AtomicU64,
    keep: Keep,
}

/// Which time counts for an event that came more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    First,
    Last,
}

impl Times {
    pub fn new(begin: Instant, events: usize, keep: Keep) -> Self {
        let at = std::iter::repeat_with(|| AtomicU64::new(0))
            .take(events)
            .collect();
        Self {
            begin,
            at,
            count: AtomicU64::new(0),
            again: AtomicU64::new(0),
            keep,
        }
    }

    pub fn set(&self, number: usize, now: Instant) {
        let Some(slot) = self.at.get(number) else {
            return;
        };
        let nanos = u64::try_from(now.duration_since(self.begin).as_nanos())
            .unwrap_or(u64::MAX)
            .max(1);
        if slot
            .compare_exchange(0, nanos, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
        {
            self.count.fetch_add(1, Ordering::Relaxed);
        } else {
            self.again.fetch_add(1, Ordering::Relaxed);
            if self.keep == Keep::Last {
                slot.store(nanos, Ordering::Relaxed);
            }
        }
    }

    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// How often an event came once more.
    pub fn again(&self) -> u64 {
        self.again.load(Ordering::Relaxed)
    }

    pub fn get(&self, number: usize) -> Option<Duration> {
        let nanos = self.at.get(number)?.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// How many came between two times after the beginning.
    pub fn within(&self, from: Duration, to: Duration) -> u64 {
        let (from, to) = (from.as_nanos() as u64, to.as_nanos() as u64);
        self.at
            .iter()
            .map(|slot| slot.load(Ordering::Relaxed))
            .filter(|nanos| *nanos > 0 && (from..to).contains(nanos))
            .count() as u64
    }

    /// From these times to the later ones, in µs, for the events that have both and whose first
    /// time is in the stretch.
    pub fn to(&self, later: &Self, from: Duration, to: Duration) -> Histogram<u64> {
        let mut latencies = histogram();
        for number in 0..self.at.len() {
            if let (Some(first), Some(second)) = (self.get(number), later.get(number))
                && (from..to).contains(&first)
            {
                let micros =
                    u64::try_from(second.saturating_sub(first).as_micros()).unwrap_or(u64::MAX);
                latencies.saturating_record(micros.max(1));
            }
        }
        latencies
    }
}
