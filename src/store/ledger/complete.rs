//! Completions: how steps ended, with the events that they emit, in one statement. Who may complete
//! a step is decided by its fence alone.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    emit::{EMITTED_HEADERS, Emitted, EmittedColumns, keep_conflicts},
    fenced::Fenced,
    place::{StepAddress, firsts},
};
use crate::{
    contract::{StepEnd, StepState},
    event::Key,
};

/// The result of a step, from the holder of this fence.
#[derive(Clone, Debug)]
pub struct Completion {
    pub place: StepAddress,
    pub fence: i64,
    pub end: StepEnd,
    /// JSON, as it was sent.
    pub result: String,
    /// JSON: why there is no result.
    pub result_not_kept: Option<String>,
    /// The digest of the whole call: a repeat has the same.
    pub digest: [u8; 32],
    pub keep_seconds: f64,
    pub emit: Vec<Emitted>,
}

/// Records results in one statement with the events that they emit. An event whose (source, key) is
/// known is not written again; one with another body is kept as a conflict. The answer to each is
/// the holder's claim id. None means that the caller must ask again.
///
/// Existing rows are changed by `on conflict`. An update would lock rows in whatever order its plan
/// finds them, so two batches with the same steps could deadlock. `on conflict` locks them by (key,
/// step), as claims do.
pub async fn complete(
    connection: &mut PgConnection,
    completions: &[&Completion],
) -> Result<Vec<Option<Fenced<String>>>, sqlx::Error> {
    let firsts = firsts(completions, |completion| &completion.place);
    let of_firsts: Vec<&Completion> = firsts.iter().map(|index| completions[*index]).collect();
    let events = EmittedColumns::of(
        of_firsts
            .iter()
            .map(|completion| (&completion.place, &*completion.emit)),
    );
    let rows = complete_rows(connection, &of_firsts, &events).await?;
    if let Some(unseen) = rows
        .first()
        .map(|row| &row.unseen)
        .filter(|unseen| !unseen.is_empty())
    {
        keep_conflicts(connection, &events.only(unseen)).await?;
    }
    let rows: HashMap<StepAddress, CompletedRow> = rows
        .into_iter()
        .map(|row| {
            (
                StepAddress {
                    key: row.key,
                    step: row.step.as_str().into(),
                },
                row,
            )
        })
        .collect();
    let answer = |(index, completion): (usize, &&Completion)| {
        let Some(CompletedRow {
            is_ended,
            state,
            fence,
            claim_id,
            end_digest: digest,
            ..
        }) = rows.get(&completion.place)
        else {
            return Some(Fenced::Missing);
        };
        if *is_ended && firsts.contains(&index) {
            return Some(Fenced::Done(claim_id.clone()));
        }
        let is_mine = *fence == completion.fence;
        match state {
            StepState::Done | StepState::Failed
                if is_mine && digest.as_deref() == Some(&completion.digest[..]) =>
            {
                Some(Fenced::Done(claim_id.clone()))
            }
            // The step was ended by an earlier completion of this batch, or was held when the
            // statement began.
            _ if is_mine && (*is_ended || *state == StepState::Running) => None,
            state => Some(Fenced::Stale(*fence, *state)),
        }
    };
    Ok(completions.iter().enumerate().map(answer).collect())
}

/// A step to be completed, as it was before.
struct CompletedRow {
    key: Key,
    step: String,
    state: StepState,
    fence: i64,
    claim_id: String,
    end_digest: Option<Vec<u8>>,
    /// Whether this statement ended the step.
    is_ended: bool,
    /// Events of the whole batch whose key another batch inserted first while the statement ran.
    unseen: Vec<Uuid>,
}

async fn complete_rows(
    connection: &mut PgConnection,
    completions: &[&Completion],
    events: &EmittedColumns<'_>,
) -> Result<Vec<CompletedRow>, sqlx::Error> {
    sqlx::query_file_as!(
        CompletedRow,
        "src/store/ledger/complete.sql",
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
        &completions
            .iter()
            .map(|completion| completion.place.key.0)
            .collect::<Vec<_>>(),
        &completions
            .iter()
            .map(|completion| &*completion.place.step)
            .collect::<Vec<_>>() as &[&str],
        &completions
            .iter()
            .map(|completion| completion.fence)
            .collect::<Vec<_>>(),
        &completions
            .iter()
            .map(|completion| completion.end.as_str())
            .collect::<Vec<_>>() as &[&str],
        &completions
            .iter()
            .map(|completion| &*completion.result)
            .collect::<Vec<_>>() as &[&str],
        &completions
            .iter()
            .map(|completion| &completion.digest[..])
            .collect::<Vec<_>>() as &[&[u8]],
        &completions
            .iter()
            .map(|completion| completion.keep_seconds)
            .collect::<Vec<_>>(),
        &completions
            .iter()
            .map(|completion| completion.result_not_kept.as_deref())
            .collect::<Vec<_>>() as &[Option<&str>],
    )
    .fetch_all(connection)
    .await
}
