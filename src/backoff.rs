//! Pauses between tries, and the jitter that keeps nodes from trying at the same moment.

use std::time::Duration;

use crate::chance;

/// Pauses that double from the first to the longest.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Begins with `first`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            next: first,
            first,
            longest,
        }
    }

    /// The pause before the next try.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }

    /// Notes that a try succeeded, so the next failure begins with the first pause again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A random time near this one, uniform between `1 - spread` and `1 + spread` of it.
pub fn jittered(time: Duration, spread: f64) -> Duration {
    time.mul_f64(1.0 - spread + 2.0 * spread * chance::fraction())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(1), seconds(5));
        let pauses: Vec<Duration> = (0..5).map(|_| backoff.pause()).collect();
        assert_eq!(pauses, [1, 2, 4, 5, 5].map(seconds));
        backoff.reset();
        assert_eq!(backoff.pause(), seconds(1));
    }

    #[test]
    fn jitter_stays_within_its_spread() {
        for _ in 0..1000 {
            let time = jittered(Duration::from_secs(4), 0.25).as_secs_f64();
            assert!((3.0..=5.0).contains(&time), "{time}");
        }
    }
}
