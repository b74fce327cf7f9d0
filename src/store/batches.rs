//! Deletes a batch at a time, so that no statement holds many rows for long.

use sqlx::postgres::PgQueryResult;

/// Repeats `delete`, which deletes at most `rows_max` rows, until it deletes fewer. Returns how
/// many rows were deleted in all.
pub async fn in_batches<F>(rows_max: i64, delete: impl Fn() -> F) -> Result<u64, sqlx::Error>
where
    F: Future<Output = Result<PgQueryResult, sqlx::Error>>,
{
    let full = u64::try_from(rows_max).unwrap_or(u64::MAX);
    let mut deleted = 0;
    loop {
        let rows = delete().await?.rows_affected();
        deleted += rows;
        if rows < full {
            return Ok(deleted);
        }
    }
}
