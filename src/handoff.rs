//! The bounded hand-off: deliveries born leased go from the request that made them to the workers
//! of their destination in memory. Bounded in rows a destination and in bytes altogether; what
//! finds no place is born due instead and any node claims it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use crate::{
    contract::{DeliveryId, EventId, ReplayId},
    event::{Key, Mark},
};
use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

/// What a destination gets of an event.
#[derive(Debug)]
pub struct RelayEvent {
    pub id: EventId,
    pub source: Arc<str>,
    pub event_key: String,
    pub event_type: Option<String>,
    pub mark: Option<Mark>,
    /// A JSON array of [name, value] pairs.
    pub headers: String,
    pub body: Bytes,
}

/// A delivery that this node holds the lease of.
#[derive(Debug)]
pub struct Leased {
    pub id: DeliveryId,
    pub key: Key,
    pub epoch: i64,
    /// Attempts that ended before this one.
    pub attempts: i32,
    pub replay_id: Option<ReplayId>,
    /// How old the delivery was when it was leased, in seconds.
    pub age_seconds: f64,
    /// Taken before the leasing statement was sent: the lease ends no earlier than this plus its
    /// length.
    pub leased_at: Instant,
    /// None where retention has dropped the event.
    pub event: Option<Arc<RelayEvent>>,
}

/// One delivery on its way to a worker; its place is free again when it is dropped.
#[derive(Debug)]
pub struct Handed {
    pub leased: Leased,
    place: Place,
}

impl Handed {
    pub fn leased(&self) -> &Leased {
        &self.leased
    }

    pub fn into_parts(self) -> (Leased, Place) {
        (self.leased, self.place)
    }
}

/// How many rows a destination holds, and whether more are due than had room. Then the claimer is
/// woken when room is there again: it would find out at its next poll, but a backlog would drain by
/// one lane a poll.
#[derive(Debug)]
struct Rows {
    held: AtomicUsize,
    hungry: AtomicBool,
    /// So few are left when a hungry lane asks for more.
    refill_at: AtomicUsize,
    /// Attempts that have ended, since the destination was added.
    attempted: AtomicUsize,
    wake: Arc<Notify>,
}

impl Rows {
    fn take(self: &Arc<Self>, bytes: Option<OwnedSemaphorePermit>) -> Place {
        self.held.fetch_add(1, Ordering::Relaxed);
        Place {
            rows: self.clone(),
            _bytes: bytes,
        }
    }

    fn wake_if_hungry(&self, held: usize) {
        if held <= self.refill_at.load(Ordering::Relaxed)
            && self.hungry.swap(false, Ordering::Relaxed)
        {
            self.wake.notify_one();
        }
    }
}

/// A place among the rows that a destination holds, until the delivery is finished.
#[derive(Debug)]
pub struct Place {
    rows: Arc<Rows>,
    _bytes: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let held = self.rows.held.fetch_sub(1, Ordering::Relaxed) - 1;
        self.rows.wake_if_hungry(held);
    }
}

/// The in-memory side of one destination.
#[derive(Debug)]
pub struct Lane {
    rows: Arc<Rows>,
    /// Closed while the destination is paused, its breaker is open, or the node is stopping.
    open: AtomicBool,
    sender: mpsc::UnboundedSender<Handed>,
}

impl Lane {
    pub fn rows(&self) -> usize {
        self.rows.held.load(Ordering::Relaxed)
    }

    /// So few rows are left when a hungry destination asks for more; 0 while it gets no more than a
    /// probe.
    pub fn set_refill_at(&self, rows: usize) {
        self.rows.refill_at.store(rows, Ordering::Relaxed);
    }

    /// Notes that an attempt has ended, however.
    pub fn note_attempt(&self) {
        self.rows.attempted.fetch_add(1, Ordering::Relaxed);
    }

    /// How many attempts have ended.
    pub fn attempted(&self) -> usize {
        self.rows.attempted.load(Ordering::Relaxed)
    }

    /// More may be due: the claimer is woken once few rows are left, at once where that is so
    /// already.
    pub fn set_hungry(&self) {
        self.rows.hungry.store(true, Ordering::Relaxed);
        self.rows.wake_if_hungry(self.rows());
    }

    pub fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Relaxed);
    }
}

/// All destinations of this node.
#[derive(Debug)]
pub struct Handoff {
    lanes: arc_swap::ArcSwap<HashMap<Arc<str>, Arc<Lane>>>,
    bytes: Arc<Semaphore>,
    rows_max: usize,
    room: Arc<Notify>,
}

/// A reserved place; `send` fills it once the delivery's row is committed.
pub struct Reserved {
    lane: Arc<Lane>,
    place: Place,
}

impl Reserved {
    pub fn send(self, leased: Leased) {
        let _ = self.lane.sender.send(Handed {
            leased,
            place: self.place,
        });
    }
}

impl Handoff {
    pub fn new(rows_max: usize, bytes_max: usize) -> Self {
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS);
        Self {
            lanes: arc_swap::ArcSwap::default(),
            bytes: Arc::new(Semaphore::new(bytes_max)),
            rows_max,
            room: Arc::default(),
        }
    }

    /// Ends when a destination that had too little room has some.
    pub async fn room(&self) {
        self.room.notified().await;
    }

    /// Adds a destination; the receiver is its worker's.
    pub fn add(&self, destination: Arc<str>) -> (Arc<Lane>, mpsc::UnboundedReceiver<Handed>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (held, refill_at, attempted) = (
            AtomicUsize::new(0),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        let rows = Rows {
            held,
            hungry: AtomicBool::new(false),
            refill_at,
            attempted,
            wake: self.room.clone(),
        };
        let lane = Arc::new(Lane {
            rows: Arc::new(rows),
            open: AtomicBool::new(true),
            sender,
        });
        self.lanes.rcu(|lanes| {
            let mut lanes = HashMap::clone(lanes);
            lanes.insert(destination.clone(), lane.clone());
            lanes
        });
        (lane, receiver)
    }

    pub fn remove(&self, destination: &str) {
        self.lanes.rcu(|lanes| {
            let mut lanes = HashMap::clone(lanes);
            lanes.remove(destination);
            lanes
        });
    }

    pub fn lane(&self, destination: &str) -> Option<Arc<Lane>> {
        self.lanes.load().get(destination).cloned()
    }

    /// Bytes of bodies that have room yet.
    pub fn bytes_left(&self) -> usize {
        self.bytes.available_permits()
    }

    /// Hands a claimed delivery over, whatever the lane holds: the claim was bounded already.
    pub fn push(&self, lane: &Lane, leased: Leased) {
        let bytes = leased
            .event
            .as_ref()
            .and_then(|event| u32::try_from(event.body.len()).ok());
        let place = lane
            .rows
            .take(bytes.and_then(|bytes| self.bytes.clone().try_acquire_many_owned(bytes).ok()));
        let _ = lane.sender.send(Handed { leased, place });
    }

    /// A place for one delivery of this size, or None: then it is born due.
    pub fn reserve(&self, destination: &str, body_bytes: usize) -> Option<Reserved> {
        let lane = self.lane(destination)?;
        if !lane.open.load(Ordering::Relaxed) {
            return None;
        }
        let permits = u32::try_from(body_bytes.max(1)).ok()?;
        let bytes = if lane.rows() < self.rows_max {
            self.bytes.clone().try_acquire_many_owned(permits).ok()
        } else {
            None
        };
        if bytes.is_none() {
            lane.rows.hungry.store(true, Ordering::Relaxed);
        }
        let place = lane.rows.take(Some(bytes?));
        Some(Reserved { lane, place })
    }
}
