//! What was recorded lately, in memory: a repeat of it is answered without a query, and where its
//! key is of the body alone, before the body is read. Bounded in number; what is pushed out is
//! found in the database.

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
    /// `event` is the first of this key, which counts for so long yet; repeats of it have this
    /// digest. `from` is before the database was asked: it is forgotten here no later than there.
    pub fn new(event: Uuid, digest: BodyDigest, from: Instant, seconds_left: f64) -> Self {
        Self {
            event,
            digest,
            until: from + Duration::try_from_secs_f64(seconds_left).unwrap_or(Duration::ZERO),
        }
    }

    /// The same for repeats of this digest.
    pub fn alike(self, digest: BodyDigest) -> Self {
        Self { digest, ..self }
    }
}

#[derive(PartialEq, Eq, Hash)]
enum By {
    Key(Key),
    Body { source: OfSource, tag: [u8; 16] },
}

/// A source as it is in force, by its name's address: after a reload the same name may stand for
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

/// The database as it was when something was recorded. After a failover or a restore another one
/// answers, which may know less.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Server(u32);

impl RecentEvents {
    /// Remembers this many at most.
    pub fn new(keys_max: usize) -> Self {
        Self {
            events: Cache::new(keys_max),
            tags: Tags::new(),
            server: AtomicU32::new(0),
        }
    }

    /// The event of this very body, where its key is of the body alone.
    pub fn of_body(&self, source: &Arc<str>, body: &[u8]) -> Option<Uuid> {
        self.get(&self.by_body(source, body))
            .map(|recent| recent.event)
    }

    /// The event of a key that was recorded with this very body.
    pub fn of_key(&self, key: Key, digest: &BodyDigest) -> Option<Uuid> {
        self.get(&By::Key(key))
            .filter(|recent| recent.digest == *digest)
            .map(|recent| recent.event)
    }

    /// Whom the next statement asks, as far as is known.
    pub fn server(&self) -> Server {
        Server(self.server.load(Ordering::Acquire))
    }

    /// The database may be another one, or have lost something: what is known here is no longer
    /// believed.
    pub fn forget(&self) {
        self.server.fetch_add(1, Ordering::AcqRel);
        self.events.clear();
    }

    /// `recent` is what the key of `event` came to, as this server said. Of a body that was refused
    /// as another than the first, nothing is remembered.
    pub fn remember(&self, event: &NewEvent, recent: Recent, server: Server) {
        if event.request.dedup() == Dedup::None {
            // Nothing is a repeat of it.
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

/// Names bodies by POLYVAL (RFC 8452, section 3) under a key of this process, in a third of the
/// time that SHA-256 takes. Neither key nor tags ever leave the process: whoever does not know the
/// key finds two bodies with one tag with a chance of their blocks of 16 bytes in 2^128.
struct Tags(Polyval);

impl Tags {
    fn new() -> Self {
        Self(Polyval::new(&chance::bytes::<16>().into()))
    }

    fn of(&self, body: &[u8]) -> [u8; 16] {
        let mut hash = self.0.clone();
        hash.update_padded(body);
        // The padding is part of no body.
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
