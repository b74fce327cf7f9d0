//! Deliveries whose lease is over, whatever became of the node that held it.

use sqlx::PgExecutor;

/// Gives deliveries back whose lease is over, whoever held it, and was not over yet at `since`.
/// Returns how many, and the database's time.
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
