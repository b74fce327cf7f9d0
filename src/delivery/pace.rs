//! The pace of a destination: how many attempts a second it gets through. It bounds nothing itself.

use std::time::{Duration, Instant};

/// The shortest time that a pace is measured over.
const MEASURED_OVER: Duration = Duration::from_millis(200);

/// Attempts a second, measured over `MEASURED_OVER` at least.
pub struct Pace {
    since: Instant,
    attempted: usize,
    per_second: f64,
}

impl Pace {
    pub fn new() -> Self {
        Self {
            since: Instant::now(),
            attempted: 0,
            per_second: 0.0,
        }
    }

    /// Returns the pace. `attempted`: attempts that have ended since the destination was added.
    pub fn update(&mut self, attempted: usize) -> f64 {
        let elapsed = self.since.elapsed();
        if elapsed >= MEASURED_OVER {
            let ended = attempted.saturating_sub(self.attempted);
            *self = Self {
                since: Instant::now(),
                attempted,
                per_second: ended as f64 / elapsed.as_secs_f64(),
            };
        }
        self.per_second
    }
}
