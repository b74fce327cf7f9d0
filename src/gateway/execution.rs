//! The holder of a key sends its request, passes the answer on, and records it. The end of the
//! answer reaches the caller after the commit, so whoever has seen all of it will get the same
//! again. The claim was committed before, so a holder that is lost counts as one that has sent.
//! Whether a request is executed is not decided here.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, StatusCode, header::CONTENT_LENGTH, response};
use hyper::body::{Body as _, Incoming};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    backoff::{Backoff, jittered},
    contract::{StepEnd, StepState},
    event::digest_of,
    gateway::{
        Gateway,
        answer::{Answer, AnswerBody, Pieces},
        front::Fate,
        headers,
        kept::Kept,
        operation::{self, Call, Reply},
        refusal::Refusal,
        upstream::{self, Failure},
    },
    ledger::kept::KeptAnswer,
    store::ledger::{self, Abandonment, Completion, Fenced, Resolution, StepAddress},
};

/// An answer of at most this size is passed on whole.
const WHOLE_BYTES_MAX: u64 = 64 << 10;
/// How much of an answer may be on its way to a slow caller.
const ROOM_BYTES: usize = 64 << 10;
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// How long an answer that could not be recorded is kept in memory for another try.
const RECORD_FOR: Duration = Duration::from_secs(600);

pub struct Execution {
    gateway: Arc<Gateway>,
    call: Call,
    place: StepAddress,
    fence: i64,
    reply: oneshot::Sender<Reply>,
    /// Extends the lease until this is dropped.
    _beat: AbortOnDropHandle<()>,
}

/// What an attempt brought: a whole answer, or one that has begun.
enum Answered {
    Whole(response::Parts, Bytes),
    Begun(response::Parts, Incoming),
}

impl Answered {
    fn status(&self) -> StatusCode {
        match self {
            Self::Whole(head, _) | Self::Begun(head, _) => head.status,
        }
    }
}

/// The part of an answer that is recorded with its body.
struct Ending {
    status: u16,
    headers: http::HeaderMap,
    fate: Fate,
}

impl Execution {
    pub fn new(
        gateway: Arc<Gateway>,
        call: Call,
        place: StepAddress,
        fence: i64,
        reply: oneshot::Sender<Reply>,
    ) -> Self {
        let beat =
            AbortOnDropHandle::new(tokio::spawn(beat(gateway.clone(), place.clone(), fence)));
        Self {
            gateway,
            call,
            place,
            fence,
            reply,
            _beat: beat,
        }
    }

    pub async fn run(self) {
        let mut attempt = 1;
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        loop {
            let cut = Failure::Broken("hookonce was stopped".into());
            let answered = tokio::select! {
                answered = self.attempt() => answered,
                () = self.gateway.cut.cancelled() => Err(cut),
            };
            let may_retry = self.call.rule.upstream_idempotent
                && attempt < self.gateway.settings.attempts_max
                && !self.gateway.cut.is_cancelled();
            match answered {
                // An answer that says nothing is as good as none.
                Ok(answered)
                    if may_retry && self.gateway.fate(answered.status()) == Fate::Unknown => {}
                Ok(Answered::Whole(head, body)) => return self.finish(head, body).await,
                Ok(Answered::Begun(head, body)) => return self.pass_on(head, body).await,
                Err(_) if may_retry => {}
                Err(failure) => return self.fail(failure).await,
            }
            attempt += 1;
            tokio::time::sleep(jittered(backoff.pause(), 0.5)).await;
        }
    }

    async fn attempt(&self) -> Result<Answered, Failure> {
        let Call {
            outgoing,
            body,
            rule,
            ..
        } = &self.call;
        let mut request = Request::new(upstream::full(body.clone()));
        *request.method_mut() = outgoing.method.clone();
        *request.uri_mut() = outgoing.uri.clone();
        *request.headers_mut() = outgoing.headers.clone();
        let key_header = &self.gateway.key_header;
        if !rule.upstream_idempotent {
            request.headers_mut().remove(key_header);
        } else if let Ok(key) = HeaderValue::from_str(&self.call.key)
            && !request.headers().contains_key(key_header)
        {
            request.headers_mut().insert(key_header, key);
        }
        let settings = &self.gateway.settings;
        let (head, mut body) = upstream::send(&self.gateway.client, request, settings.timeout.0)
            .await?
            .into_parts();
        let whole_max = WHOLE_BYTES_MAX.min(settings.body_kept_max.0);
        if !body.is_end_stream()
            && body
                .size_hint()
                .upper()
                .is_none_or(|bytes| bytes > whole_max)
        {
            return Ok(Answered::Begun(head, body));
        }
        let mut whole = BytesMut::new();
        while let Some(piece) = upstream::piece(&mut body, settings.idle_timeout.0).await? {
            whole.extend_from_slice(&piece);
        }
        Ok(Answered::Whole(head, whole.freeze()))
    }

    fn ending(&self, head: response::Parts) -> (Ending, http::HeaderMap) {
        let fate = self.gateway.fate(head.status);
        let headers = headers::returned(head.headers);
        let mut marked = headers.clone();
        operation::mark(
            &mut marked,
            self.gateway.clock.utc(),
            false,
            (fate == Fate::Kept).then_some(self.gateway.settings.keep.0),
        );
        (
            Ending {
                status: head.status.as_u16(),
                headers,
                fate,
            },
            marked,
        )
    }

    /// Records the answer, then sends it.
    async fn finish(self, head: response::Parts, body: Bytes) {
        let (ending, headers) = self.ending(head);
        let answer = Answer {
            status: ending.status,
            headers,
            body: AnswerBody::Whole(body.clone()),
        };
        let later = self.record(&ending, Some(&body), body.len() as u64).await;
        let _ = self.reply.send(Ok(answer));
        if let Some(completion) = later {
            record_later(&self.gateway, completion).await;
        }
    }

    /// Passes an answer on as it comes, all but its last piece. That is sent once the answer is
    /// recorded.
    async fn pass_on(self, mut head: response::Parts, mut body: Incoming) {
        let settings = &self.gateway.settings;
        // If an answer has both a length and chunks, the chunks count (RFC 9112, 6.3). So the
        // length is taken from the body itself.
        head.headers.remove(CONTENT_LENGTH);
        let length = body.size_hint().exact();
        let (ending, headers) = self.ending(head);
        let (mut pieces, stream) = Pieces::new(ROOM_BYTES);
        let mut kept = Kept::new(settings.body_kept_max.bytes(), self.gateway.answers.clone());
        let (idle_timeout, cut) = (settings.idle_timeout.0, self.gateway.cut.clone());
        // The caller has its answer from here on, so the rest of the execution has no reply to
        // give.
        let Self {
            gateway,
            place,
            fence,
            reply,
            _beat,
            call,
        } = self;
        let _ = reply.send(Ok(Answer {
            status: ending.status,
            headers,
            body: AnswerBody::Pieces {
                length,
                pieces: stream,
            },
        }));
        let (reply, _) = oneshot::channel();
        let this = Self {
            gateway,
            call,
            place,
            fence,
            reply,
            _beat,
        };
        let (mut bytes, mut last) = (0_u64, None);
        loop {
            let piece = tokio::select! {
                piece = upstream::piece(&mut body, idle_timeout) => piece,
                () = cut.cancelled() => Err(Failure::Broken("hookonce was stopped".into())),
            };
            match piece {
                Ok(Some(piece)) => {
                    bytes += piece.len() as u64;
                    kept.add(&piece);
                    if let Some(before) = last.replace(piece) {
                        pieces.send(before, idle_timeout).await;
                    }
                }
                Ok(None) => break,
                Err(failure) => {
                    this.give_up(&failure).await;
                    return pieces.break_off(&failure);
                }
            }
        }
        let later = this.record(&ending, kept.body(), bytes).await;
        if let Some(last) = last {
            pieces.send(last, idle_timeout).await;
        }
        drop(pieces);
        if let Some(completion) = later {
            record_later(&this.gateway, completion).await;
        }
    }

    /// Records the answer for all who ask later. Returns it if the database can't take it now.
    async fn record(&self, ending: &Ending, body: Option<&[u8]>, bytes: u64) -> Option<Completion> {
        match ending.fate {
            Fate::Kept => {}
            Fate::Free => {
                operation::release(&self.gateway, &self.place, self.fence).await;
                return None;
            }
            Fate::Unknown => {
                self.give_up(&Failure::Undecided(ending.status)).await;
                return None;
            }
        }
        let pairs = headers::to_pairs(&ending.headers);
        let kept = match body {
            Some(body) if body.len() <= self.gateway.settings.body_kept_max.bytes() => {
                KeptAnswer::whole(ending.status, pairs, body)
            }
            _ => KeptAnswer::without_body(ending.status, pairs, bytes),
        };
        let result = kept.json();
        let completion = Completion {
            place: self.place.clone(),
            fence: self.fence,
            end: if ending.status < 400 {
                StepEnd::Done
            } else {
                StepEnd::Failed
            },
            digest: Sha256::digest(&result).into(),
            result,
            result_not_kept: None,
            keep_seconds: self.gateway.settings.keep.as_secs_f64()
                + self.gateway.settings.expired_keep.as_secs_f64(),
            emit: Vec::new(),
        };
        (!record_once(&self.gateway, &completion).await).then_some(completion)
    }

    /// Ends without an answer. The key is free if nothing was sent. Otherwise the request may be
    /// sent again if the upstream knows the key, and its outcome is unknown if not.
    async fn fail(self, failure: Failure) {
        let refusal = if let Failure::NeverSent(why) = &failure {
            operation::release(&self.gateway, &self.place, self.fence).await;
            Refusal::NeverSent(why.clone())
        } else {
            self.give_up(&failure).await;
            if self.call.rule.upstream_idempotent {
                Refusal::SendAgain(failure.to_string())
            } else {
                Refusal::OutcomeUnknown {
                    key: self.call.key.clone(),
                    caller: self.call.caller.to_string(),
                    fence: self.fence,
                }
            }
        };
        let _ = self.reply.send(Err(refusal));
    }

    /// Tells the ledger that the outcome is not known, so that nobody has to wait for the lease to
    /// end. The end of the lease would have the same result.
    async fn give_up(&self, failure: &Failure) {
        let error = serde_json::json!({ "gateway": failure.to_string() }).to_string();
        let settings = &self.gateway.settings;
        let abandonment = Abandonment {
            fence: self.fence,
            digest: digest_of(["abandon", &error]),
            error,
            keep_seconds: settings.keep.as_secs_f64() + settings.expired_keep.as_secs_f64(),
        };
        match ledger::abandon(&self.gateway.pool, &self.place, &abandonment).await {
            Ok(Fenced::Done(abandoned)) => {
                self.gateway.ledger.abandoned(&self.place, abandoned.state);
            }
            Ok(_) => self.gateway.ledger.waiters.wake(&self.place),
            Err(error) => {
                tracing::warn!(%error, step = %self.place.step, "a lost call will be known as unknown when its lease ends");
            }
        }
    }
}

/// Tries to record once. Returns whether there is nothing left to do.
async fn record_once(gateway: &Gateway, completion: &Completion) -> bool {
    match gateway.ledger.complete(completion.clone()).await {
        Ok(Fenced::Done(_)) => true,
        // The lease was over and somebody asked meanwhile, so the step is unknown; here is its
        // outcome.
        Ok(Fenced::Stale(fence, state))
            if fence == completion.fence && state == StepState::Unknown =>
        {
            resolve(gateway, completion).await
        }
        Ok(Fenced::Stale(fence, state)) => {
            tracing::warn!(step = %completion.place.step, given = completion.fence, fence, %state, "an answer came too late to be kept");
            true
        }
        Ok(Fenced::Missing) => true,
        Err(error) => {
            tracing::warn!(%error, step = %completion.place.step, "an answer was not recorded yet");
            false
        }
    }
}

async fn resolve(gateway: &Gateway, completion: &Completion) -> bool {
    let resolution = Resolution {
        expected_fence: completion.fence,
        end: Some(completion.end),
        result: Some(completion.result.clone()),
        evidence: r#"{"gateway":"the answer came after the lease was over"}"#.into(),
        digest: completion.digest,
        keep_seconds: completion.keep_seconds,
    };
    let resolved = ledger::resolve(&gateway.pool, &completion.place, &resolution).await;
    gateway.ledger.waiters.wake(&completion.place);
    resolved.is_ok()
}

/// Keeps trying to record an answer that the caller already has. Meanwhile a repeat finds the key
/// running, later unknown.
async fn record_later(gateway: &Gateway, completion: Completion) {
    let until = tokio::time::Instant::now() + RECORD_FOR;
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
    while tokio::time::Instant::now() < until && !gateway.cut.is_cancelled() {
        tokio::time::sleep(backoff.pause()).await;
        if record_once(gateway, &completion).await {
            return;
        }
    }
    tracing::error!(step = %completion.place.step, "an answer was never recorded: its key will be unknown");
}

async fn beat(gateway: Arc<Gateway>, place: StepAddress, fence: i64) {
    let lease = gateway.settings.lease;
    loop {
        tokio::time::sleep(lease.0 / 3).await;
        match ledger::heartbeat(&gateway.pool, &place, fence, lease.as_secs_f64()).await {
            Ok(Fenced::Done(_)) => {}
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, step = %place.step, "a call's lease was not extended")
            }
        }
    }
}
