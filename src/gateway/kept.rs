//! Keeps the body of an answer while it passes. Each body has a limit, and all together share their
//! room.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub struct Kept {
    /// None once the body was too large, or there was no room.
    body: Option<BytesMut>,
    share: Option<OwnedSemaphorePermit>,
    bytes_max: usize,
    room: Arc<Semaphore>,
}

impl Kept {
    pub fn new(bytes_max: usize, room: Arc<Semaphore>) -> Self {
        Self {
            body: Some(BytesMut::new()),
            share: None,
            bytes_max,
            room,
        }
    }

    pub fn add(&mut self, piece: &[u8]) {
        let Some(body) = &mut self.body else { return };
        let bytes = u32::try_from(piece.len())
            .ok()
            .filter(|_| body.len() + piece.len() <= self.bytes_max);
        match bytes.and_then(|bytes| self.room.clone().try_acquire_many_owned(bytes).ok()) {
            Some(more) => {
                match &mut self.share {
                    Some(share) => share.merge(more),
                    none => *none = Some(more),
                }
                body.extend_from_slice(piece);
            }
            None => (self.body, self.share) = (None, None),
        }
    }

    pub fn body(&self) -> Option<&[u8]> {
        self.body.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_their_room_and_give_it_back() {
        let room = Arc::new(Semaphore::new(10));
        let (mut one, mut two) = (Kept::new(8, room.clone()), Kept::new(8, room.clone()));
        one.add(b"12345678");
        two.add(b"12");
        assert_eq!(
            (one.body(), two.body()),
            (Some(&b"12345678"[..]), Some(&b"12"[..]))
        );
        two.add(b"3");
        assert_eq!((two.body(), room.available_permits()), (None, 2));
        one.add(b"9");
        assert_eq!((one.body(), room.available_permits()), (None, 10));
        two.add(b"1");
        assert_eq!(two.body(), None, "a part passed for the whole");
    }
}
