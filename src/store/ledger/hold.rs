//! What the holder of a step may do before it ends: extend its lease, release it, give it up.

use sqlx::PgExecutor;
use time::OffsetDateTime;

use super::{
    fenced::{Fenced, stale},
    place::StepAddress,
};
use crate::contract::StepState;

/// Makes the lease end this many seconds from now. A lease that is over is extended too, unless
/// somebody has claimed the step meanwhile.
pub async fn heartbeat(
    executor: impl PgExecutor<'_> + Copy,
    place: &StepAddress,
    fence: i64,
    lease_seconds: f64,
) -> Result<Fenced<OffsetDateTime>, sqlx::Error> {
    let until = sqlx::query_scalar!(
        r#"
        update step set lease_until = now() + $4 * interval '1 second'
         where key = $1 and step = $2 and fence = $3 and state = 'running'
        returning lease_until as "lease_until!"
        "#,
        place.key.0,
        &*place.step,
        fence,
        lease_seconds,
    )
    .fetch_optional(executor)
    .await?;
    match until {
        Some(until) => Ok(Fenced::Done(until)),
        None => stale(executor, place).await,
    }
}

/// Gives a step back unexecuted, which counts as no attempt. Repeating a release changes nothing.
/// `any_input`: the next claim may bring another input.
pub async fn release(
    executor: impl PgExecutor<'_> + Copy,
    place: &StepAddress,
    fence: i64,
    keep_seconds: f64,
    any_input: bool,
) -> Result<Fenced<()>, sqlx::Error> {
    let changed = sqlx::query!(
        r#"
        update step set state = 'released', lease_until = null, attempt = attempt - 1, expires_at = now() + $4 * interval '1 second',
               input_hash = case when not $5 then input_hash end
         where key = $1 and step = $2 and fence = $3 and state = 'running'
        "#,
        place.key.0,
        &*place.step,
        fence,
        keep_seconds,
        any_input,
    )
    .execute(executor)
    .await?;
    if changed.rows_affected() > 0 {
        return Ok(Fenced::Done(()));
    }
    Ok(match stale(executor, place).await? {
        Fenced::Stale(held, state) if held == fence && state == StepState::Released => {
            Fenced::Done(())
        }
        other => other,
    })
}

/// Says that the holder itself does not know the outcome, and why. A step with `hold` is unknown
/// from now on; any other may be claimed again at once.
pub async fn give_up(
    executor: impl PgExecutor<'_>,
    place: &StepAddress,
    fence: i64,
    evidence: &str,
) -> Result<bool, sqlx::Error> {
    let changed = sqlx::query!(
        r#"
        update step
           set state = case when on_lost = 'hold' then 'unknown' else 'running' end,
               lease_until = case when on_lost = 'retry' then now() end,
               evidence = $4
         where key = $1 and step = $2 and fence = $3 and state = 'running'
        "#,
        place.key.0,
        &*place.step,
        fence,
        evidence,
    )
    .execute(executor)
    .await?;
    Ok(changed.rows_affected() > 0)
}
