//! The clock, passed as a parameter so that tests can hold it. Leases and schedules do not use it,
//! because they go by the database's time.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use time::OffsetDateTime;

/// Wall-clock time for signatures and ids.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    #[default]
    System,
    /// Unix milliseconds that a test sets.
    Fixed(Arc<AtomicI64>),
}

impl Clock {
    pub fn fixed(unix_ms: i64) -> Self {
        Self::Fixed(Arc::new(AtomicI64::new(unix_ms)))
    }

    /// The time in UTC.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn utc(&self) -> OffsetDateTime {
        match self {
            Self::System => OffsetDateTime::now_utc(),
            Self::Fixed(ms) => {
                OffsetDateTime::UNIX_EPOCH
                    + time::Duration::milliseconds(ms.load(Ordering::Relaxed))
            }
        }
    }

    /// Unix time in milliseconds.
    pub fn unix_ms(&self) -> i64 {
        match self {
            Self::System => self.utc().unix_timestamp_nanos().div_euclid(1_000_000) as i64,
            Self::Fixed(ms) => ms.load(Ordering::Relaxed),
        }
    }
}
