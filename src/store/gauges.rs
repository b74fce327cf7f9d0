//! What the database alone knows of the service's state, for metrics: open deliveries by
//! destination, and how the server itself is.

use sqlx::PgExecutor;

/// The open deliveries of one destination.
#[derive(Debug)]
pub struct Open {
    pub destination: String,
    pub open: i64,
    /// The age of the oldest, in seconds; 0 where none is open.
    pub oldest_seconds: f64,
    pub paused: bool,
}

/// Every destination that has open deliveries or is paused; URLs that replays gave count as one.
/// This reads all open deliveries, so ask seldom.
pub async fn open(executor: impl PgExecutor<'_>) -> Result<Vec<Open>, sqlx::Error> {
    sqlx::query_as!(
        Open,
        r#"
        select coalesce(o.destination, p.destination) as "destination!", coalesce(o.open, 0) as "open!",
               coalesce(o.oldest_seconds, 0) as "oldest_seconds!", p.destination is not null as "paused!"
          from (select case when destination like 'http%://%' then '(url)' else destination end as destination,
                       count(*) as open, extract(epoch from now() - min(created_at))::float8 as oldest_seconds
                  from outbox group by 1) as o
          full join destination_pause p on p.destination = o.destination
        "#
    )
    .fetch_all(executor)
    .await
}

/// How the server is.
#[derive(Debug)]
pub struct Server {
    pub size_bytes: i64,
    /// How long the oldest snapshot has been held, in seconds: vacuum removes nothing that died
    /// since.
    pub oldest_snapshot_seconds: f64,
    /// Days after today that have a partition for events.
    pub partitions_ahead: i64,
}

pub async fn server(executor: impl PgExecutor<'_>) -> Result<Server, sqlx::Error> {
    sqlx::query_as!(
        Server,
        r#"
        select pg_database_size(current_database()) as "size_bytes!",
               (select coalesce(extract(epoch from now() - min(xact_start)), 0)::float8 from pg_stat_activity
                 where backend_xmin is not null) as "oldest_snapshot_seconds!",
               (select count(*) from pg_inherits i join pg_class c on c.oid = i.inhrelid
                 where i.inhparent = 'event'::regclass and c.relname ~ '^event_[0-9]{8}$'
                   and c.relname > to_char(now() at time zone 'utc', '"event_"YYYYMMDD')) as "partitions_ahead!"
        "#
    )
    .fetch_one(executor)
    .await
}
