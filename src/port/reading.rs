//! Bodies on their way in. Their senders are not known yet, so the sum of their bytes is bounded
//! before anything is verified. A body that comes at once is only counted, and a small one has room
//! of its own. A body that keeps us waiting may have to give way. If a new one finds no room, the
//! one with the most bytes times waiting time is given up, and one that hardly moves is given up
//! anyway. So a few large bodies that stop before their end shut nobody out.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

/// The bytes a second that a body has to bring on average, once `GRACE` is over.
const RATE_MIN: f64 = 1024.0;
const GRACE: Duration = Duration::from_secs(5);
/// A body that is whole within this time costs only a timer.
const AT_ONCE: Duration = Duration::from_millis(100);
/// The size of a small body, and the divisor of the part of the room that small bodies have in
/// addition.
const SMALL: usize = 16 << 10;
const SMALL_PART: usize = 8;
/// The divisor of the part of the sum that waiting bodies of one address, or of one source, may
/// hold.
const HOLDER_PART: usize = 2;
/// Stands in place of a body's bytes once it has given way.
const GIVEN_WAY: usize = usize::MAX;

/// The bodies of one port.
pub struct Reading {
    bytes: AtomicUsize,
    bytes_max: usize,
    waiting: Mutex<Waiting>,
}

/// Bodies that are waiting for their end.
#[derive(Default)]
struct Waiting {
    next: u64,
    bodies: HashMap<u64, Arc<Body>>,
    held: HashMap<Holder, usize>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Holder {
    Address(IpAddr),
    Source(Arc<str>),
}

struct Body {
    number: u64,
    bytes: AtomicUsize,
    since: Instant,
    holders: Vec<Holder>,
    gives_way: Notify,
}

impl Body {
    /// What it costs the others: its bytes times the seconds for which it has been waiting for
    /// more.
    fn burden(&self, now: Instant) -> f64 {
        self.bytes.load(Ordering::Acquire) as f64 * now.duration_since(self.since).as_secs_f64()
    }

    /// How long it may take for the bytes that have come.
    fn is_fast_for(&self) -> Duration {
        let enough = self.bytes.load(Ordering::Acquire) as f64 / RATE_MIN;
        Duration::try_from_secs_f64(enough)
            .unwrap_or(Duration::MAX)
            .max(GRACE)
    }

    fn hardly_moves(&self) -> bool {
        self.since.elapsed() >= self.is_fast_for()
    }
}

/// Why a body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// It took longer than allowed, or hardly moved.
    Slow,
    /// It gave way to other bodies.
    GaveWay,
}

/// No room is left, and no other body has a greater burden.
#[derive(Debug)]
pub struct Full;

impl Reading {
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicUsize::new(0),
            bytes_max,
            waiting: Mutex::default(),
        })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room(&self, sum: usize, own: usize) -> bool {
        let small = if own <= SMALL {
            self.bytes_max / SMALL_PART
        } else {
            0
        };
        sum <= self.bytes_max + small || sum == own
    }

    /// Has bodies give way until the sum fits, or `own` is all that is left of it.
    fn make_room(
        &self,
        waiting: &mut Waiting,
        asking: Option<u64>,
        own: usize,
    ) -> Result<(), Full> {
        loop {
            let sum = self.bytes.load(Ordering::Relaxed);
            if self.has_room(sum, own) {
                return Ok(());
            }
            self.free_greatest(waiting, asking, |_| true)?;
        }
    }

    fn free_greatest(
        &self,
        waiting: &mut Waiting,
        asking: Option<u64>,
        among: impl Fn(&Body) -> bool,
    ) -> Result<(), Full> {
        let freed = waiting.give_way(asking, among).ok_or(Full)?;
        self.bytes.fetch_sub(freed, Ordering::Relaxed);
        Ok(())
    }
}

impl Waiting {
    /// Has the body with the greatest burden of these give way, and returns how many bytes that
    /// frees. None if there is none, or if it is `asking` itself.
    fn give_way(&mut self, asking: Option<u64>, among: impl Fn(&Body) -> bool) -> Option<usize> {
        let now = Instant::now();
        let bodies = self.bodies.values().filter(|body| among(body));
        let greatest = bodies
            .max_by(|a, b| a.burden(now).total_cmp(&b.burden(now)))?
            .number;
        if Some(greatest) == asking {
            return None;
        }
        let body = self.bodies.remove(&greatest)?;
        let bytes = body.bytes.swap(GIVEN_WAY, Ordering::AcqRel);
        self.release(&body, bytes);
        body.gives_way.notify_one();
        Some(bytes)
    }

    fn release(&mut self, body: &Body, bytes: usize) {
        for holder in &body.holders {
            if let Some(held) = self.held.get_mut(holder) {
                *held = held.saturating_sub(bytes);
                if *held == 0 {
                    self.held.remove(holder);
                }
            }
        }
    }
}

/// One body's part of the sum. Dropping it gives the part back.
pub struct Share {
    reading: Arc<Reading>,
    /// The bytes before it begins to wait; afterwards `Body` counts them.
    bytes: AtomicUsize,
    waiting: OnceLock<Arc<Body>>,
}

impl Share {
    pub fn new(reading: &Arc<Reading>) -> Self {
        Self {
            reading: reading.clone(),
            bytes: AtomicUsize::new(0),
            waiting: OnceLock::new(),
        }
    }

    /// Adds bytes to this share. A lone body always has room, because its own limit bounds it.
    pub fn grow(&self, bytes: usize) -> Result<(), Full> {
        let reading = &*self.reading;
        let Some(body) = self.waiting.get() else {
            let own = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
            let sum = reading.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
            if reading.has_room(sum, own) {
                return Ok(());
            }
            return reading.make_room(&mut reading.waiting(), None, own);
        };
        let mut waiting = reading.waiting();
        let before = body.bytes.load(Ordering::Acquire);
        if before == GIVEN_WAY {
            return Err(Full);
        }
        let own = before + bytes;
        reading.bytes.fetch_add(bytes, Ordering::Relaxed);
        body.bytes.store(own, Ordering::Release);
        let most = (reading.bytes_max / HOLDER_PART).max(own);
        for holder in &body.holders {
            *waiting.held.entry(holder.clone()).or_default() += bytes;
        }
        for holder in &body.holders {
            while waiting.held.get(holder).is_some_and(|held| *held > most) {
                reading.free_greatest(&mut waiting, Some(body.number), |other| {
                    other.holders.contains(holder)
                })?;
            }
        }
        reading.make_room(&mut waiting, Some(body.number), own)
    }

    /// Runs `read`, which reads the body and grows this share, for as long as it may take.
    pub async fn read<T>(
        &self,
        address: Option<IpAddr>,
        source: Option<&Arc<str>>,
        at_most: Duration,
        read: impl Future<Output = T>,
    ) -> Result<T, GivenUp> {
        let mut read = pin!(read);
        let at_once = AT_ONCE.min(at_most);
        if let Ok(body) = tokio::time::timeout(at_once, read.as_mut()).await {
            return Ok(body);
        }
        let body = self.wait(address, source);
        let moves = async {
            loop {
                tokio::time::sleep_until((body.since + body.is_fast_for().min(at_most)).into())
                    .await;
                if body.hardly_moves() {
                    return;
                }
            }
        };
        let answer = tokio::select! {
            whole = tokio::time::timeout(at_most - at_once, read) => whole.map_err(|_| GivenUp::Slow),
            () = body.gives_way.notified() => Err(GivenUp::GaveWay),
            () = moves => Err(GivenUp::Slow),
        };
        self.settle(&body);
        answer
    }

    /// From now on this body may have to give way to others.
    fn wait(&self, address: Option<IpAddr>, source: Option<&Arc<str>>) -> Arc<Body> {
        self.wait_since(Instant::now(), address, source)
    }

    fn wait_since(
        &self,
        since: Instant,
        address: Option<IpAddr>,
        source: Option<&Arc<str>>,
    ) -> Arc<Body> {
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        let holders: Vec<Holder> = address
            .map(Holder::Address)
            .into_iter()
            .chain(source.cloned().map(Holder::Source))
            .collect();
        let mut waiting = self.reading.waiting();
        for holder in &holders {
            *waiting.held.entry(holder.clone()).or_default() += bytes;
        }
        let number = waiting.next;
        waiting.next += 1;
        let body = Arc::new(Body {
            number,
            bytes: AtomicUsize::new(bytes),
            since,
            holders,
            gives_way: Notify::new(),
        });
        waiting.bodies.insert(number, body.clone());
        let _ = self.waiting.set(body.clone());
        body
    }

    /// Ends the waiting, whether the body was read or given up. Its bytes count until the share is
    /// dropped, but it no longer gives way.
    fn settle(&self, body: &Body) {
        let mut waiting = self.reading.waiting();
        if waiting.bodies.remove(&body.number).is_some() {
            let bytes = body.bytes.load(Ordering::Acquire);
            waiting.release(body, bytes);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let bytes = match self.waiting.get() {
            Some(body) => {
                // The request may be dropped in the middle of its body.
                self.settle(body);
                body.bytes.swap(GIVEN_WAY, Ordering::AcqRel)
            }
            None => self.bytes.load(Ordering::Relaxed),
        };
        if bytes != GIVEN_WAY {
            self.reading.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// A share whose body has been waiting for `seconds`.
    fn share(reading: &Arc<Reading>, source: &str, bytes: usize, seconds: u64) -> Share {
        let share = Share::new(reading);
        share.wait_since(
            Instant::now() - Duration::from_secs(seconds),
            None,
            Some(&source.into()),
        );
        share.grow(bytes).unwrap();
        share
    }

    #[test]
    fn what_has_held_most_for_longest_gives_way_to_who_finds_no_room() {
        let reading = Reading::new(100 * MIB);
        let (slow, fast) = (
            share(&reading, "a", 30 * MIB, 5),
            share(&reading, "b", 45 * MIB, 1),
        );
        // Bodies that hold next to nothing would free no room, so they stay.
        let small: Vec<Share> = (0..1000).map(|_| share(&reading, "c", 100, 4)).collect();
        let new = Share::new(&reading);
        new.grow(40 * MIB).unwrap();
        assert_eq!(
            (slow.grow(MIB).is_err(), fast.grow(MIB).is_ok()),
            (true, true)
        );
        assert!(small.iter().all(|share| share.grow(1).is_ok()));
        drop((slow, small));
        assert_eq!(reading.bytes.load(Ordering::Relaxed), 86 * MIB);
        // A body that has come whole is never given up, so the new one gives way itself.
        fast.settle(fast.waiting.get().unwrap());
        assert!(Share::new(&reading).grow(40 * MIB).is_err());
        drop((new, fast));
        assert_eq!(reading.bytes.load(Ordering::Relaxed), 0);
        assert!(reading.waiting().held.is_empty() && reading.waiting().bodies.is_empty());
        let lone = Share::new(&reading);
        lone.grow(1000 * MIB).unwrap();
    }

    #[test]
    fn no_source_holds_more_than_its_part_with_bodies_that_wait() {
        let reading = Reading::new(100 * MIB);
        let first = share(&reading, "a", 10 * MIB, 10);
        let second = share(&reading, "a", 45 * MIB, 1);
        assert!(
            first.grow(MIB).is_err() && second.grow(MIB).is_ok(),
            "together they had more than half"
        );
        assert!(
            Share::new(&reading).grow(40 * MIB).is_ok(),
            "which leaves room for what comes with its head"
        );
        let other = share(&reading, "b", 40 * MIB, 1);
        assert!(other.grow(5 * MIB).is_ok());
    }

    #[test]
    fn small_bodies_have_room_of_their_own() {
        let reading = Reading::new(MIB);
        let large = Share::new(&reading);
        large.grow(MIB).unwrap();
        assert!(Share::new(&reading).grow(SMALL + 1).is_err());
        let small: Vec<Share> = (0..MIB / SMALL_PART / SMALL)
            .map(|_| Share::new(&reading))
            .collect();
        assert!(small.iter().all(|share| share.grow(SMALL).is_ok()));
        assert!(Share::new(&reading).grow(1).is_err());
    }

    #[test]
    fn a_body_has_to_move_once_it_had_time_to_begin() {
        let body = |bytes: usize, seconds: u64| Body {
            number: 0,
            bytes: bytes.into(),
            since: Instant::now() - Duration::from_secs(seconds),
            holders: Vec::new(),
            gives_way: Notify::new(),
        };
        assert!(!body(0, 4).hardly_moves() && body(0, 6).hardly_moves());
        assert!(body(6000, 6).hardly_moves() && !body(7000, 6).hardly_moves());
    }
}
