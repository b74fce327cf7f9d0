//! What an operator does to one delivery.

use sqlx::PgExecutor;
use uuid::Uuid;

/// Makes a delivery due now. Returns whether something was changed.
///
/// An ended delivery goes back into the outbox with a fresh budget of attempts and age, unless its
/// event is gone. A waiting one no longer waits. A leased one is left alone.
///
/// The epoch goes up when the delivery moves. It never starts anew, so no epoch is leased twice.
pub async fn retry(executor: impl PgExecutor<'_>, id: Uuid) -> Result<bool, sqlx::Error> {
    let changed = sqlx::query_scalar!(
        r#"
        with ended as (
            delete from delivery_ended d
             where d.id = $1 and exists (select from event e where e.id = d.event_id and e.key = d.key)
            returning d.*
        ), back as (
            insert into outbox (id, key, event_id, source, destination, replay_id, body_bytes, state, epoch)
            select id, key, event_id, source, destination, replay_id, body_bytes, 'pending', epoch + 1 from ended
            returning id
        ), sooner as (
            update outbox set due_at = now() where id = $1 and state = 'pending' returning id
        )
        select count(*) as "count!" from (select id from back union all select id from sooner) as changed
        "#,
        id
    )
    .fetch_one(executor)
    .await?;
    Ok(changed > 0)
}

/// Ends an open delivery without delivering it. Returns whether it was open. An attempt under way
/// ends without effect, because the row is gone.
pub async fn cancel(executor: impl PgExecutor<'_>, id: Uuid) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        r#"
        with open as (delete from outbox where id = $1 returning *)
        insert into delivery_ended (id, key, event_id, source, destination, replay_id, body_bytes, state, epoch, attempts, created_at)
        select id, key, event_id, source, destination, replay_id, body_bytes, 'cancelled', epoch + 1, attempts, created_at from open
        "#,
        id
    )
    .execute(executor)
    .await?;
    Ok(done.rows_affected() > 0)
}
