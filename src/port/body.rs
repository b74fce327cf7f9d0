//! Reads a body within its bounds, in the room that all bodies of a port share. The sender is not
//! verified yet.

use std::{net::IpAddr, sync::Arc, time::Duration};

use actix_http::header::{CONTENT_LENGTH, HeaderMap};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};

use super::reading::{Full, GivenUp, Share};

/// An announced length is only a promise, so at most this much is allocated before the bytes have
/// come.
const FIRST_BYTES_MAX: usize = 64 << 10;
/// The size of each further allocation. Growing one buffer by doubling would copy it at 16 MiB,
/// which blocks all connections of the thread for some 6 ms.
const NEXT_BYTES: usize = 256 << 10;

/// The bounds of one body in size and time.
pub struct Limits<'a> {
    pub bytes_max: usize,
    pub timeout: Duration,
    /// How long the sender may send nothing.
    pub idle_timeout: Option<Duration>,
    pub address: Option<IpAddr>,
    pub source: Option<&'a Arc<str>>,
}

/// Why a body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    TooLarge,
    TimedOut,
    Broken,
    /// It found no room, or gave way to other bodies.
    Busy,
}

/// The announced length in bytes.
pub fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads the whole body. `share` is its part of the room, and has to live as long as the bytes.
pub async fn read_body<E>(
    mut payload: impl Stream<Item = Result<Bytes, E>> + Unpin,
    announced: Option<usize>,
    limits: &Limits<'_>,
    share: &Share,
) -> Result<Bytes, BodyError> {
    if announced.is_some_and(|length| length > limits.bytes_max) {
        return Err(BodyError::TooLarge);
    }
    let read = async {
        let mut body = Pieces::new(announced);
        while let Some(piece) = next(&mut payload, limits.idle_timeout).await? {
            if body.len + piece.len() > limits.bytes_max {
                return Err(BodyError::TooLarge);
            }
            share.grow(piece.len()).map_err(|Full| BodyError::Busy)?;
            body.push(&piece);
        }
        Ok(body.whole())
    };
    match share
        .read(limits.address, limits.source, limits.timeout, read)
        .await
    {
        Ok(read) => read,
        Err(GivenUp::Slow) => Err(BodyError::TimedOut),
        Err(GivenUp::GaveWay) => Err(BodyError::Busy),
    }
}

async fn next<E>(
    payload: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
    idle_timeout: Option<Duration>,
) -> Result<Option<Bytes>, BodyError> {
    let piece = match idle_timeout {
        Some(limit) => tokio::time::timeout(limit, payload.next())
            .await
            .map_err(|_| BodyError::TimedOut)?,
        None => payload.next().await,
    };
    piece.transpose().map_err(|_| BodyError::Broken)
}

/// The part of a body that has come. Nothing that was written is moved until the body is whole.
struct Pieces {
    filled: Vec<BytesMut>,
    last: BytesMut,
    len: usize,
}

impl Pieces {
    fn new(announced: Option<usize>) -> Self {
        let first = announced.unwrap_or(0).min(FIRST_BYTES_MAX);
        Self {
            filled: Vec::new(),
            last: BytesMut::with_capacity(first),
            len: 0,
        }
    }

    fn push(&mut self, mut piece: &[u8]) {
        self.len += piece.len();
        if self.len <= FIRST_BYTES_MAX {
            self.last.extend_from_slice(piece);
            return;
        }
        while !piece.is_empty() {
            let room = self.last.capacity() - self.last.len();
            if room == 0 {
                let next = BytesMut::with_capacity(NEXT_BYTES);
                self.filled.push(std::mem::replace(&mut self.last, next));
                continue;
            }
            let (now, rest) = piece.split_at(room.min(piece.len()));
            self.last.extend_from_slice(now);
            piece = rest;
        }
    }

    fn whole(self) -> Bytes {
        if self.filled.is_empty() {
            return self.last.freeze();
        }
        let mut whole = BytesMut::with_capacity(self.len);
        self.filled
            .iter()
            .chain([&self.last])
            .for_each(|part| whole.extend_from_slice(part));
        whole.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_make_the_whole() {
        let all: Vec<u8> = (0..1_000_000_u32)
            .map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[2])
            .collect();
        for (announced, size) in [
            (None, 1000),
            (Some(10), 65_536),
            (Some(1_000_000), 7),
            (Some(0), 999_999),
        ] {
            for len in [
                0,
                1,
                FIRST_BYTES_MAX,
                FIRST_BYTES_MAX + 1,
                FIRST_BYTES_MAX + NEXT_BYTES,
                all.len(),
            ] {
                let mut pieces = Pieces::new(announced);
                all[..len].chunks(size).for_each(|piece| pieces.push(piece));
                assert!(
                    pieces
                        .filled
                        .iter()
                        .all(|part| part.capacity() <= NEXT_BYTES)
                );
                assert!(pieces.whole() == all[..len], "{len} in pieces of {size}");
            }
        }
    }
}
