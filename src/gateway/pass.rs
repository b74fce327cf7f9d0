//! Requests that need no key are passed on as they are, streamed both ways. They end when their
//! caller goes away, and nothing of them is recorded.

use std::{io, time::Duration};

use actix_web::web;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, header::CONTENT_LENGTH};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Body as _, Frame};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{
    Gateway,
    answer::{Answer, AnswerBody, BrokenOff},
    headers::{self, Outgoing},
    refusal::Refusal,
    upstream::{self, Body, Failure},
};

/// Limit of the pieces of a request's body that wait to be sent.
const PIECES_MAX: usize = 4;

pub async fn pass(
    gateway: &Gateway,
    outgoing: Outgoing,
    payload: web::Payload,
    permit: OwnedSemaphorePermit,
) -> Result<Answer, Refusal> {
    let body = if outgoing.has_body {
        streamed(payload, gateway.settings.idle_timeout.0)
    } else {
        upstream::empty()
    };
    exchange(gateway, outgoing, body, permit).await
}

/// Passes a request on whose body was read to look for a key.
pub async fn pass_body(
    gateway: &Gateway,
    outgoing: Outgoing,
    body: Bytes,
    permit: OwnedSemaphorePermit,
) -> Result<Answer, Refusal> {
    exchange(gateway, outgoing, upstream::full(body), permit).await
}

/// Streams a request's body to the upstream. A channel lies between, because the body can't leave
/// its connection's thread, and the upstream's connection may be on another.
fn streamed(mut payload: web::Payload, idle_timeout: Duration) -> Body {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    actix_web::rt::spawn(async move {
        loop {
            let piece = match tokio::time::timeout(idle_timeout, payload.next()).await {
                Ok(None) => return,
                Ok(Some(piece)) => piece.map_err(|error| io::Error::other(error.to_string())),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            let is_last = piece.is_err();
            if sender.send(piece.map(Frame::data)).await.is_err() || is_last {
                return;
            }
        }
    });
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    StreamBody::new(pieces).boxed_unsync()
}

async fn exchange(
    gateway: &Gateway,
    outgoing: Outgoing,
    body: Body,
    permit: OwnedSemaphorePermit,
) -> Result<Answer, Refusal> {
    let mut request = Request::new(body);
    *request.method_mut() = outgoing.method;
    *request.uri_mut() = outgoing.uri;
    *request.headers_mut() = outgoing.headers;
    let response = upstream::send(&gateway.client, request, gateway.settings.timeout.0)
        .await
        .map_err(|failure| match failure {
            Failure::NeverSent(_) => Refusal::UpstreamUnreachable(failure.to_string()),
            Failure::Late(_) => Refusal::UpstreamLate(failure.to_string()),
            Failure::Broken(_) | Failure::Undecided(_) => {
                Refusal::UpstreamFailed(failure.to_string())
            }
        })?;
    let (head, body) = response.into_parts();
    let idle_timeout = gateway.settings.idle_timeout.0;
    let body = if body.is_end_stream() {
        // The length that an answer to a HEAD announces, although it has no body.
        AnswerBody::Announced(
            head.headers
                .get(CONTENT_LENGTH)
                .and_then(|length| length.to_str().ok()?.parse().ok()),
        )
    } else {
        let length = body.size_hint().exact();
        let pieces = stream::unfold((body, permit), move |(mut body, permit)| async move {
            match upstream::piece(&mut body, idle_timeout).await {
                Ok(piece) => piece.map(|piece| (Ok(piece), (body, permit))),
                Err(failure) => Some((Err(BrokenOff(failure.to_string())), (body, permit))),
            }
        });
        AnswerBody::Pieces {
            length,
            pieces: Box::pin(pieces),
        }
    };
    Ok(Answer {
        status: head.status.as_u16(),
        headers: headers::returned(head.headers),
        body,
    })
}
