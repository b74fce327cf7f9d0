//! Ids of what is stored: UUIDv7 of the database's time, carried on by a clock that nobody sets.
//! Lists and partitions go by ids: those of a node whose own clock has leapt would stand above all
//! others until that time comes. One source for the process, so that ids rise.

use std::{
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use uuid::{ContextV7, Timestamp, Uuid};

use crate::{chance, clock::Clock};

/// A time that is earlier than the last id's by no more than this is waited out under that id's
/// time: ids rise though the clock was corrected a bit.
const BACK_MAX_MS: i64 = 1000;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
static IDS: Mutex<Ids> = Mutex::new(Ids::new());

/// A new id.
pub fn new() -> Uuid {
    with(|ids, since_start_ms| {
        let now = ids.unix_ms(since_start_ms);
        ids.next(now)
    })
}

/// The time of ids in unix milliseconds, none of which is later: the database's; until it was asked
/// for the first time, this node's.
pub fn unix_ms() -> i64 {
    with(|ids, since_start_ms| {
        let now = ids.unix_ms(since_start_ms);
        ids.advance(now)
    })
}

/// A new id of this time (unix milliseconds), for what is stored nowhere: it need not follow the
/// database's time, nor rise within a millisecond.
pub fn of_time(unix_ms: i64) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(unix_ms).unwrap_or(0), &chance::bytes())
        .into_uuid()
}

/// Takes the database's time as it was at that moment, give or take.
pub fn follow(database_unix_ms: i64, at: Instant, uncertainty: Duration) {
    with(|ids, _| {
        ids.follow(
            database_unix_ms,
            milliseconds(at.saturating_duration_since(*STARTED)),
            milliseconds(uncertainty),
        )
    });
}

fn with<T>(call: impl FnOnce(&mut Ids, i64) -> T) -> T {
    let since_start_ms = milliseconds(STARTED.elapsed());
    call(
        &mut IDS.lock().unwrap_or_else(PoisonError::into_inner),
        since_start_ms,
    )
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

struct Ids {
    /// The database's unix time less the time since the start.
    offset_ms: Option<i64>,
    context: ContextV7,
    last_ms: i64,
}

impl Ids {
    const fn new() -> Self {
        Self {
            offset_ms: None,
            context: ContextV7::new(),
            last_ms: 0,
        }
    }

    fn unix_ms(&self, since_start_ms: i64) -> i64 {
        self.offset_ms.map_or_else(
            || Clock::System.unix_ms(),
            |offset_ms| since_start_ms.saturating_add(offset_ms),
        )
    }

    /// What was known stays where the measurement does not contradict it: else each round trip
    /// would move the time a little.
    fn follow(&mut self, database_unix_ms: i64, since_start_ms: i64, uncertainty_ms: i64) {
        let measured = database_unix_ms.saturating_sub(since_start_ms);
        if self.offset_ms.is_none_or(|offset_ms| {
            offset_ms.abs_diff(measured) > uncertainty_ms.unsigned_abs() + 1
        }) {
            self.offset_ms = Some(measured);
        }
    }

    fn advance(&mut self, unix_ms: i64) -> i64 {
        if unix_ms < self.last_ms.saturating_sub(BACK_MAX_MS) {
            // It keeps to the latest time that it has seen, and would for as long as the clock was
            // ahead.
            self.context = ContextV7::new();
            self.last_ms = unix_ms;
        }
        self.last_ms = self.last_ms.max(unix_ms);
        self.last_ms
    }

    fn next(&mut self, unix_ms: i64) -> Uuid {
        let ms = u64::try_from(self.advance(unix_ms)).unwrap_or(0);
        let nanoseconds = u32::try_from(ms % 1000).unwrap_or(0) * 1_000_000;
        Uuid::new_v7(Timestamp::from_unix(&self.context, ms / 1000, nanoseconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::id_floor;

    const NOW: i64 = 1_700_000_000_000;
    const YEAR: i64 = 365 * 86_400_000;

    fn is_of(id: Uuid, ms: i64) -> bool {
        let ms = u64::try_from(ms).unwrap();
        id >= id_floor(ms) && id < id_floor(ms + 1)
    }

    #[test]
    fn an_id_of_a_time_is_a_uuid_of_version_7_within_its_millisecond() {
        let id = of_time(NOW);
        assert!(id.get_version_num() == 7 && is_of(id, NOW), "{id}");
    }

    #[test]
    fn ids_rise_also_within_a_millisecond_and_over_small_corrections() {
        let mut ids = Ids::new();
        let made: Vec<Uuid> = [NOW, NOW, NOW + 5, NOW + 1, NOW - 900, NOW + 5, NOW + 6]
            .map(|ms| ids.next(ms))
            .to_vec();
        assert!(made.is_sorted_by(|a, b| a < b), "{made:?}");
        assert!(made.iter().all(|id| id.get_version_num() == 7));
    }

    #[test]
    fn a_clock_that_was_set_back_is_followed() {
        let mut ids = Ids::new();
        assert!(is_of(ids.next(NOW + YEAR), NOW + YEAR));
        let (mended, next) = (ids.next(NOW), ids.next(NOW + 1));
        assert!(
            is_of(mended, NOW) && is_of(next, NOW + 1),
            "{mended} {next}"
        );
        assert!(mended < next);
    }

    #[test]
    fn the_databases_time_is_followed_and_not_each_round_trip() {
        let mut ids = Ids::new();
        assert!((ids.unix_ms(0) - Clock::System.unix_ms()).abs() < 10_000);
        ids.follow(NOW, 1000, 500);
        assert_eq!(ids.unix_ms(1250), NOW + 250);
        // 4 ms off, by a measurement that may be 10 ms off.
        ids.follow(NOW + 504, 1500, 10);
        assert_eq!(ids.unix_ms(1500), NOW + 500);
        ids.follow(NOW + 504, 1500, 1);
        assert_eq!(ids.unix_ms(1500), NOW + 504);
        // Another server answers, whose clock is behind.
        ids.follow(NOW - YEAR, 2000, 1);
        assert_eq!(ids.unix_ms(2000), NOW - YEAR);
    }
}
