//! What the functions of schema `hookonce` have to know of the settings. The functions themselves
//! are in `migrations/0009_sql_functions.sql`.

use sqlx::PgExecutor;

use crate::{event::TypeGlob, settings::Ledger};

/// Writes the ledger's settings for the functions, if they have changed. The last node to start or
/// reload has its way.
pub async fn write(executor: impl PgExecutor<'_>, ledger: &Ledger) -> Result<(), sqlx::Error> {
    let scopes = &ledger.scopes;
    let runs = scopes.iter().map(|scope| {
        let pattern = scope.run.as_deref().map(TypeGlob::new);
        pattern.map(|pattern| pattern.to_like())
    });
    let bytes = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
    sqlx::query!(
        r#"
        insert into sql_terms as t (is_only, keep_seconds, scope_tenants, scope_runs, scope_keeps, lease_max_seconds,
                                    window_max_seconds, result_bytes_max, emit_bytes_max, emit_max)
        values (true, $1, $2, $3, $4, $5, $6, $7, $8, $9)
        on conflict (is_only) do update
           set (keep_seconds, scope_tenants, scope_runs, scope_keeps, lease_max_seconds, window_max_seconds, result_bytes_max,
                emit_bytes_max, emit_max)
             = (excluded.keep_seconds, excluded.scope_tenants, excluded.scope_runs, excluded.scope_keeps,
                excluded.lease_max_seconds, excluded.window_max_seconds, excluded.result_bytes_max, excluded.emit_bytes_max,
                excluded.emit_max)
         where t is distinct from excluded
        "#,
        ledger.keep.as_secs_f64(),
        &scopes.iter().map(|scope| scope.tenant.clone()).collect::<Vec<_>>() as &[Option<String>],
        &runs.collect::<Vec<_>>() as &[Option<String>],
        &scopes.iter().map(|scope| scope.keep.as_secs_f64()).collect::<Vec<_>>(),
        ledger.lease_max.as_secs_f64(),
        ledger.window_max.as_secs_f64(),
        bytes(ledger.result_max.bytes()),
        bytes(ledger.call_max.bytes()),
        i32::try_from(ledger.emit_max).unwrap_or(i32::MAX),
    )
    .execute(executor)
    .await
    .map(drop)
}
