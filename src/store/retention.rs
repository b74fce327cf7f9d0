//! Makes the partitions of the days to come, drops the expired ones, and deletes keys whose window
//! is over, in batches. When this runs is not decided here.

use sqlx::{AssertSqlSafe, Row as _};
use time::{Date, OffsetDateTime, macros::format_description};
use uuid::Uuid;

use super::{batches::in_batches, counts, dedup, delivery, link::Db, step};
use crate::{contract::Pruned, event::id_floor, settings::Settings};

/// Partitions are kept ready for this many days ahead, and for the day before today.
const DAYS_AHEAD: i64 = 7;
const PARTITIONED: [&str; 4] = ["event", "original", "delivery_ended", "attempt"];

fn day_floor(day: Date) -> Uuid {
    let ms = day.midnight().assume_utc().unix_timestamp() * 1000;
    id_floor(u64::try_from(ms).unwrap_or(0))
}

fn partition_name(table: &str, day: Date) -> String {
    let day = day
        .format(format_description!("[year][month][day]"))
        .unwrap_or_default();
    format!("{table}_{day}")
}

/// Makes the partitions around today; existing ones stay as they are. Several nodes may do this at
/// once.
pub async fn prepare(pool: &Db) -> Result<(), sqlx::Error> {
    let now: OffsetDateTime = sqlx::query_scalar!(r#"select now() as "now!""#)
        .fetch_one(pool)
        .await?;
    let today = now.to_offset(time::UtcOffset::UTC).date();
    for table in PARTITIONED {
        for offset in -1..=DAYS_AHEAD {
            let day = today + time::Duration::days(offset);
            let (name, from, to) = (
                partition_name(table, day),
                day_floor(day),
                day_floor(day + time::Duration::days(1)),
            );
            let exists =
                sqlx::query_scalar!(r#"select to_regclass($1) is not null as "exists!""#, name)
                    .fetch_one(pool)
                    .await?;
            if exists {
                continue;
            }
            // Rows of a day never change and are dropped with it. A vacuum triggered by inserts
            // would read and log a day's bodies once more, to no use. The vacuum against wraparound
            // still comes if a day is kept that long.
            let sql = format!(
                "create table if not exists {name} partition of {table} for values from ('{from}') to ('{to}')
                 with (autovacuum_vacuum_insert_threshold = -1)"
            );
            if let Err(error) = sqlx::query(AssertSqlSafe(sql)).execute(pool).await {
                // Another node made the partition, or rows of that day are in the default
                // partition, which serves as well.
                tracing::debug!(%name, %error, "the partition was not made");
            }
        }
    }
    Ok(())
}

/// Removes everything whose time is over.
pub async fn prune(pool: &Db, settings: &Settings) -> Result<Pruned, sqlx::Error> {
    let retention = &settings.retention;
    let mut pruned = Pruned::default();
    for (table, keep) in [
        ("event", retention.events),
        ("original", retention.events),
        ("delivery_ended", retention.deliveries),
        ("attempt", retention.deliveries),
    ] {
        let before = ago(pool, keep.as_secs_f64()).await?;
        drop_days(
            pool,
            table,
            before.to_offset(time::UtcOffset::UTC).date(),
            &mut pruned,
        )
        .await?;
    }
    pruned.keys = delete_keys(pool, retention.delete_rows_max).await?;
    pruned.conflicts = sqlx::query!(
        "delete from conflict where received_at < now() - $1 * interval '1 second'",
        retention.conflicts.as_secs_f64()
    )
    .execute(pool)
    .await?
    .rows_affected();
    let before = ago(pool, retention.counts.as_secs_f64()).await?;
    pruned.counts = counts::prune(pool, before).await?;
    let scopes = settings.ledger.scopes.iter().map(|scope| scope.keep);
    let shortest = scopes
        .chain(settings.gateways.values().map(|gateway| gateway.keep))
        .fold(settings.ledger.keep, std::cmp::min);
    let before = ago(pool, shortest.as_secs_f64()).await?;
    let before = id_floor(u64::try_from(before.unix_timestamp_nanos() / 1_000_000).unwrap_or(0));
    pruned.steps = step::prune(pool, before, retention.delete_rows_max).await?;
    pruned.dedup_keys = dedup::prune(pool, retention.delete_rows_max).await?;
    Ok(pruned)
}

async fn ago(pool: &Db, seconds: f64) -> Result<OffsetDateTime, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select now() - $1 * interval '1 second' as "before!""#,
        seconds
    )
    .fetch_one(pool)
    .await
}

async fn drop_days(
    pool: &Db,
    table: &str,
    first_kept: Date,
    pruned: &mut Pruned,
) -> Result<(), sqlx::Error> {
    let names: Vec<String> = sqlx::query("select inhrelid::regclass::text from pg_inherits where inhparent = $1::regclass order by 1")
        .bind(table)
        .fetch_all(pool)
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();
    for name in names {
        let suffix = name.rsplit('_').next().unwrap_or_default();
        let Ok(day) = Date::parse(suffix, format_description!("[year][month][day]")) else {
            continue;
        };
        if day >= first_kept {
            continue;
        }
        let (from, to) = (day_floor(day), day_floor(day + time::Duration::days(1)));
        let open = matches!(table, "event" | "original")
            && delivery::is_open_between(pool, from, to).await?;
        if open {
            pruned.held.push(name);
            continue;
        }
        sqlx::query(AssertSqlSafe(format!("drop table if exists {name}")))
            .execute(pool)
            .await?;
        pruned.partitions.push(name);
    }
    Ok(())
}

async fn delete_keys(pool: &Db, rows_max: i64) -> Result<u64, sqlx::Error> {
    in_batches(rows_max, || sqlx::query!(
            "delete from event_key where key = any(array(select key from event_key where expires_at < now() limit $1)) and expires_at < now()",
            rows_max
        ).execute(pool)).await
}
