//! The ids of stored things: UUIDv7 of the database's time, which the node carries on by its
//! monotonic clock. Lists and partitions are ordered by id. The ids of a node whose own clock had
//! leapt ahead would stand above all others until that time came. The process has one generator, so
//! that its ids rise.

use std::{
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use time::OffsetDateTime;
use uuid::{ContextV7, Timestamp, Uuid};

use crate::{chance, clock::Clock};

/// If the time falls back by no more than this, ids keep the last id's time until it has passed. So
/// ids rise although the clock was corrected a little.
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

/// The time of the ids made now, in unix milliseconds; no id so far has a later one. It is the
/// database's time, or this node's until the database was first asked.
pub fn unix_ms() -> i64 {
    with(|ids, since_start_ms| {
        let now = ids.unix_ms(since_start_ms);
        ids.advance(now)
    })
}

/// A new id of this time (unix milliseconds), for things that are not stored. It follows neither
/// the database's time nor the order within a millisecond.
pub fn of_time(unix_ms: i64) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(unix_ms).unwrap_or(0), &chance::bytes())
        .into_uuid()
}

/// The time that an id was made for. None if it is no UUIDv7.
pub fn time_of(id: Uuid) -> Option<OffsetDateTime> {
    let (seconds, nanoseconds) = id.get_timestamp()?.to_unix();
    let at = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
    at.replace_nanosecond(nanoseconds).ok()
}

/// Takes over the database's time as it was at that moment, known to within `uncertainty`.
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
    /// The database's unix time minus the time since this process started.
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

    /// Keeps the known offset if the measurement does not contradict it. Otherwise each round trip
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
            // A used context keeps to the latest time that it has seen, for as long as the clock
            // had been ahead. So it is replaced.
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
        // The measurement differs by 4 ms, but may itself be wrong by 10 ms.
        ids.follow(NOW + 504, 1500, 10);
        assert_eq!(ids.unix_ms(1500), NOW + 500);
        ids.follow(NOW + 504, 1500, 1);
        assert_eq!(ids.unix_ms(1500), NOW + 504);
        // Another server answers, and its clock is behind.
        ids.follow(NOW - YEAR, 2000, 1);
        assert_eq!(ids.unix_ms(2000), NOW - YEAR);
    }
}
