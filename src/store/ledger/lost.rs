//! Steps whose holder was lost: who they are, and how they become unknown. Each has its event, which
//! is written by the very statement. What the event says is not decided here.

use sqlx::PgExecutor;
use time::OffsetDateTime;

use super::{
    emit::{EMITTED_HEADERS, Emitted, EmittedColumns},
    place::StepAddress,
};
use crate::contract::EffectKey;

/// A step whose holder was lost, and of which nobody was told.
#[derive(Clone, Debug)]
pub struct LostStep {
    pub place: StepAddress,
    pub id: EffectKey,
    pub tenant: String,
    pub run: String,
    pub fence: i64,
    pub attempt: i32,
    pub owner: Option<String>,
    pub claimed_at: OffsetDateTime,
    /// JSON: what the holder said.
    pub error: Option<String>,
    /// JSON: what the caller of a gateway asked for.
    pub about: Option<String>,
}

/// At most `limit` steps whose holders were lost, found by the index of the lists. `with_expired`:
/// also those whose lease is over.
pub async fn lost(
    executor: impl PgExecutor<'_>,
    limit: i64,
    with_expired: bool,
) -> Result<Vec<LostStep>, sqlx::Error> {
    let rows = sqlx::query_file!("src/store/ledger/lost.sql", limit, with_expired)
        .fetch_all(executor)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| LostStep {
            place: StepAddress {
                key: row.key.into(),
                step: row.step.into(),
            },
            id: row.id.into(),
            tenant: row.tenant,
            run: row.run,
            fence: row.fence,
            attempt: row.attempt,
            owner: row.owner,
            claimed_at: row.claimed_at,
            error: row.error,
            about: row.about,
        })
        .collect())
}

/// Makes those of the steps unknown whose holder is still lost under this fence, and records their
/// events. Returns how many there were.
pub async fn become_unknown(
    executor: impl PgExecutor<'_>,
    steps: &[(&LostStep, Emitted)],
) -> Result<usize, sqlx::Error> {
    let events = EmittedColumns::of(
        steps
            .iter()
            .map(|(step, event)| (&step.place, std::slice::from_ref(event))),
    );
    let places = sqlx::query_file!(
        "src/store/ledger/unknown.sql",
        &events.keys,
        &events.steps as &[&str],
        &events.column(|event| event.id.0),
        &events.column(|event| event.key.0),
        &events.column(|event| &*event.source) as &[&str],
        &events.column(|event| &*event.event_key) as &[&str],
        &events.column(|event| event.event_type.as_deref()) as &[Option<&str>],
        &events.column(|event| event.body.as_bytes()) as &[&[u8]],
        &events.column(|event| &event.digest.0[..]) as &[&[u8]],
        &events.column(|event| event.window_seconds),
        EMITTED_HEADERS,
        &events.deliveries.0,
        &events.deliveries.1,
        &events.deliveries.2 as &[&str],
        &steps
            .iter()
            .map(|(step, _)| step.place.key.0)
            .collect::<Vec<_>>(),
        &steps
            .iter()
            .map(|(step, _)| &*step.place.step)
            .collect::<Vec<_>>() as &[&str],
        &steps.iter().map(|(step, _)| step.fence).collect::<Vec<_>>(),
    )
    .fetch_all(executor)
    .await?;
    Ok(places.len())
}
