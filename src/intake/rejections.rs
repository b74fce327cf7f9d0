//! The rejection log: what was refused lately and why, for the person who has to mend it. It lives
//! in this process alone, because nothing unverified is written to the database. Number, bytes and
//! age are bounded. Of a flood a sample is kept, and all are counted.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use uuid::Uuid;

use crate::{contract::RejectionCount, event::BodyDigest, settings::Rejections as Settings};

/// Bytes of headers that are kept of one request. A head that was read at all rarely has half as
/// many.
const HEADER_BYTES_MAX: usize = 16 << 10;
const TARGET_BYTES_MAX: usize = 2048;

/// The part of a body that was kept.
#[derive(Clone, Debug)]
pub struct KeptBody {
    pub bytes: usize,
    pub digest: BodyDigest,
    /// Its first bytes, which are the whole body if there are `bytes` of them.
    pub prefix: Bytes,
}

impl KeptBody {
    /// The whole body, if it was short enough to be kept.
    pub fn whole(&self) -> Option<&Bytes> {
        (self.prefix.len() == self.bytes).then_some(&self.prefix)
    }
}

/// One refused request.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// UUIDv7 of the time of the refusal.
    pub id: Uuid,
    pub at_unix_ms: i64,
    /// None if the path names no source.
    pub source: Option<Arc<str>>,
    pub reason: &'static str,
    pub detail: String,
    pub method: String,
    /// Path and query, up to a cap.
    pub target: String,
    /// The headers as they came. Code that shows them masks what is secret.
    pub headers: Vec<(String, Vec<u8>)>,
    /// None if the body was not read to its end.
    pub body: Option<KeptBody>,
}

impl Rejected {
    fn size(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 48)
            .sum();
        size_of::<Self>()
            + headers
            + self.detail.len()
            + self.target.len()
            + self.body.as_ref().map_or(0, |body| body.prefix.len())
    }
}

/// A refused request as the face has it.
pub struct Refused<'a> {
    pub at_unix_ms: i64,
    pub source: Option<&'a Arc<str>>,
    pub reason: &'static str,
    pub detail: &'a str,
    pub method: &'a str,
    pub target: &'a str,
    pub headers: &'a mut dyn Iterator<Item = (&'a str, &'a [u8])>,
    pub body: Option<&'a Bytes>,
}

type Kind = (Option<Arc<str>>, &'static str);

#[derive(Default)]
struct Log {
    kept: VecDeque<Arc<Rejected>>,
    bytes: usize,
    kinds: BTreeMap<Kind, Counted>,
}

/// Refusals of one kind.
struct Counted {
    count: u64,
    /// Decides how many are kept in a minute; None keeps none.
    sample: Option<DefaultDirectRateLimiter>,
}

/// Which rejections to list, newest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter<'a> {
    pub source: Option<&'a str>,
    pub reason: Option<&'a str>,
    /// The range of ids: from `from` on, and below `below`.
    pub from: Option<Uuid>,
    pub below: Option<Uuid>,
}

/// The log. The public port writes it and the admin API reads it.
pub struct Rejections {
    settings: Settings,
    log: Mutex<Log>,
}

impl Rejections {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            log: Mutex::default(),
        }
    }

    /// Counts a refusal, and keeps it unless many of its kind came lately. Returns the id of a
    /// refusal that was kept.
    pub fn write(&self, refused: Refused<'_>) -> Option<Uuid> {
        if !self.count((refused.source.cloned(), refused.reason)) {
            return None;
        }
        let rejected = Arc::new(kept(refused, self.settings.body_prefix_max.bytes()));
        let id = rejected.id;
        let mut log = self.lock();
        log.bytes += rejected.size();
        log.kept.push_back(rejected);
        while log.kept.len() > self.settings.rows_max || log.bytes > self.settings.bytes_max.bytes()
        {
            forget_oldest(&mut log);
        }
        Some(id)
    }

    /// Counts a refusal, and says whether it belongs to the sample.
    fn count(&self, kind: Kind) -> bool {
        let per_minute = self.settings.kept_per_minute;
        let sample = || {
            NonZeroU32::new(per_minute)
                .map(|per_minute| RateLimiter::direct(Quota::per_minute(per_minute)))
        };
        let mut log = self.lock();
        let counted = log.kinds.entry(kind).or_insert_with(|| Counted {
            count: 0,
            sample: sample(),
        });
        counted.count += 1;
        counted
            .sample
            .as_ref()
            .is_some_and(|sample| sample.check().is_ok())
    }

    /// At most `limit` rejections, newest first. Those past their age are dropped here, because
    /// only a reader could see them.
    pub fn list(&self, filter: Filter<'_>, limit: usize, now_unix_ms: i64) -> Vec<Arc<Rejected>> {
        let matches = |rejected: &&Arc<Rejected>| {
            filter
                .source
                .is_none_or(|source| rejected.source.as_deref() == Some(source))
                && filter.reason.is_none_or(|reason| rejected.reason == reason)
                && filter.from.is_none_or(|from| rejected.id >= from)
                && filter.below.is_none_or(|below| rejected.id < below)
        };
        let mut log = self.lock();
        self.forget_old(&mut log, now_unix_ms);
        log.kept
            .iter()
            .rev()
            .filter(matches)
            .take(limit)
            .cloned()
            .collect()
    }

    pub fn get(&self, id: Uuid, now_unix_ms: i64) -> Option<Arc<Rejected>> {
        let mut log = self.lock();
        self.forget_old(&mut log, now_unix_ms);
        log.kept.iter().find(|rejected| rejected.id == id).cloned()
    }

    pub fn counts(&self) -> Vec<RejectionCount> {
        let count = |((source, reason), counted): (&Kind, &Counted)| RejectionCount {
            source: source.as_deref().map(str::to_owned),
            reason: (*reason).into(),
            count: counted.count,
        };
        self.lock().kinds.iter().map(count).collect()
    }

    fn forget_old(&self, log: &mut Log, now_unix_ms: i64) {
        let oldest = now_unix_ms
            .saturating_sub(i64::try_from(self.settings.age_max.0.as_millis()).unwrap_or(i64::MAX));
        while log
            .kept
            .front()
            .is_some_and(|rejected| rejected.at_unix_ms < oldest)
        {
            forget_oldest(log);
        }
    }

    /// A panic of another thread does no harm, because the log is plain data.
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget_oldest(log: &mut Log) {
    if let Some(rejected) = log.kept.pop_front() {
        log.bytes -= rejected.size();
    }
}

fn kept(refused: Refused<'_>, prefix_max: usize) -> Rejected {
    let mut room = HEADER_BYTES_MAX;
    let mut headers = Vec::new();
    for (name, value) in refused.headers {
        let Some(rest) = room.checked_sub(name.len() + value.len()) else {
            break;
        };
        room = rest;
        headers.push((name.to_owned(), value.to_vec()));
    }
    let target_end = refused.target.floor_char_boundary(TARGET_BYTES_MAX);
    Rejected {
        id: crate::ids::of_time(refused.at_unix_ms),
        at_unix_ms: refused.at_unix_ms,
        source: refused.source.cloned(),
        reason: refused.reason,
        detail: refused.detail.to_owned(),
        method: refused.method.to_owned(),
        target: refused.target[..target_end].to_owned(),
        headers,
        // The prefix is copied, because a slice would keep the whole body alive.
        body: refused.body.map(|body| KeptBody {
            bytes: body.len(),
            digest: BodyDigest::of(body),
            prefix: Bytes::copy_from_slice(&body[..body.len().min(prefix_max)]),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::{ByteSize, Period};

    fn log(rows_max: usize, bytes_max: u64, kept_per_minute: u32) -> Rejections {
        let age_max = Period(Duration::from_secs(60));
        Rejections::new(Settings {
            rows_max,
            bytes_max: ByteSize(bytes_max),
            age_max,
            body_prefix_max: ByteSize(8),
            kept_per_minute,
        })
    }

    fn refuse(
        log: &Rejections,
        source: &str,
        reason: &'static str,
        at_unix_ms: i64,
        body: Option<&Bytes>,
    ) {
        let headers = [("x-signature", &b"abc"[..])];
        let (source, headers) = (source.into(), &mut headers.iter().copied());
        log.write(Refused {
            at_unix_ms,
            source: Some(&source),
            reason,
            detail: "d",
            method: "POST",
            target: "/hooks/x",
            headers,
            body,
        });
    }

    #[test]
    fn the_newest_come_first_and_filters_hold() {
        let log = log(10, 1 << 20, 60);
        refuse(&log, "stripe", "no_match", 1000, None);
        refuse(&log, "github", "no_match", 2000, None);
        refuse(&log, "stripe", "timestamp_too_old", 3000, None);
        let all = log.list(Filter::default(), 10, 3000);
        assert_eq!(
            all.iter()
                .map(|rejected| rejected.at_unix_ms)
                .collect::<Vec<_>>(),
            [3000, 2000, 1000]
        );
        assert_eq!(
            log.list(
                Filter {
                    source: Some("stripe"),
                    ..Filter::default()
                },
                10,
                3000
            )
            .len(),
            2
        );
        assert_eq!(
            log.list(
                Filter {
                    reason: Some("no_match"),
                    ..Filter::default()
                },
                1,
                3000
            )[0]
            .at_unix_ms,
            2000
        );
        assert_eq!(
            log.list(
                Filter {
                    below: Some(all[0].id),
                    from: Some(all[1].id),
                    ..Filter::default()
                },
                10,
                3000
            )
            .len(),
            1
        );
        assert_eq!(
            log.get(all[1].id, 3000).map(|rejected| rejected.at_unix_ms),
            Some(2000)
        );
    }

    #[test]
    fn number_bytes_and_age_are_bounded() {
        let small = log(2, 1 << 20, 60);
        (0..5).for_each(|at| refuse(&small, "s", "no_match", at, None));
        assert_eq!(small.list(Filter::default(), 10, 5).len(), 2);
        assert_eq!(
            small
                .list(Filter::default(), 10, 60_003)
                .iter()
                .map(|rejected| rejected.at_unix_ms)
                .collect::<Vec<_>>(),
            [4, 3]
        );
        assert_eq!(small.list(Filter::default(), 10, 60_004).len(), 1);
        let tight = log(100, 1200, 60);
        (0..50).for_each(|at| refuse(&tight, "s", "no_match", at, None));
        let left = tight.list(Filter::default(), 100, 50).len();
        assert!(left > 0 && left < 10, "{left}");
        assert!(tight.lock().bytes <= 1200);
    }

    #[test]
    fn a_flood_is_sampled_by_kind_and_counted_whole() {
        let log = log(1000, 1 << 20, 3);
        (0..100).for_each(|at| refuse(&log, "s", "no_match", at, None));
        refuse(&log, "s", "missing_signature", 100, None);
        assert_eq!(log.list(Filter::default(), 1000, 100).len(), 4);
        let count = |reason: &'static str, count| RejectionCount {
            source: Some("s".into()),
            reason: reason.into(),
            count,
        };
        assert_eq!(
            log.counts(),
            [count("missing_signature", 1), count("no_match", 100)]
        );
    }

    #[test]
    fn of_a_long_body_the_start_is_kept_with_its_size_and_digest() {
        let log = log(10, 1 << 20, 60);
        let (long, short) = (
            Bytes::from_static(b"0123456789"),
            Bytes::from_static(b"0123"),
        );
        refuse(&log, "s", "no_match", 0, Some(&long));
        refuse(&log, "s", "no_match", 1, Some(&short));
        let kept = log.list(Filter::default(), 10, 1);
        let bodies: Vec<&KeptBody> = kept
            .iter()
            .map(|rejected| rejected.body.as_ref().unwrap())
            .collect();
        assert_eq!(bodies[0].whole(), Some(&short));
        assert_eq!(
            (bodies[1].whole(), bodies[1].bytes, &bodies[1].prefix[..]),
            (None, 10, &b"01234567"[..])
        );
        assert_eq!(bodies[1].digest.0, BodyDigest::of(&long).0);
    }
}
