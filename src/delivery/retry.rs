//! When a failed delivery is tried again. Pure: chance and age are parameters.

use std::time::Duration;

use crate::settings::{Retry, RetryOverride};

/// The schedule of a destination's attempts.
#[derive(Clone, Debug)]
pub struct Schedule(Retry);

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    After(Duration),
    /// The budget of attempts or of age is used up.
    Dead,
}

impl Schedule {
    pub fn new(defaults: &Retry, own: Option<&RetryOverride>) -> Self {
        let own = own.cloned().unwrap_or_default();
        Self(Retry {
            base: own.base.unwrap_or(defaults.base),
            factor: own.factor.unwrap_or(defaults.factor),
            cap: own.cap.unwrap_or(defaults.cap),
            attempts_max: own.attempts_max.unwrap_or(defaults.attempts_max),
            age_max: own.age_max.unwrap_or(defaults.age_max),
            schedule: own.schedule.or_else(|| defaults.schedule.clone()),
            retry_after_max: own.retry_after_max.unwrap_or(defaults.retry_after_max),
        })
    }

    /// What follows attempt `number` (from 1) of a delivery of this age. `chance` is uniform, from
    /// 0 to below 1, and gives full jitter over the exponential step. An explicit list of delays is
    /// kept as written. A handler's Retry-After can only lengthen the delay, up to its cap.
    pub fn next(
        &self,
        number: u32,
        age: Duration,
        retry_after: Option<Duration>,
        chance: f64,
    ) -> Next {
        let Retry {
            base,
            factor,
            cap,
            attempts_max,
            age_max,
            schedule,
            retry_after_max,
        } = &self.0;
        let step = number.saturating_sub(1);
        let delay = match schedule {
            Some(schedule) => match schedule.get(step as usize) {
                Some(delay) => delay.0,
                None => return Next::Dead,
            },
            None if number >= *attempts_max => return Next::Dead,
            None => {
                let ceiling = (base.as_secs_f64() * factor.powi(step.min(1_000) as i32))
                    .min(cap.as_secs_f64());
                Duration::try_from_secs_f64(ceiling * chance).unwrap_or(cap.0)
            }
        };
        if age >= age_max.0 {
            return Next::Dead;
        }
        Next::After(delay.max(retry_after.unwrap_or_default().min(retry_after_max.0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::Period;

    fn defaults() -> Retry {
        let seconds = |seconds| Period(Duration::from_secs(seconds));
        Retry {
            base: seconds(1),
            factor: 2.0,
            cap: seconds(3600),
            attempts_max: 20,
            age_max: seconds(3 * 86_400),
            schedule: None,
            retry_after_max: seconds(3600),
        }
    }

    #[test]
    fn the_step_doubles_up_to_the_cap() {
        let schedule = Schedule::new(&defaults(), None);
        for (number, seconds) in [
            (1, 0.5),
            (2, 1.0),
            (3, 2.0),
            (12, 1024.0),
            (13, 1800.0),
            (19, 1800.0),
        ] {
            assert_eq!(
                schedule.next(number, Duration::ZERO, None, 0.5),
                Next::After(Duration::from_secs_f64(seconds)),
                "{number}"
            );
        }
        assert_eq!(schedule.next(20, Duration::ZERO, None, 0.5), Next::Dead);
    }

    #[test]
    fn an_old_delivery_is_dead() {
        assert_eq!(
            Schedule::new(&defaults(), None).next(1, Duration::from_secs(3 * 86_400), None, 0.5),
            Next::Dead
        );
    }

    #[test]
    fn retry_after_lengthens_up_to_its_cap_and_never_shortens() {
        let schedule = Schedule::new(&defaults(), None);
        let after = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(
            schedule.next(1, Duration::ZERO, after(30), 0.9),
            Next::After(Duration::from_secs(30))
        );
        assert_eq!(
            schedule.next(1, Duration::ZERO, after(1_000_000), 0.9),
            Next::After(Duration::from_secs(3600))
        );
        assert_eq!(
            schedule.next(12, Duration::ZERO, after(1), 0.5),
            Next::After(Duration::from_secs(1024))
        );
    }

    #[test]
    fn an_explicit_list_is_followed_to_its_end() {
        let list = ["5s", "5m"]
            .map(|period| period.parse().expect("a period"))
            .to_vec();
        let schedule = Schedule::new(
            &defaults(),
            Some(&RetryOverride {
                schedule: Some(list),
                ..Default::default()
            }),
        );
        assert_eq!(
            schedule.next(1, Duration::ZERO, None, 0.1),
            Next::After(Duration::from_secs(5))
        );
        assert_eq!(
            schedule.next(2, Duration::ZERO, None, 0.1),
            Next::After(Duration::from_secs(300))
        );
        assert_eq!(schedule.next(3, Duration::ZERO, None, 0.1), Next::Dead);
    }

    proptest! {
        #[test]
        fn a_delay_never_passes_the_larger_cap(number in 0u32..5_000, age in 0u64..400_000, after in proptest::option::of(0u64..u64::MAX), chance in 0.0f64..1.0) {
            match Schedule::new(&defaults(), None).next(number, Duration::from_secs(age), after.map(Duration::from_secs), chance) {
                Next::After(delay) => {
                    prop_assert!(delay <= Duration::from_secs(3600));
                    prop_assert!(number < 20 && age < 3 * 86_400);
                }
                Next::Dead => prop_assert!(number >= 20 || age >= 3 * 86_400),
            }
        }
    }
}
