//! Bodies on their way in: who sends them is not known yet, so their sum is bounded before anything
//! is verified. A body that comes at once is no more than counted, and a small one has room of its
//! own. One that keeps us waiting has to give way: to a new one that finds no room the one that has
//! held most for longest does, and one that hardly moves is given up by itself. So a few large
//! bodies that stop before their end shut nobody out.

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

/// What a body has to bring a second, on the whole, once it had some time to begin.
const RATE_MIN: f64 = 1024.0;
const GRACE: Duration = Duration::from_secs(5);
/// A body that is whole within this time costs a timer and no more.
const AT_ONCE: Duration = Duration::from_millis(100);
/// A small body, and the part of the room that is for those beside what is for all.
const SMALL: usize = 16 << 10;
const SMALL_PART: usize = 8;
/// Bodies that wait for more may hold so much of the sum for one address, and for one source.
const HOLDER_PART: usize = 2;
/// In place of a body's bytes: it has given way.
const GIVEN_WAY: usize = usize::MAX;

/// The bodies of one port.
pub struct Reading {
    bytes: AtomicUsize,
    bytes_max: usize,
    waiting: Mutex<Waiting>,
}

/// Bodies whose end has not come.
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
    /// What it has cost the others: bytes, times the seconds that it has been waiting for more.
    fn burden(&self, now: Instant) -> f64 {
        self.bytes.load(Ordering::Acquire) as f64 * now.duration_since(self.since).as_secs_f64()
    }

    /// How long it may take over what has come.
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
    /// It took longer than it may, or hardly moved.
    Slow,
    /// It gave way to others.
    GaveWay,
}

/// No room is left, and nobody is slower.
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

    /// Until the sum fits, or all of it is `own`.
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
    /// Has the greatest burden of these bodies give way; how much that frees. None where there is
    /// none, or only `asking` itself.
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

/// One body's part of the sum, given back when it is dropped.
pub struct Share {
    reading: Arc<Reading>,
    /// Before it has to wait.
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

    /// A lone body always has room: its own limit bounds it.
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

    /// Has what reads the body do so, for as long as it may take. `read` grows this share.
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

    /// From now on others may come before it.
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

    /// It waits no longer: read to its end or given up, it counts until it is dropped and gives way
    /// to nobody.
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
                // Dropped with its request, in the middle.
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

    /// A body that waits already for so long.
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
        // Many that hold next to nothing are no help, and stay.
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
        // What has come whole is never given up: the next one gives way itself.
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
