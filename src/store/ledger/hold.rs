//! What the holder of a step may do before it ends: extend its lease, release it, abandon it.

use sqlx::PgExecutor;
use time::OffsetDateTime;

use super::{
    fenced::{Fenced, stale},
    place::StepAddress,
};
use crate::contract::StepState;

/// A lease that was extended.
#[derive(Clone, Debug, PartialEq)]
pub struct Beat {
    pub until: OffsetDateTime,
    pub claim_id: String,
}

/// Makes the lease end this many seconds from now. A lease that is over is extended too, unless
/// somebody has claimed the step meanwhile. While a transaction that called `hookonce.complete` is
/// open nobody else can take the step, so its row is not waited for and the lease stays as it is.
pub async fn heartbeat(
    executor: impl PgExecutor<'_> + Copy,
    place: &StepAddress,
    fence: i64,
    lease_seconds: f64,
) -> Result<Fenced<Beat>, sqlx::Error> {
    let beat = sqlx::query_as!(
        Beat,
        r#"
        update step set lease_until = now() + $4 * interval '1 second'
         where (key, step) in (select key, step from step where key = $1 and step = $2 and fence = $3 and state = 'running'
                                  for no key update skip locked)
        returning lease_until as "until!", claim_id
        "#,
        place.key.0,
        &*place.step,
        fence,
        lease_seconds,
    )
    .fetch_optional(executor)
    .await?;
    let beat = match beat {
        Some(beat) => Some(beat),
        None => {
            sqlx::query_as!(
                Beat,
                r#"
                select lease_until as "until!", claim_id from step
                 where key = $1 and step = $2 and fence = $3 and state = 'running'
                "#,
                place.key.0,
                &*place.step,
                fence,
            )
            .fetch_optional(executor)
            .await?
        }
    };
    match beat {
        Some(beat) => Ok(Fenced::Done(beat)),
        None => stale(executor, place).await,
    }
}

/// Gives a step back unexecuted, which counts as no attempt, and returns the claim id. Repeating a
/// release changes nothing. `any_input`: the next claim may bring another input.
pub async fn release(
    executor: impl PgExecutor<'_> + Copy,
    place: &StepAddress,
    fence: i64,
    keep_seconds: f64,
    any_input: bool,
) -> Result<Fenced<String>, sqlx::Error> {
    let released = sqlx::query_scalar!(
        r#"
        update step set state = 'released', listed = 'released', lease_until = null, attempt = attempt - 1,
               expires_at = now() + $4 * interval '1 second', input_hash = case when not $5 then input_hash end
         where key = $1 and step = $2 and fence = $3 and state = 'running'
        returning claim_id
        "#,
        place.key.0,
        &*place.step,
        fence,
        keep_seconds,
        any_input,
    )
    .fetch_optional(executor)
    .await?;
    if let Some(claim_id) = released {
        return Ok(Fenced::Done(claim_id));
    }
    // An abandoned step has a digest; one that was released has none.
    let repeated = sqlx::query_scalar!(
        "select claim_id from step where key = $1 and step = $2 and fence = $3 and state = 'released' and end_digest is null",
        place.key.0,
        &*place.step,
        fence,
    )
    .fetch_optional(executor)
    .await?;
    match repeated {
        Some(claim_id) => Ok(Fenced::Done(claim_id)),
        None => stale(executor, place).await,
    }
}

/// What a holder says that stops without knowing the outcome.
#[derive(Clone, Debug)]
pub struct Abandonment {
    pub fence: i64,
    /// JSON, as it was sent.
    pub error: String,
    /// The digest of the call: a repeat has the same.
    pub digest: [u8; 32],
    pub keep_seconds: f64,
}

/// A step that was abandoned.
#[derive(Clone, Debug, PartialEq)]
pub struct Abandoned {
    pub state: StepState,
    pub claim_id: String,
}

/// Says that the holder stops and does not know the outcome, and why. A step with `hold` is unknown
/// from now on; any other is free for the next. Repeating the call changes nothing.
pub async fn abandon(
    executor: impl PgExecutor<'_> + Copy,
    place: &StepAddress,
    abandonment: &Abandonment,
) -> Result<Fenced<Abandoned>, sqlx::Error> {
    let abandoned = sqlx::query_as!(
        Abandoned,
        r#"
        update step
           set state = case when on_lost = 'hold' then 'unknown' else 'released' end,
               listed = case when on_lost = 'hold' then 'lost' else 'released' end,
               expires_at = case when on_lost = 'retry' then now() + $6 * interval '1 second' end,
               lease_until = null, error = $4, end_digest = $5
         where key = $1 and step = $2 and fence = $3 and state = 'running'
        returning state as "state: StepState", claim_id
        "#,
        place.key.0,
        &*place.step,
        abandonment.fence,
        abandonment.error,
        &abandonment.digest[..],
        abandonment.keep_seconds,
    )
    .fetch_optional(executor)
    .await?;
    if let Some(abandoned) = abandoned {
        return Ok(Fenced::Done(abandoned));
    }
    let repeated = sqlx::query_as!(
        Abandoned,
        r#"
        select state as "state: StepState", claim_id from step
         where key = $1 and step = $2 and fence = $3 and end_digest = $4 and state in ('unknown', 'released')
        "#,
        place.key.0,
        &*place.step,
        abandonment.fence,
        &abandonment.digest[..],
    )
    .fetch_optional(executor)
    .await?;
    match repeated {
        Some(abandoned) => Ok(Fenced::Done(abandoned)),
        None => stale(executor, place).await,
    }
}
