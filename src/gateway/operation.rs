//! What deciding a call with a key and executing it have in common: the call, its reply, and how a
//! key is freed.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use actix_web::http::header::HttpDate;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use time::OffsetDateTime;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    answer::Answer,
    front::{Gateway, Rule},
    headers::Outgoing,
    refusal::Refusal,
};
use crate::{
    ledger::About,
    port::reading::Share,
    store::ledger::{self, StepAddress},
};

/// Pause before the database is asked again to free a key.
pub const FREE_RETRY: Duration = Duration::from_millis(500);

/// What a caller is told: an answer or a refusal.
pub type Reply = Result<Answer, Refusal>;

/// A request, detached from its connection.
pub struct Call {
    pub outgoing: Outgoing,
    pub body: Bytes,
    pub key: String,
    pub caller: Arc<str>,
    /// The caller's name in the settings.
    pub caller_name: Option<String>,
    pub rule: Rule,
    /// Equal in a repeat; see `key::fingerprint`.
    pub fingerprint: [u8; 32],
    /// Kept with the claim.
    pub about: About,
    /// How long the call may wait for the first one with its key.
    pub wait: Duration,
    /// Its place among the calls, and its body's among the bodies. Both are given back when it is
    /// dropped.
    pub _room: (OwnedSemaphorePermit, Share),
}

/// Frees a key: it is as good as never used, and may come with another request next.
pub async fn release(gateway: &Gateway, place: &StepAddress, fence: i64) {
    let keep_seconds = gateway.settings.keep.as_secs_f64();
    let until = tokio::time::Instant::now() + gateway.settings.lease.0;
    loop {
        match ledger::release(&gateway.pool, place, fence, keep_seconds, true).await {
            Ok(_) => return gateway.ledger.waiters.wake(place),
            Err(error) if tokio::time::Instant::now() >= until || gateway.cut.is_cancelled() => {
                tracing::error!(%error, step = %place.step, "a key could not be freed: it will be unknown although nothing was sent");
                return;
            }
            Err(_) => tokio::time::sleep(FREE_RETRY).await,
        }
    }
}

/// Adds the headers in which a gateway says whether an answer was replayed. `left`: how long the
/// answer will be given again, from now.
pub fn mark(
    headers: &mut HeaderMap,
    now: OffsetDateTime,
    is_replayed: bool,
    left: Option<Duration>,
) {
    headers.insert(
        "idempotent-replayed",
        HeaderValue::from_static(if is_replayed { "true" } else { "false" }),
    );
    headers.remove("idempotency-expires");
    let expires = left
        .and_then(|left| SystemTime::from(now).checked_add(left))
        .map(|at| HttpDate::from(at).to_string());
    if let Some(expires) = expires.and_then(|expires| HeaderValue::try_from(expires).ok()) {
        headers.insert("idempotency-expires", expires);
    }
}
