//! A request with a key: it is read whole, claimed, and then executed, replayed or refused. Once it
//! has begun it no longer depends on its connection. Who may execute it is the ledger's decision.

use std::{sync::Arc, time::Duration};

use actix_web::{HttpRequest, web};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    contract::OnLost,
    event::run_key,
    gateway::{
        Gateway,
        answer::{Answer, AnswerBody},
        execution::Execution,
        front::Rule,
        headers::{self, Outgoing},
        key,
        operation::{Call, FREE_RETRY, Reply, mark, release},
        refusal::Refusal,
    },
    group_commit::CommitError,
    ids,
    ledger::{About, kept::KeptAnswer},
    port::{
        body::{self, Limits, announced},
        reading::Share,
    },
    store::ledger::{Claim, Claimed, NewClaim, StepAddress},
};

/// How much of a path is kept with its claim.
const PATH_CHARS_MAX: usize = 500;

/// A request with what makes it one operation: its key and fingerprint.
pub struct Keyed {
    pub key: String,
    pub fingerprint: [u8; 32],
    pub body: Bytes,
    pub rule: Rule,
}

/// Reads a body of at most `body_max`, within the room that all bodies share.
pub async fn read_body(
    gateway: &Gateway,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<(Bytes, Share), Refusal> {
    let share = Share::new(&gateway.buffered);
    let limits = Limits {
        bytes_max: gateway.settings.body_max.bytes(),
        timeout: gateway.settings.body_timeout.0,
        idle_timeout: Some(gateway.settings.idle_timeout.0),
        address: request.peer_addr().map(|peer| peer.ip()),
        source: None,
    };
    let body = body::read_body(payload, announced(request.headers()), &limits, &share).await;
    Ok((body?, share))
}

/// How long the caller is willing to wait for the first request: `Prefer: wait=n`, in seconds (RFC
/// 7240).
fn preferred_wait(request: &HttpRequest) -> Option<Duration> {
    let values = request
        .headers()
        .get_all("prefer")
        .filter_map(|value| value.to_str().ok());
    let mut preferences = values
        .flat_map(|value| value.split([',', ';']))
        .filter_map(|preference| preference.split_once('='));
    let (_, seconds) = preferences.find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))?;
    seconds
        .trim()
        .trim_matches('"')
        .parse()
        .ok()
        .map(Duration::from_secs)
}

pub async fn start(
    gateway: &Arc<Gateway>,
    request: &HttpRequest,
    outgoing: Outgoing,
    keyed: Keyed,
    room: (OwnedSemaphorePermit, Share),
) -> Reply {
    let Keyed {
        key,
        fingerprint,
        body,
        rule,
    } = keyed;
    let wait = preferred_wait(request)
        .unwrap_or(gateway.settings.wait.0)
        .min(gateway.ledger.wait_max());
    let caller = key::caller(request.headers(), &gateway.settings.caller);
    let by_header = || key::caller_name(request.headers(), &gateway.settings.caller);
    let caller_name = gateway.callers.get(&caller).cloned();
    let shown = caller_name.clone().or_else(by_header);
    let call = Call {
        outgoing,
        body,
        key,
        caller_name,
        caller: caller.into(),
        rule,
        fingerprint,
        about: About {
            caller: shown,
            method: request.method().to_string(),
            path: request.path().chars().take(PATH_CHARS_MAX).collect(),
        },
        wait,
        _room: room,
    };
    let (reply, answer) = oneshot::channel();
    gateway
        .tasks
        .spawn_on(decide(gateway.clone(), call, reply), &gateway.runtime);
    answer.await.unwrap_or(Err(Refusal::Internal))
}

async fn decide(gateway: Arc<Gateway>, call: Call, reply: oneshot::Sender<Reply>) {
    let id = ids::new();
    let claim = NewClaim {
        place: StepAddress {
            key: run_key(&gateway.tenant, &call.caller),
            step: call.key.as_str().into(),
        },
        tenant: gateway.tenant.clone(),
        run: call.caller.clone(),
        id,
        claim_id: id.simple().to_string(),
        owner: call.caller_name.clone(),
        lease_seconds: gateway.settings.lease.as_secs_f64(),
        on_lost: if call.rule.upstream_idempotent {
            OnLost::Retry
        } else {
            OnLost::Hold
        },
        input_hash: Some(format!("sha256:{}", hex::encode(call.fingerprint))),
        about: Some(call.about.to_json()),
    };
    let said = match gateway
        .ledger
        .claim(&claim, call.wait, || !reply.is_closed())
        .await
    {
        Ok(Claim::Granted(row)) => {
            return Execution::new(gateway, call, claim.place, row.fence, reply)
                .run()
                .await;
        }
        Ok(Claim::Ended(row)) => replay(&gateway, &row),
        Ok(Claim::InputChanged(row)) => Err(expired(&gateway, &row).unwrap_or(Refusal::KeyReused)),
        Ok(Claim::Running(row) | Claim::ClaimIdReused(row)) => Err(Refusal::InProgress {
            lease_left_seconds: row.lease_left.unwrap_or_default(),
        }),
        Ok(Claim::Unknown(row)) => Err(Refusal::OutcomeUnknown {
            key: call.key,
            caller: call.caller.to_string(),
            fence: row.fence,
        }),
        Err(CommitError::Busy) => Err(Refusal::Busy),
        Err(CommitError::Refused) => Err(Refusal::Refused),
        Err(CommitError::Unavailable) => {
            let _ = reply.send(Err(Refusal::Unavailable));
            return free(&gateway, &claim).await;
        }
    };
    let _ = reply.send(said);
}

/// Frees the key of a claim whose commit was not seen. Nothing was sent, so the key must not become
/// unknown.
async fn free(gateway: &Gateway, claim: &NewClaim) {
    let until = tokio::time::Instant::now() + gateway.settings.lease.0;
    while tokio::time::Instant::now() < until && !gateway.cut.is_cancelled() {
        match gateway.ledger.claim(claim, Duration::ZERO, || true).await {
            Ok(Claim::Granted(row)) => return release(gateway, &claim.place, row.fence).await,
            Ok(_) => return,
            Err(_) => tokio::time::sleep(FREE_RETRY).await,
        }
    }
}

fn expired(gateway: &Gateway, row: &Claimed) -> Option<Refusal> {
    row.ended_age()
        .is_some_and(|age| age > gateway.settings.keep.as_secs_f64())
        .then_some(Refusal::KeyExpired)
}

/// The recorded answer, from the row that the claim has read.
fn replay(gateway: &Gateway, row: &Claimed) -> Reply {
    if let Some(refusal) = expired(gateway, row) {
        return Err(refusal);
    }
    let kept = KeptAnswer::read(row.result.as_deref().unwrap_or_default()).map_err(|error| {
        tracing::error!(%error, "a kept answer can't be read");
        Refusal::Internal
    })?;
    let Ok(Some(body)) = kept.body() else {
        return Err(Refusal::BodyNotRetained {
            status: kept.status,
            bytes: kept.body_bytes,
        });
    };
    let mut headers = headers::from_pairs(&kept.headers);
    mark(
        &mut headers,
        gateway.clock.utc(),
        true,
        Some(gateway.settings.keep.saturating_sub(
            Duration::try_from_secs_f64(row.ended_age().unwrap_or_default()).unwrap_or_default(),
        )),
    );
    Ok(Answer {
        status: kept.status,
        headers,
        body: AnswerBody::Whole(body.into()),
    })
}
