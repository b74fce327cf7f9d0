//! The live tail as server-sent events: one `data:` line of JSON per line of the tail.

use std::{convert::Infallible, sync::Arc, time::Duration};

use actix_web::{HttpResponse, http::header, web};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;

use crate::{
    http::{
        answer::EventStream,
        state::AdminState,
        tokens::{Grant, TokenDigest},
    },
    tail::TailLine,
};

/// A comment is sent after this long without a line, so that proxies and clients see that the
/// connection lives.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How often the reader's token is checked again, so that a revoked one ends the stream.
const LOOK: Duration = Duration::from_secs(1);

pub async fn stream(state: web::Data<AdminState>, grant: web::ReqData<Grant>) -> EventStream {
    let start = (state.tail.read(), state.closing.clone(), true);
    let body = stream::unfold(start, |(mut reader, closing, first)| async move {
        // The head of an answer leaves with its first bytes. Without them a client would not know
        // that it is connected until the first event.
        let chunk = if first {
            Bytes::from_static(b": hookonce\n\n")
        } else {
            next_chunk(&mut reader, &closing).await?
        };
        Some((Ok::<_, Infallible>(chunk), (reader, closing, false)))
    });
    let body = body.take_until(revoked(state, grant.digest));
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"));
    EventStream(answer.streaming(body))
}

/// Returns when the token is no longer in force. While the database cannot be asked, it counts as
/// in force.
async fn revoked(state: web::Data<AdminState>, digest: TokenDigest) {
    while !matches!(state.tokens.is_in_force(&digest).await, Ok(false)) {
        tokio::time::sleep(LOOK).await;
    }
}

/// The next chunk, or None when the service stops.
async fn next_chunk(
    reader: &mut Receiver<Arc<TailLine>>,
    closing: &CancellationToken,
) -> Option<Bytes> {
    tokio::select! {
        () = closing.cancelled() => None,
        received = tokio::time::timeout(SILENCE_MAX, reader.recv()) => match received {
            Ok(Ok(line)) => Some(format!("data: {}\n\n", serde_json::to_string(&*line).ok()?).into()),
            Ok(Err(RecvError::Lagged(lines))) => Some(format!("event: missed\ndata: {{\"lines\":{lines}}}\n\n").into()),
            Ok(Err(RecvError::Closed)) => None,
            Err(_) => Some(Bytes::from_static(b": alive\n\n")),
        }
    }
}
