//! The bounded hand-off: a delivery that is born leased goes in memory from the request that made
//! it to the workers of its destination. Rows are bounded for each destination, and bytes for all
//! together. A delivery that finds no room is born due instead, and any node claims it.

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

/// The part of an event that its destination gets.
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

/// A delivery whose lease this node holds.
#[derive(Debug)]
pub struct Leased {
    pub id: DeliveryId,
    pub key: Key,
    pub epoch: i64,
    /// Attempts that ended before this one.
    pub attempts: i32,
    pub replay_id: Option<ReplayId>,
    /// The delivery's age in seconds when it was leased.
    pub age_seconds: f64,
    /// The time before the leasing statement was sent, so the lease ends no earlier than this plus
    /// its length.
    pub leased_at: Instant,
    /// None where retention has dropped the event.
    pub event: Option<Arc<RelayEvent>>,
}

/// One delivery on its way to a worker. Dropping it frees its place.
#[derive(Debug)]
pub struct Handed {
    pub leased: Leased,
    place: LaneSlot,
}

impl Handed {
    pub fn leased(&self) -> &Leased {
        &self.leased
    }

    pub fn into_parts(self) -> (Leased, LaneSlot) {
        (self.leased, self.place)
    }
}

/// How many rows a destination holds, and whether more are due than had room. If so, the claimer is
/// woken as soon as there is room. Without that, a backlog would drain by one lane's rows for each
/// poll.
#[derive(Debug)]
struct Rows {
    held: AtomicUsize,
    hungry: AtomicBool,
    /// A hungry lane asks for more once only this many rows are left.
    refill_at: AtomicUsize,
    /// Attempts that have ended since the destination was added.
    attempted: AtomicUsize,
    wake: Arc<Notify>,
}

impl Rows {
    fn take(self: &Arc<Self>, bytes: Option<OwnedSemaphorePermit>) -> LaneSlot {
        self.held.fetch_add(1, Ordering::Relaxed);
        LaneSlot {
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

/// A place among the rows that a destination holds. It is taken until the delivery is finished.
#[derive(Debug)]
pub struct LaneSlot {
    rows: Arc<Rows>,
    _bytes: Option<OwnedSemaphorePermit>,
}

impl Drop for LaneSlot {
    fn drop(&mut self) {
        let held = self.rows.held.fetch_sub(1, Ordering::Relaxed) - 1;
        self.rows.wake_if_hungry(held);
    }
}

/// The queue in memory of one destination.
#[derive(Debug)]
pub struct Lane {
    rows: Arc<Rows>,
    /// False while the destination is paused, its breaker is open, or the node is stopping.
    open: AtomicBool,
    sender: mpsc::UnboundedSender<Handed>,
}

impl Lane {
    pub fn rows(&self) -> usize {
        self.rows.held.load(Ordering::Relaxed)
    }

    /// Sets how few rows are left when a hungry destination asks for more. It is 0 while the
    /// destination gets only a probe.
    pub fn set_refill_at(&self, rows: usize) {
        self.rows.refill_at.store(rows, Ordering::Relaxed);
    }

    /// Notes that an attempt has ended, with whatever outcome.
    pub fn note_attempt(&self) {
        self.rows.attempted.fetch_add(1, Ordering::Relaxed);
    }

    /// How many attempts have ended.
    pub fn attempted(&self) -> usize {
        self.rows.attempted.load(Ordering::Relaxed)
    }

    /// Notes that more may be due. The claimer is woken once few rows are left, which may be at
    /// once.
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

/// A reserved place. `send` fills it once the delivery's row is committed.
pub struct Reserved {
    lane: Arc<Lane>,
    place: LaneSlot,
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

    /// Returns when a hungry destination has room again.
    pub async fn room(&self) {
        self.room.notified().await;
    }

    /// Adds a destination. Its worker takes the receiver.
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

    /// How many more bytes of bodies have room.
    pub fn bytes_left(&self) -> usize {
        self.bytes.available_permits()
    }

    /// Hands over a claimed delivery, however full the lane is, because the claim was bounded
    /// already.
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

    /// Reserves a place for one delivery of this size. None means that there is no room, so the
    /// delivery is born due.
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
