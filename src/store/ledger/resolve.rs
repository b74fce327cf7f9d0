//! Resolutions: how a step whose holder was lost did end, as somebody found out.

use sqlx::PgExecutor;

use super::{
    fenced::{Fenced, stale},
    place::StepAddress,
};
use crate::contract::StepEnd;

/// What somebody found out about a step whose holder was lost.
#[derive(Clone, Debug)]
pub struct Resolution {
    pub expected_fence: i64,
    /// None: the step was not executed, and may be claimed again.
    pub end: Option<StepEnd>,
    pub result: Option<String>,
    pub evidence: String,
    pub digest: [u8; 32],
    pub keep_seconds: f64,
}

/// A step that was resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    pub fence: i64,
    pub claim_id: String,
    /// JSON: what the lost holder said, if it said anything.
    pub error: Option<String>,
}

/// Ends or releases a step that is unknown or whose lease is over. Its fence is raised, so that the
/// lost holder can change nothing more.
pub async fn resolve(
    executor: impl PgExecutor<'_> + Copy,
    place: &StepAddress,
    resolution: &Resolution,
) -> Result<Fenced<Resolved>, sqlx::Error> {
    let resolved = sqlx::query_as!(
        Resolved,
        r#"
        update step
           set state = coalesce($4, 'released'), fence = fence + 1, result = $5, evidence = $6, end_digest = $7, lease_until = null,
               listed = case coalesce($4, 'released') when 'done' then null else coalesce($4, 'released') end,
               ended_at = case when $4::text is not null then now() end,
               expires_at = now() + $8 * interval '1 second'
         where key = $1 and step = $2 and fence = $3 and (state = 'unknown' or state = 'running' and lease_until < now())
        returning fence, claim_id, error
        "#,
        place.key.0,
        &*place.step,
        resolution.expected_fence,
        resolution.end.map(StepEnd::as_str),
        resolution.result,
        resolution.evidence,
        &resolution.digest[..],
        resolution.keep_seconds,
    )
    .fetch_optional(executor)
    .await?;
    if let Some(resolved) = resolved {
        return Ok(Fenced::Done(resolved));
    }
    let raised = resolution.expected_fence.saturating_add(1);
    let repeated = sqlx::query_as!(
        Resolved,
        "select fence, claim_id, error from step where key = $1 and step = $2 and fence = $3 and end_digest = $4",
        place.key.0,
        &*place.step,
        raised,
        &resolution.digest[..],
    )
    .fetch_optional(executor)
    .await?;
    match repeated {
        Some(resolved) => Ok(Fenced::Done(resolved)),
        None => stale(executor, place).await,
    }
}
