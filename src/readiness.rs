//! Whether this node takes requests, and how far its clock is off. `node::probe` keeps both
//! current, and every port reports them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

/// Whether this node takes requests: its database answers and it is not stopping. A background task
/// keeps this current.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<State>);

#[derive(Debug, Default)]
struct State {
    ready: AtomicBool,
    skew: Skew,
}

impl Readiness {
    pub fn set(&self, ready: bool) {
        self.0.ready.store(ready, Ordering::Relaxed);
    }

    pub fn get(&self) -> bool {
        self.0.ready.load(Ordering::Relaxed)
    }

    /// How far the clock is off the database's. A wrong clock does not make the node unready, so it
    /// is reported separately.
    pub fn skew(&self) -> &Skew {
        &self.0.skew
    }
}

const NOT_MEASURED: i64 = i64::MIN;

/// The latest measurement of the clock's offset.
#[derive(Debug)]
pub struct Skew {
    offset_ms: AtomicI64,
    is_over: AtomicBool,
}

impl Default for Skew {
    fn default() -> Self {
        Self {
            offset_ms: AtomicI64::new(NOT_MEASURED),
            is_over: AtomicBool::default(),
        }
    }
}

impl Skew {
    /// This node's time minus the database's, in milliseconds; None until it was measured.
    pub fn offset_ms(&self) -> Option<i64> {
        Some(self.offset_ms.load(Ordering::Relaxed)).filter(|offset_ms| *offset_ms != NOT_MEASURED)
    }

    /// Notes a measurement, and whether it exceeds what is allowed.
    pub fn set(&self, offset_ms: i64, is_over: bool) {
        self.offset_ms
            .store(offset_ms.max(NOT_MEASURED + 1), Ordering::Relaxed);
        self.is_over.store(is_over, Ordering::Relaxed);
    }

    /// The offset, if it exceeds what is allowed.
    pub fn over_ms(&self) -> Option<i64> {
        self.offset_ms()
            .filter(|_| self.is_over.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_known() {
        let skew = Skew::default();
        assert_eq!((skew.offset_ms(), skew.over_ms()), (None, None));
        skew.set(i64::MIN, true);
        assert_eq!(skew.over_ms(), Some(i64::MIN + 1));
    }
}
