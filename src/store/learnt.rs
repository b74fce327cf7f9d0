//! Secrets that sources learnt in a handshake: the first is kept, and none replaces it. Who may
//! learn one is not decided here.

use secrecy::{ExposeSecret as _, SecretString};
use time::OffsetDateTime;

use super::link::Db;

#[derive(Clone, Debug)]
pub struct LearntSecret {
    pub source: String,
    pub secret: SecretString,
    pub learnt_at: OffsetDateTime,
}

/// Keeps a source's secret unless it has one. Returns whether this secret is the one that is kept
/// now: of two callers with different secrets, one is told false.
pub async fn learnt_keep(
    pool: &Db,
    source: &str,
    secret: &SecretString,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"with kept as (
               insert into learnt_secret (source, secret) values ($1, $2) on conflict (source) do nothing returning source
           )
           select exists (select from kept) or exists (select from learnt_secret where source = $1 and secret = $2) as "is_kept!""#,
        source,
        secret.expose_secret()
    )
    .fetch_one(pool)
    .await
}

pub async fn learnt_all(pool: &Db) -> Result<Vec<LearntSecret>, sqlx::Error> {
    let rows = sqlx::query!("select source, secret, learnt_at from learnt_secret order by source")
        .fetch_all(pool)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| LearntSecret {
            source: row.source,
            secret: row.secret.into(),
            learnt_at: row.learnt_at,
        })
        .collect())
}

/// Forgets a source's secret, so that the next handshake brings another. Returns whether there was
/// one.
pub async fn learnt_forget(pool: &Db, source: &str) -> Result<bool, sqlx::Error> {
    let result = sqlx::query!("delete from learnt_secret where source = $1", source)
        .execute(pool)
        .await?;
    Ok(result.rows_affected() > 0)
}
