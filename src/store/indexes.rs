//! Indexes over tables that may be large when a migration meets them. The migration makes them where
//! the table is small; else they are made here, concurrently, so that nobody waits for them. Until
//! then the statements that want them are slow, and right.

use sqlx::{Connection as _, PgConnection};

use super::link::Db;

/// The advisory lock of whoever makes indexes. Its number is this application's own choice.
const MAKING: i64 = 0x686f_6f6b_696e_6478;

/// The name of an index, and the statement that makes it.
const INDEXES: [(&str, &str); 2] = [
    (
        "step_listed",
        "create index concurrently step_listed on step (listed, id) where listed is not null",
    ),
    (
        "step_of_run",
        r#"create index concurrently step_of_run on step (tenant collate "C", run collate "C", id)"#,
    ),
];

/// Whether an index can be used. None if there is none.
async fn is_valid(connection: &mut PgConnection, name: &str) -> Result<Option<bool>, sqlx::Error> {
    sqlx::query_scalar("select indisvalid from pg_index where indexrelid = to_regclass($1)")
        .bind(name)
        .fetch_optional(connection)
        .await
}

/// Makes the indexes that are missing, and returns how many it made. Of several nodes one does this;
/// the others go on at once.
pub async fn make_missing(pool: &Db) -> Result<usize, sqlx::Error> {
    let mut connection = pool.detached().await?;
    let mut made = 0;
    for (name, statement) in INDEXES {
        if is_valid(&mut connection, name).await? == Some(true) {
            continue;
        }
        let is_ours: bool = sqlx::query_scalar("select pg_try_advisory_lock($1)")
            .bind(MAKING)
            .fetch_one(&mut connection)
            .await?;
        if !is_ours {
            break;
        }
        sqlx::query("set statement_timeout = 0")
            .execute(&mut connection)
            .await?;
        // One that is not valid was left behind by somebody who was stopped while making it.
        if is_valid(&mut connection, name).await? == Some(false) {
            let left = sqlx::AssertSqlSafe(format!("drop index concurrently {name}"));
            sqlx::query(left).execute(&mut connection).await?;
        }
        if is_valid(&mut connection, name).await?.is_none() {
            tracing::info!(
                name,
                "an index is being made: lists of steps are slow until then"
            );
            sqlx::query(statement).execute(&mut connection).await?;
            made += 1;
        }
    }
    // The lock ends with the session.
    connection.close().await?;
    Ok(made)
}
