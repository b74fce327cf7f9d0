//! Deliveries whose lease is over, because their node died, hung or lost the database.

use sqlx::PgExecutor;

/// Makes deliveries due again whose lease ended between `since` and now, whichever node held it.
/// `since` None means all of them. Returns how many, and the database's time.
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
