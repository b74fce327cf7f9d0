//! An answer on its way to the caller, whole or piece by piece. It is not recorded here.

use std::{pin::Pin, sync::Arc};

use actix_web::{
    HttpResponse,
    body::{BodyStream, BoxBody, SizedStream},
    http::{
        StatusCode,
        header::{HeaderName as ActixName, HeaderValue as ActixValue},
    },
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::HeaderMap;
use tokio::sync::{Semaphore, mpsc};

use super::upstream::Failure;

pub struct Answer {
    pub status: u16,
    /// The headers without Content-Length, which the body gives.
    pub headers: HeaderMap,
    pub body: AnswerBody,
}

pub type PieceStream = Pin<Box<dyn Stream<Item = Result<Bytes, BrokenOff>> + Send>>;

pub enum AnswerBody {
    Whole(Bytes),
    /// No body, but a HEAD is told how long it would be.
    Announced(Option<u64>),
    Pieces {
        length: Option<u64>,
        pieces: PieceStream,
    },
}

/// The answer breaks off: the caller sees its connection close before the end.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BrokenOff(pub String);

impl Answer {
    pub fn into_response(self, is_head: bool) -> HttpResponse {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let body = match self.body {
            AnswerBody::Whole(bytes) => BoxBody::new(bytes),
            AnswerBody::Announced(Some(length)) if is_head => BoxBody::new(SizedStream::new(
                length,
                stream::empty::<Result<Bytes, BrokenOff>>(),
            )),
            AnswerBody::Announced(_) => BoxBody::new(()),
            AnswerBody::Pieces {
                length: Some(length),
                pieces,
            } => BoxBody::new(SizedStream::new(length, pieces)),
            AnswerBody::Pieces {
                length: None,
                pieces,
            } => BoxBody::new(BodyStream::new(pieces)),
        };
        let mut response = HttpResponse::with_body(status, body);
        for (name, value) in &self.headers {
            if let (Ok(name), Ok(value)) = (
                ActixName::from_bytes(name.as_str().as_bytes()),
                ActixValue::from_bytes(value.as_bytes()),
            ) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

/// Pieces of an answer between the call and its caller. At most `room_bytes` of them wait to be
/// taken; a larger piece waits alone.
pub struct Pieces {
    sender: mpsc::UnboundedSender<Result<Bytes, BrokenOff>>,
    room: Arc<Semaphore>,
    room_bytes: usize,
    is_gone: bool,
}

impl Pieces {
    pub fn new(room_bytes: usize) -> (Self, PieceStream) {
        let (sender, receiver) = mpsc::unbounded_channel::<Result<Bytes, BrokenOff>>();
        let room = Arc::new(Semaphore::new(room_bytes));
        let given_back = room.clone();
        let stream = stream::unfold(
            (receiver, given_back),
            move |(mut receiver, room)| async move {
                let piece = receiver.recv().await?;
                if let Ok(piece) = &piece {
                    room.add_permits(piece.len().min(room_bytes));
                }
                Some((piece, (receiver, room)))
            },
        );
        (
            Self {
                sender,
                room,
                room_bytes,
                is_gone: false,
            },
            Box::pin(stream),
        )
    }

    /// Sends a piece once there is room. A caller that takes nothing within `timeout` counts as
    /// gone.
    pub async fn send(&mut self, piece: Bytes, timeout: std::time::Duration) {
        if self.is_gone {
            return;
        }
        let bytes = u32::try_from(piece.len().min(self.room_bytes)).unwrap_or(u32::MAX);
        let room = tokio::select! {
            room = tokio::time::timeout(timeout, self.room.acquire_many(bytes)) => room,
            () = self.sender.closed() => return self.is_gone = true,
        };
        match room {
            Ok(Ok(room)) => {
                room.forget();
                self.is_gone = self.sender.send(Ok(piece)).is_err();
            }
            _ => {
                let _ = self
                    .sender
                    .send(Err(BrokenOff("the caller takes too long".into())));
                self.is_gone = true;
            }
        }
    }

    pub fn break_off(self, failure: &Failure) {
        let _ = self.sender.send(Err(BrokenOff(failure.to_string())));
    }
}
