//! The open connections of one port. When the table is full, a new connection still finds room,
//! because another one is closed for it. First goes the one that has waited longest for a request,
//! then the one whose request has been arriving longest. A connection whose request is being
//! answered never goes.

use std::{
    collections::HashMap,
    net::IpAddr,
    os::fd::RawFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nix::sys::socket::{Shutdown, shutdown};

use crate::port::addresses::guest;

/// The divisor of the part of all connections that are closed at once. Finding them costs a look at
/// each, so they are not found one by one.
const GO_PART: usize = 32;
/// How often the log says that connections were closed for others.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What a connection waits for, in the order in which connections are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A request.
    Idle = 0,
    /// The rest of a request.
    Incomplete = 1,
    /// Our answer.
    Busy = 2,
}

const PHASE_SHIFT: u32 = 62;
/// Places with this rank or a higher one are never taken away.
const STAYS: u64 = (Phase::Busy as u64) << PHASE_SHIFT;

struct Slot {
    fd: RawFd,
    guest: IpAddr,
    /// The phase in the bits above `PHASE_SHIFT`; below them the time since which it lasts, in
    /// milliseconds since the table was made. The lowest rank is closed first.
    rank: AtomicU64,
}

#[derive(Default)]
struct Open {
    next: u64,
    places: HashMap<u64, Arc<Slot>>,
    of_guest: HashMap<IpAddr, usize>,
    /// Connections that were closed or refused since the log last said so.
    gone: u64,
    told: Option<Instant>,
}

/// The table of one port.
pub struct Connections {
    began: Instant,
    most: usize,
    most_of_address: usize,
    open: Mutex<Open>,
}

/// Every place belongs to a request that is being answered.
#[derive(Debug)]
pub struct Full;

impl Connections {
    /// If `most_of_address` is 0, one address may have all places.
    pub fn new(most: usize, most_of_address: usize) -> Arc<Self> {
        let most_of_address = if most_of_address == 0 {
            most
        } else {
            most_of_address
        };
        Arc::new(Self {
            began: Instant::now(),
            most,
            most_of_address,
            open: Mutex::default(),
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rank(&self, phase: Phase) -> u64 {
        if phase == Phase::Busy {
            return STAYS;
        }
        let life = self.began.elapsed();
        (phase as u64) << PHASE_SHIFT | (life.as_secs() * 1000 + u64::from(life.subsec_millis()))
    }

    /// Takes a place for this socket, which has to stay open for as long as the seat is held.
    pub fn enter(self: &Arc<Self>, fd: RawFd, address: IpAddr) -> Result<Seat, Full> {
        let guest = guest(address);
        let place = Arc::new(Slot {
            fd,
            guest,
            rank: AtomicU64::new(self.rank(Phase::Idle)),
        });
        let mut open = self.open();
        let of_guest = open.of_guest.get(&guest).copied().unwrap_or(0);
        let has_room = (of_guest < self.most_of_address
            || open.make_room(self.most_of_address, |place| place.guest == guest))
            && (open.places.len() < self.most || open.make_room(self.most, |_| true));
        open.tell();
        if !has_room {
            open.gone += 1;
            return Err(Full);
        }
        let number = open.next;
        open.next += 1;
        open.places.insert(number, place.clone());
        *open.of_guest.entry(guest).or_default() += 1;
        Ok(Seat {
            connections: self.clone(),
            number,
            place,
        })
    }
}

impl Open {
    /// Closes those of these connections that have waited longest. Returns whether there was one.
    fn make_room(&mut self, most: usize, among: impl Fn(&Slot) -> bool) -> bool {
        let waiting = self.places.iter().filter(|(_, place)| among(place));
        let mut waiting: Vec<(u64, u64)> = waiting
            .map(|(number, place)| (place.rank.load(Ordering::Relaxed), *number))
            .filter(|(rank, _)| *rank < STAYS)
            .collect();
        let go = (most / GO_PART).clamp(1, waiting.len().max(1));
        if waiting.len() > go {
            waiting.select_nth_unstable(go);
            waiting.truncate(go);
        }
        for (_, number) in &waiting {
            if let Some(place) = self.remove(*number) {
                // The server reads an end of input, and closes the connection. It still reads what
                // was sent before and still writes its answers.
                let _ = shutdown(place.fd, Shutdown::Read);
                self.gone += 1;
            }
        }
        !waiting.is_empty()
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Slot>> {
        let place = self.places.remove(&number)?;
        if let Some(count) = self.of_guest.get_mut(&place.guest) {
            *count -= 1;
            if *count == 0 {
                self.of_guest.remove(&place.guest);
            }
        }
        Some(place)
    }

    fn tell(&mut self) {
        if self.gone > 0 && self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            tracing::warn!(
                connections = self.gone,
                "connections were closed to make room for others: ingress.connections_max or connections_per_address_max is reached"
            );
            (self.gone, self.told) = (0, Some(Instant::now()));
        }
    }
}

/// One connection's place. Dropping it gives the place back.
pub struct Seat {
    connections: Arc<Connections>,
    number: u64,
    place: Arc<Slot>,
}

impl Seat {
    pub fn set(&self, phase: Phase) {
        self.place
            .rank
            .store(self.connections.rank(phase), Ordering::Relaxed);
    }

    /// Gives the place back. Calling it again does nothing.
    pub fn leave(&self) {
        self.connections.open().remove(self.number);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd as _,
    };

    use super::*;

    struct Guest {
        stream: TcpStream,
        _far: TcpStream,
        seat: Seat,
    }

    impl Guest {
        fn enter(connections: &Arc<Connections>, address: &str) -> Result<Self, Full> {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let stream = listener.accept().unwrap().0;
            stream.set_nonblocking(true).unwrap();
            let seat = connections.enter(stream.as_raw_fd(), address.parse().unwrap())?;
            Ok(Self {
                stream,
                _far: far,
                seat,
            })
        }

        fn has_to_go(&mut self) -> bool {
            self.stream.read(&mut [0]).is_ok_and(|count| count == 0)
        }
    }

    #[test]
    fn who_waits_longest_for_a_request_goes_first_and_who_is_answered_never() {
        let connections = Connections::new(3, 0);
        let mut guests: Vec<Guest> = (0..3)
            .map(|_| Guest::enter(&connections, "192.0.2.1").unwrap())
            .collect();
        for (guest, phase) in guests
            .iter()
            .zip([Phase::Busy, Phase::Incomplete, Phase::Idle])
        {
            std::thread::sleep(Duration::from_millis(2));
            guest.seat.set(phase);
        }
        let mut new = Vec::new();
        for gone in [[false, false, true], [false, true, true]] {
            let guest = Guest::enter(&connections, "192.0.2.1").unwrap();
            guest.seat.set(Phase::Busy);
            new.push(guest);
            assert_eq!(
                guests.iter_mut().map(Guest::has_to_go).collect::<Vec<_>>(),
                gone
            );
        }
        assert!(Guest::enter(&connections, "192.0.2.1").is_err());
        drop(new);
        assert!(Guest::enter(&connections, "192.0.2.1").is_ok());
        drop(guests);
        assert!(connections.open().places.is_empty() && connections.open().of_guest.is_empty());
    }

    #[test]
    fn an_address_that_has_its_part_makes_room_of_its_own() {
        let connections = Connections::new(8, 2);
        let mut other = Guest::enter(&connections, "192.0.2.1").unwrap();
        let mut own: Vec<Guest> = (0..3)
            .map(|_| Guest::enter(&connections, "2001:db8::1").unwrap())
            .collect();
        assert!(!other.has_to_go());
        assert_eq!(
            own.iter_mut()
                .filter_map(|guest| guest.has_to_go().then_some(()))
                .count(),
            1
        );
        for guest in &own {
            guest.seat.set(Phase::Busy);
        }
        assert!(
            Guest::enter(&connections, "2001:db8::2").is_err()
                && Guest::enter(&connections, "192.0.2.2").is_ok()
        );
    }

    #[test]
    fn many_go_at_once_where_there_are_many() {
        let connections = Connections::new(2 * GO_PART, 0);
        let mut guests: Vec<Guest> = (0..2 * GO_PART)
            .map(|_| Guest::enter(&connections, "192.0.2.1").unwrap())
            .collect();
        let _new = Guest::enter(&connections, "192.0.2.1").unwrap();
        assert_eq!(
            guests
                .iter_mut()
                .filter_map(|guest| guest.has_to_go().then_some(()))
                .count(),
            2
        );
    }
}
