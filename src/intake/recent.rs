//! The events that were recorded lately, in memory. A repeat of one is answered without a query,
//! and before the body is parsed if its key depends on the body alone. The number is bounded; what
//! is pushed out is found in the database.

use std::{
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use polyval::{Polyval, universal_hash::UniversalHash as _};
use quick_cache::sync::Cache;
use uuid::Uuid;

use crate::{
    chance,
    event::{BodyDigest, Key},
    settings::scheme::Dedup,
    store::inbox::NewEvent,
};

/// An event that a key was recorded for.
#[derive(Clone, Copy)]
pub struct Recent {
    pub event: Uuid,
    pub digest: BodyDigest,
    until: Instant,
}

impl Recent {
    /// `event` is the first of this key, and the key counts for `seconds_left`. Repeats of it have
    /// this digest. `from` is a time before the database was asked, so the entry is forgotten here
    /// no later than there.
    pub fn new(event: Uuid, digest: BodyDigest, from: Instant, seconds_left: f64) -> Self {
        Self {
            event,
            digest,
            until: from + Duration::try_from_secs_f64(seconds_left).unwrap_or(Duration::ZERO),
        }
    }

    /// The same event, for repeats with this digest.
    pub fn alike(self, digest: BodyDigest) -> Self {
        Self { digest, ..self }
    }
}

#[derive(PartialEq, Eq, Hash)]
enum By {
    Key(Key),
    Body { source: OfSource, tag: [u8; 16] },
}

/// A source in force, told apart by the address of its name. After a reload the same name may have
/// other rules, by which the same body is another event.
struct OfSource(Arc<str>);

impl PartialEq for OfSource {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for OfSource {}

impl Hash for OfSource {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_ptr().hash(state);
    }
}

pub struct RecentEvents {
    events: Cache<By, (Recent, Server)>,
    tags: Tags,
    server: AtomicU32,
}

/// The database as it was when an event was recorded. After a failover or a restore another one
/// answers, and it may know less.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Server(u32);

impl RecentEvents {
    /// Remembers at most `keys_max` entries.
    pub fn new(keys_max: usize) -> Self {
        Self {
            events: Cache::new(keys_max),
            tags: Tags::new(),
            server: AtomicU32::new(0),
        }
    }

    /// The event with this very body, if its key depends on the body alone.
    pub fn of_body(&self, source: &Arc<str>, body: &[u8]) -> Option<Uuid> {
        self.get(&self.by_body(source, body))
            .map(|recent| recent.event)
    }

    /// The event with this key, if it was recorded with this very body.
    pub fn of_key(&self, key: Key, digest: &BodyDigest) -> Option<Uuid> {
        self.get(&By::Key(key))
            .filter(|recent| recent.digest == *digest)
            .map(|recent| recent.event)
    }

    /// The database that the next statement asks, as far as is known.
    pub fn server(&self) -> Server {
        Server(self.server.load(Ordering::Acquire))
    }

    /// Forgets everything, because the database may be another one or may have lost something.
    pub fn forget(&self) {
        self.server.fetch_add(1, Ordering::AcqRel);
        self.events.clear();
    }

    /// Remembers `recent`, the outcome of `event`'s key as `server` gave it. A body that was
    /// refused as different from the first is not remembered.
    pub fn remember(&self, event: &NewEvent, recent: Recent, server: Server) {
        if event.request.dedup() == Dedup::None {
            // Such an event has no repeats.
        } else if !event.request.key_is_of_body() {
            self.events.insert(By::Key(event.key), (recent, server));
        } else if recent.digest == *event.request.compared() {
            self.events.insert(
                self.by_body(&event.source, event.request.body()),
                (recent, server),
            );
        }
    }

    fn get(&self, by: &By) -> Option<Recent> {
        let (recent, server) = self.events.get(by)?;
        (server == self.server() && Instant::now() < recent.until).then_some(recent)
    }

    fn by_body(&self, source: &Arc<str>, body: &[u8]) -> By {
        By::Body {
            source: OfSource(source.clone()),
            tag: self.tags.of(body),
        }
    }
}

/// Names bodies by POLYVAL (RFC 8452, section 3) under a key of this process. For 2 KiB it takes
/// 0.57 µs, SHA-256 1.8 µs; `hot_duplicate` in bench/instructions.json guards it. Neither key nor
/// tags leave the process. Without the key, two bodies with one tag are found with a chance of
/// their number of 16-byte blocks in 2^128.
struct Tags(Polyval);

impl Tags {
    fn new() -> Self {
        Self(Polyval::new(&chance::bytes::<16>().into()))
    }

    fn of(&self, body: &[u8]) -> [u8; 16] {
        let mut hash = self.0.clone();
        hash.update_padded(body);
        // The length goes in as well, so that padding is never taken for a part of the body.
        hash.update(&[(body.len() as u128).to_le_bytes().into()]);
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_of_every_bit_and_of_the_process() {
        let (tags, others) = (Tags::new(), Tags::new());
        let body = [7; 100];
        let tag = tags.of(&body);
        assert_eq!(tags.of(&body), tag);
        assert_ne!(others.of(&body), tag);
        assert_ne!(tags.of(&body[..99]), tag);
        assert_ne!(tags.of(b"a"), tags.of(b"a\0"));
        assert_ne!(tags.of(b""), tags.of(&[0; 16]));
        for bit in 0..800 {
            let mut other = body;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(tags.of(&other), tag, "{bit}");
        }
    }
}
