//! Open deliveries: claimed by key set, finished under a fence, rescued when their lease is over. Only the database's time counts.

use std::{collections::HashMap, sync::Arc, time::Instant};

use sqlx::PgExecutor;
use uuid::Uuid;

use crate::{
    event::{Key, Mark},
    handoff::{Leased, RelayEvent},
    store::link::Db,
};

/// Due deliveries of these destinations, the longest due first, at most `wanted` of each. Takes no lock: `claim` decides who wins.
async fn due(pool: &Db, destinations: &[&str], wanted: &[i64]) -> Result<Vec<(Uuid, Key, i64, i32)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select o.id, o.key, o.epoch, o.body_bytes
          from unnest($1::text[], $2::bigint[]) as d (destination, wanted)
         cross join lateral (
               select id, key, epoch, body_bytes from outbox
                where destination = d.destination and state = 'pending' and due_at <= now()
                order by due_at
                limit d.wanted) as o
         where not exists (select from destination_pause p where p.destination = d.destination)
        "#,
        destinations as &[&str],
        wanted,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.key, row.epoch, row.body_bytes)).collect())
}

/// Takes due deliveries, by their primary key: states are compared so that no partial index seems to serve, which is read to its end where the
/// statistics are of another hour. Each epoch is raised only where it is still the one that was seen, so two nodes can't both win. Returns them by
/// destination; bodies add up to at most `bytes_max`, but one is always taken.
pub async fn claim(
    pool: &Db,
    node: Uuid,
    lease_seconds: f64,
    wants: &[(&str, i64)],
    bytes_max: i64,
) -> Result<Vec<(String, Leased)>, sqlx::Error> {
    let destinations: Vec<&str> = wants.iter().map(|(destination, _)| *destination).collect();
    let wanted: Vec<i64> = wants.iter().map(|(_, rows)| *rows).collect();
    let mut bytes = 0;
    let candidates: Vec<_> = due(pool, &destinations, &wanted)
        .await?
        .into_iter()
        .take_while(|(.., size)| {
            let first = bytes == 0;
            bytes += i64::from(*size).max(1);
            first || bytes <= bytes_max
        })
        .collect();
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = candidates.iter().map(|candidate| candidate.0).collect();
    let keys: Vec<Uuid> = candidates.iter().map(|candidate| candidate.1).collect();
    let epochs: Vec<i64> = candidates.iter().map(|candidate| candidate.2).collect();
    let leased_at = Instant::now();
    let rows = sqlx::query!(
        r#"
        with c as (
            update outbox o
               set state = 'leased', epoch = o.epoch + 1, lease_until = now() + $4 * interval '1 second', node = $5
             where o.id = any($1) and o.state <> 'leased'
               -- Not a join: that would be a nested loop where the statistics say that nothing is pending.
               and ((o.id, o.key, o.epoch) in (select * from unnest($1::uuid[], $2::uuid[], $3::bigint[]))) is true
            returning o.*
        )
        select c.id as "id!", c.key as "key!", c.epoch as "epoch!", c.attempts as "attempts!", c.replay_id as "replay_id?",
               c.destination as "destination!", c.event_id as "event_id!", c.source as "source!",
               extract(epoch from now() - c.created_at)::float8 as "age_seconds!",
               e.event_key as "event_key?", e.event_type as "event_type?", e.headers as "headers?", e.body as "body?", e.mark as "mark?"
          from c left join event e on e.id = c.event_id and e.key = c.key
        "#,
        &ids,
        &keys,
        &epochs,
        lease_seconds,
        node,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let event = row.event_key.zip(row.headers).zip(row.body).map(|((event_key, headers), body)| {
                let (source, mark) = (row.source.into(), row.mark.as_deref().and_then(Mark::parse));
                let (id, event_type, body) = (row.event_id, row.event_type, body.into());
                Arc::new(RelayEvent { id, source, event_key, event_type, mark, headers, body })
            });
            let (id, key, epoch) = (row.id, row.key, row.epoch);
            let leased =
                Leased { id, key, epoch, attempts: row.attempts, replay_id: row.replay_id, age_seconds: row.age_seconds, leased_at, event };
            (row.destination, leased)
        })
        .collect())
}

/// One try as it is kept.
#[derive(Debug)]
pub struct Attempt {
    pub id: Uuid,
    pub started_at: time::OffsetDateTime,
    pub latency_ms: i32,
    pub status: Option<i16>,
    /// A stable class; None where the handler took it.
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
    /// Given back untried: no attempt is counted. Due again after so many seconds.
    Release(f64),
}

#[derive(Debug)]
pub struct Finished {
    pub id: Uuid,
    pub key: Key,
    pub epoch: i64,
    pub number: i32,
    pub finish: Finish,
}

impl Finished {
    fn attempt(&self) -> Option<&Attempt> {
        match &self.finish {
            Finish::Delivered(attempt) | Finish::Dead(attempt) | Finish::Retry(attempt, _) => Some(attempt),
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

/// Writes how leased deliveries ended, with their attempts, in one statement, by their primary key as `claim` does. Returns the ids that still had
/// their epoch: for any other the lease was lost, and nothing was changed.
pub async fn finish(executor: impl PgExecutor<'_>, batch: &[&Finished]) -> Result<Vec<Uuid>, sqlx::Error> {
    let ids: Vec<Uuid> = batch.iter().map(|row| row.id).collect();
    let keys: Vec<Uuid> = batch.iter().map(|row| row.key).collect();
    let epochs: Vec<i64> = batch.iter().map(|row| row.epoch).collect();
    let states: Vec<&str> = batch.iter().map(|row| row.state()).collect();
    let delays: Vec<f64> = batch.iter().map(|row| row.delay_seconds()).collect();
    let numbers: Vec<i32> = batch.iter().map(|row| row.number).collect();
    let attempts: Vec<Option<&Attempt>> = batch.iter().map(|row| row.attempt()).collect();
    let attempt_ids: Vec<Option<Uuid>> = attempts.iter().map(|attempt| attempt.map(|attempt| attempt.id)).collect();
    let started: Vec<Option<time::OffsetDateTime>> = attempts.iter().map(|attempt| attempt.map(|attempt| attempt.started_at)).collect();
    let latencies: Vec<i32> = attempts.iter().map(|attempt| attempt.map_or(0, |attempt| attempt.latency_ms)).collect();
    let statuses: Vec<Option<i16>> = attempts.iter().map(|attempt| attempt.and_then(|attempt| attempt.status)).collect();
    let errors: Vec<Option<&str>> = attempts.iter().map(|attempt| attempt.and_then(|attempt| attempt.error)).collect();
    let details: Vec<Option<&str>> = attempts.iter().map(|attempt| attempt.and_then(|attempt| attempt.detail.as_deref())).collect();
    let responses: Vec<Option<&[u8]>> = attempts.iter().map(|attempt| attempt.and_then(|attempt| attempt.response.as_deref())).collect();
    sqlx::query_scalar!(
        r#"
        with u as materialized (
            select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::float8[], $6::int[], $7::uuid[],
                                 $8::timestamptz[], $9::int[], $10::smallint[], $11::text[], $12::text[], $13::bytea[])
                as u (id, key, epoch, state, delay, number, attempt_id, started_at, latency_ms, status, error, detail, response)
        ), ended as (
            delete from outbox o using u
             where o.id = any($1) and o.id = u.id and o.key = u.key and o.epoch = u.epoch and o.state <> 'pending'
               and u.state in ('delivered', 'dead')
            returning o.*, u.state as final, u.number
        ), kept as (
            update outbox o
               set state = 'pending', lease_until = null, node = null, due_at = now() + u.delay * interval '1 second',
                   attempts = case when u.state = 'retry' then u.number else o.attempts end
              from u
             where o.id = any($1) and o.id = u.id and o.key = u.key and o.epoch = u.epoch and o.state <> 'pending'
               and u.state in ('retry', 'release')
            returning o.id
        ), archived as (
            insert into delivery_ended (id, key, event_id, source, destination, replay_id, body_bytes, state, epoch, attempts, created_at)
            select id, key, event_id, source, destination, replay_id, body_bytes, final, epoch, number, created_at from ended
        ), done as (
            select id from ended union all select id from kept
        ), tried as (
            insert into attempt (id, key, delivery_id, number, epoch, started_at, latency_ms, outcome, status, error, detail, response)
            select u.attempt_id, u.key, u.id, u.number, u.epoch, u.started_at, u.latency_ms, u.state, u.status, u.error, u.detail, u.response
              from u join done on done.id = u.id
             where u.attempt_id is not null
        )
        select id as "id!" from done
        "#,
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

/// Gives deliveries back whose lease is over, whoever held it, and was not over yet at `since`. Returns how many, and the database's time.
pub async fn rescue(
    executor: impl PgExecutor<'_>,
    since: Option<time::OffsetDateTime>,
) -> Result<(i64, time::OffsetDateTime), sqlx::Error> {
    let row = sqlx::query!(
        r#"
        with rescued as (
            update outbox set state = 'pending', lease_until = null, node = null, due_at = now()
             where state = 'leased' and lease_until >= coalesce($1::timestamptz, '-infinity') and lease_until < now()
            returning id
        )
        select count(*) as "rescued!", now() as "now!" from rescued
        "#,
        since,
    )
    .fetch_one(executor)
    .await?;
    Ok((row.rescued, row.now))
}

/// The destinations that are paused.
pub async fn paused(executor: impl PgExecutor<'_>) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!("select destination from destination_pause").fetch_all(executor).await
}

/// Destinations given as a URL (by a replay) that have due deliveries.
pub async fn due_urls(executor: impl PgExecutor<'_>, most: i64) -> Result<Vec<String>, sqlx::Error> {
    let rows: HashMap<String, ()> = sqlx::query_scalar!(
        "select destination from outbox where destination like 'http%://%' and state = 'pending' and due_at <= now() order by due_at limit $1",
        most
    )
    .fetch_all(executor)
    .await?
    .into_iter()
    .map(|destination| (destination, ()))
    .collect();
    Ok(rows.into_keys().collect())
}
