//! Bearer tokens, made, listed, revoked and looked up by their digest alone. The tokens themselves
//! are never kept, and what a scope allows is not decided here.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::contract::TokenId;

/// A token as it may be shown: without its digest.
#[derive(Clone, Debug)]
pub struct TokenRow {
    pub id: TokenId,
    pub scopes: Vec<String>,
    pub tenant: Option<String>,
    pub created_at: OffsetDateTime,
    pub revoked_at: Option<OffsetDateTime>,
}

pub async fn create(
    executor: impl PgExecutor<'_>,
    id: Uuid,
    digest: &[u8; 32],
    scopes: &[String],
    tenant: Option<&str>,
) -> Result<TokenRow, sqlx::Error> {
    sqlx::query_as!(
        TokenRow,
        "insert into token (id, digest, scopes, tenant) values ($1, $2, $3, $4) returning id, scopes, tenant, created_at, revoked_at",
        id,
        &digest[..],
        scopes,
        tenant,
    )
    .fetch_one(executor)
    .await
}

/// Newest first, with those that are revoked.
pub async fn list(
    executor: impl PgExecutor<'_>,
    below: Option<Uuid>,
    limit: i64,
) -> Result<Vec<TokenRow>, sqlx::Error> {
    sqlx::query_as!(
        TokenRow,
        "select id, scopes, tenant, created_at, revoked_at from token where $1::uuid is null or id < $1 order by id desc limit $2",
        below,
        limit,
    )
    .fetch_all(executor)
    .await
}

/// Revokes a token; one that was revoked before stays as it was. None if there is no such token.
pub async fn revoke(
    executor: impl PgExecutor<'_>,
    id: Uuid,
) -> Result<Option<TokenRow>, sqlx::Error> {
    sqlx::query_as!(
        TokenRow,
        r#"
        update token set revoked_at = coalesce(revoked_at, now()) where id = $1
        returning id, scopes, tenant, created_at, revoked_at
        "#,
        id,
    )
    .fetch_optional(executor)
    .await
}

/// The scopes and the tenant of a token that is in force.
pub async fn find(
    executor: impl PgExecutor<'_>,
    digest: &[u8; 32],
) -> Result<Option<(Vec<String>, Option<String>)>, sqlx::Error> {
    let row = sqlx::query!(
        "select scopes, tenant from token where digest = $1 and revoked_at is null",
        &digest[..]
    )
    .fetch_optional(executor)
    .await?;
    Ok(row.map(|row| (row.scopes, row.tenant)))
}
