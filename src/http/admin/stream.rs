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

/// A comment is sent when nothing else was for so long: proxies and clients see that the line is
/// alive.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// So often its token is looked at again: whoever may see no more of it sees no more.
const LOOK: Duration = Duration::from_secs(1);

pub async fn stream(state: web::Data<AdminState>, grant: web::ReqData<Grant>) -> EventStream {
    let start = (state.tail.read(), state.closing.clone(), true);
    let body = stream::unfold(start, |(mut reader, closing, first)| async move {
        // An answer's head leaves with its first bytes: without them a client would wait for the
        // first event to know that it is connected.
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

/// Ends when the token is no longer in force. While the database can't say so it is.
async fn revoked(state: web::Data<AdminState>, digest: TokenDigest) {
    while !matches!(state.tokens.is_in_force(&digest).await, Ok(false)) {
        tokio::time::sleep(LOOK).await;
    }
}

/// None when the service stops.
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
