//! Endings of attempts, in batches: a delivery is delivered, dead, due again, or given back
//! untried. Which of these it is, the worker decides.

use sqlx::PgExecutor;
use uuid::Uuid;

use crate::{contract::DeliveryId, event::Key};

/// One attempt as it is kept.
#[derive(Debug)]
pub struct Attempt {
    pub id: Uuid,
    pub started_at: time::OffsetDateTime,
    pub latency_ms: i32,
    pub status: Option<i16>,
    /// The stable class of the failure. None if the handler took the event.
    pub error: Option<&'static str>,
    pub detail: Option<String>,
    pub response: Option<Vec<u8>>,
}

/// What becomes of a leased delivery.
#[derive(Debug)]
pub enum Finish {
    Delivered(Attempt),
    Dead(Attempt),
    Retry(Attempt, /* delay in seconds */ f64),
    /// Given back untried: no attempt is counted. The delivery is due again after this many
    /// seconds.
    Release(f64),
}

#[derive(Debug)]
pub struct Finished {
    pub id: DeliveryId,
    pub key: Key,
    pub epoch: i64,
    pub number: i32,
    pub finish: Finish,
}

impl Finished {
    fn attempt(&self) -> Option<&Attempt> {
        match &self.finish {
            Finish::Delivered(attempt) | Finish::Dead(attempt) | Finish::Retry(attempt, _) => {
                Some(attempt)
            }
            Finish::Release(_) => None,
        }
    }

    fn state(&self) -> &'static str {
        match self.finish {
            Finish::Delivered(_) => "delivered",
            Finish::Dead(_) => "dead",
            Finish::Retry(..) => "retry",
            Finish::Release(_) => "release",
        }
    }

    fn delay_seconds(&self) -> f64 {
        match self.finish {
            Finish::Retry(_, seconds) | Finish::Release(seconds) => seconds,
            _ => 0.0,
        }
    }
}

/// Writes how leased deliveries ended, with their attempts, in one statement. Rows are found by
/// their primary key, as in `claim`. Returns the ids that still had their epoch. For any other the
/// lease was lost, and nothing was changed.
pub async fn finish(
    executor: impl PgExecutor<'_>,
    batch: &[&Finished],
) -> Result<Vec<Uuid>, sqlx::Error> {
    let ids: Vec<Uuid> = batch.iter().map(|row| row.id.0).collect();
    let keys: Vec<Uuid> = batch.iter().map(|row| row.key.0).collect();
    let epochs: Vec<i64> = batch.iter().map(|row| row.epoch).collect();
    let states: Vec<&str> = batch.iter().map(|row| row.state()).collect();
    let delays: Vec<f64> = batch.iter().map(|row| row.delay_seconds()).collect();
    let numbers: Vec<i32> = batch.iter().map(|row| row.number).collect();
    let attempts: Vec<Option<&Attempt>> = batch.iter().map(|row| row.attempt()).collect();
    let attempt_ids: Vec<Option<Uuid>> = attempts
        .iter()
        .map(|attempt| attempt.map(|attempt| attempt.id))
        .collect();
    let started: Vec<Option<time::OffsetDateTime>> = attempts
        .iter()
        .map(|attempt| attempt.map(|attempt| attempt.started_at))
        .collect();
    let latencies: Vec<i32> = attempts
        .iter()
        .map(|attempt| attempt.map_or(0, |attempt| attempt.latency_ms))
        .collect();
    let statuses: Vec<Option<i16>> = attempts
        .iter()
        .map(|attempt| attempt.and_then(|attempt| attempt.status))
        .collect();
    let errors: Vec<Option<&str>> = attempts
        .iter()
        .map(|attempt| attempt.and_then(|attempt| attempt.error))
        .collect();
    let details: Vec<Option<&str>> = attempts
        .iter()
        .map(|attempt| attempt.and_then(|attempt| attempt.detail.as_deref()))
        .collect();
    let responses: Vec<Option<&[u8]>> = attempts
        .iter()
        .map(|attempt| attempt.and_then(|attempt| attempt.response.as_deref()))
        .collect();
    sqlx::query_file_scalar!(
        "src/store/delivery/finish.sql",
        &ids,
        &keys,
        &epochs,
        &states as &[&str],
        &delays,
        &numbers,
        &attempt_ids as &[Option<Uuid>],
        &started as &[Option<time::OffsetDateTime>],
        &latencies,
        &statuses as &[Option<i16>],
        &errors as &[Option<&str>],
        &details as &[Option<&str>],
        &responses as &[Option<&[u8]>],
    )
    .fetch_all(executor)
    .await
}
