//! Finds the steps that those who wait should ask for again. It does not wake them.

use sqlx::PgExecutor;

use super::place::StepAddress;
use crate::event::Key;

/// Returns those of the steps that nobody holds any more: they have ended, were released, or their
/// lease is over.
pub async fn settled(
    executor: impl PgExecutor<'_>,
    keys: &[Key],
    steps: &[&str],
) -> Result<Vec<StepAddress>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select u.key as "key!", u.step as "step!"
          from unnest($1::uuid[], $2::text[]) as u (key, step)
         where not exists (select from step s
                            where s.key = u.key and s.step = u.step and s.state = 'running' and s.lease_until >= now())
        "#,
        &keys.iter().map(|key| key.0).collect::<Vec<_>>(),
        steps as &[&str],
    )
    .fetch_all(executor)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| StepAddress {
            key: row.key.into(),
            step: row.step.into(),
        })
        .collect())
}
