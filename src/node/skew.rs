//! How far this node's clock is off the database's, as last measured. The log and `/readyz` say it;
//! it stops nothing.

use std::time::{Duration, Instant};

use crate::readiness::Skew;

/// While the clock is too far off, this is logged again after this time.
const SAID_EVERY: Duration = Duration::from_secs(3600);

/// What is to be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Nothing,
    /// The clock is too far off, since now or still.
    Over,
    Ended,
}

/// Decides what is logged of each measurement.
#[derive(Debug)]
pub struct SkewWatch {
    max_ms: i64,
    said_at: Option<Instant>,
}

impl SkewWatch {
    pub fn new(max: Duration) -> Self {
        Self {
            max_ms: i64::try_from(max.as_millis()).unwrap_or(i64::MAX),
            said_at: None,
        }
    }

    /// Takes a measurement. `uncertainty` is half the round trip. The report begins when the clock
    /// is certainly too far off, and ends when it certainly is not.
    pub fn note(
        &mut self,
        skew: &Skew,
        offset_ms: i64,
        uncertainty: Duration,
        now: Instant,
    ) -> Said {
        let uncertainty_ms = i64::try_from(uncertainty.as_millis()).unwrap_or(i64::MAX);
        let off_ms = offset_ms.saturating_abs();
        let was_over = self.said_at.is_some();
        let is_over = if was_over {
            off_ms.saturating_add(uncertainty_ms) > self.max_ms
        } else {
            off_ms.saturating_sub(uncertainty_ms) > self.max_ms
        };
        skew.set(offset_ms, is_over);
        match (is_over, self.said_at) {
            (true, Some(said_at)) if now.saturating_duration_since(said_at) < SAID_EVERY => {
                Said::Nothing
            }
            (true, _) => {
                self.said_at = Some(now);
                Said::Over
            }
            (false, Some(_)) => {
                self.said_at = None;
                Said::Ended
            }
            (false, None) => Said::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_far_off_is_said_when_it_begins_and_ends_and_once_an_hour() {
        let (skew, mut watch, start) = (
            Skew::default(),
            SkewWatch::new(Duration::from_secs(5)),
            Instant::now(),
        );
        let mut note = |offset_ms, uncertainty_ms, seconds| {
            let said = watch.note(
                &skew,
                offset_ms,
                Duration::from_millis(uncertainty_ms),
                start + Duration::from_secs(seconds),
            );
            (said, skew.over_ms())
        };
        assert_eq!(note(5000, 0, 0), (Said::Nothing, None));
        assert_eq!(
            note(5300, 400, 1),
            (Said::Nothing, None),
            "it may be the round trip"
        );
        assert_eq!(note(-5300, 200, 2), (Said::Over, Some(-5300)));
        assert_eq!(note(-9000, 200, 3), (Said::Nothing, Some(-9000)));
        assert_eq!(
            note(-4900, 200, 4),
            (Said::Nothing, Some(-4900)),
            "it may be over yet"
        );
        assert_eq!(note(-9000, 200, 3601), (Said::Nothing, Some(-9000)));
        assert_eq!(note(-9000, 200, 3602), (Said::Over, Some(-9000)));
        assert_eq!(note(20, 200, 3603), (Said::Ended, None));
        assert_eq!(note(i64::MAX, 0, 3604), (Said::Over, Some(i64::MAX)));
        assert_eq!(skew.offset_ms(), Some(i64::MAX));
    }
}
