//! Connects, migrates, and refuses a database that can't keep hookonce's promises.

use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};

use super::link::{Db, Dialer};

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error(
        "the database's schema is newer than this hookonce (it has migration {0}): run the newer version, or restore the older database"
    )]
    Newer(i64),
    #[error("the migration failed")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    #[error(
        "the database runs with fsync = off: a power cut would lose acknowledged events. Switch it on, or set database.allow_fsync_off = true where losing them is fine"
    )]
    FsyncOff,
    #[error("PostgreSQL {0} is too old: hookonce needs 15 or later")]
    TooOld(i32),
    #[error("the database did not answer")]
    Database(#[from] sqlx::Error),
}

/// The connections of writers, which repeat a few statements over and over: their plans are kept. One made while a table was empty must not read it
/// to its end when it has grown.
pub fn for_few_statements(options: &PgConnectOptions) -> Dialer {
    Dialer::new(options.clone()).with("enable_seqscan", "off")
}

/// The connection that ends deliveries, opened when it is first needed. It joins hundreds of rows that the planner takes for one: the statistics
/// of an outbox where all was pending say that nothing is leased. Each must not be compared with each.
pub fn finishing_pool(options: &PgConnectOptions) -> Db {
    for_few_statements(options).with("enable_nestloop", "off").pool(1)
}

/// The connection that claims deliveries, opened when it is first needed. It looks for each row by its primary key: without statistics, the planner
/// takes a thousand ids for half of the outbox, and reads it and all events to their ends.
pub fn claiming_pool(options: &PgConnectOptions) -> Db {
    for_few_statements(options).with("enable_hashjoin", "off").with("enable_mergejoin", "off").pool(1)
}

/// Connections for all that is no such thing. Each plan is made for the values at hand and for the tables as they are: a kept one joined 512
/// finished deliveries with as many open ones by comparing each with each.
pub fn pool(options: &PgConnectOptions, connections_max: u32) -> Db {
    Dialer::new(options.clone()).with("plan_cache_mode", "force_custom_plan").pool(connections_max)
}

/// Refuses servers that are too old or don't sync to disk.
pub async fn check(pool: &Db, allow_fsync_off: bool) -> Result<(), SchemaError> {
    let server = sqlx::query!(r#"select current_setting('server_version_num')::int as "version!", current_setting('fsync') as "fsync!""#)
        .fetch_one(pool)
        .await?;
    if server.version < 150_000 {
        return Err(SchemaError::TooOld(server.version / 10_000));
    }
    if server.fsync == "off" && !allow_fsync_off {
        return Err(SchemaError::FsyncOff);
    }
    Ok(())
}

/// Brings the schema up to this version. Several nodes at once are safe: the migrator takes an advisory lock.
pub async fn migrate(pool: &Db) -> Result<(), SchemaError> {
    // An index over a big table takes as long as it takes, and so does waiting for another node that makes it.
    let mut connection = pool.detached().await?;
    sqlx::query("set statement_timeout = 0").execute(&mut connection).await?;
    let migrated = MIGRATOR.run(&mut connection).await;
    connection.close().await?;
    migrated.map_err(|error| match error {
        sqlx::migrate::MigrateError::VersionMissing(version) => SchemaError::Newer(version),
        other => SchemaError::Migrate(other),
    })
}

/// Whether the pool answers a trivial query.
pub async fn answers(pool: &Db) -> Result<(), sqlx::Error> {
    sqlx::query("select 1").execute(pool).await.map(drop)
}

/// Writes as little as a commit can be (a message in the log that nobody reads), and says whose log it is: when the server was started, its timeline,
/// and the files of the keys. Another server, an older state of this one, and tables that were made anew all have another name.
pub async fn writes(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let (is_read_only, server): (bool, String) = sqlx::query_as(
        "with written as (select pg_logical_emit_message(true, 'hookonce', ''))
         select current_setting('transaction_read_only')::bool,
                concat_ws(' ', pg_postmaster_start_time(), substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8),
                          (select string_agg(pg_relation_filenode(c.oid)::text, ',' order by c.oid)
                             from pg_class c where c.relkind = 'r' and c.relname like 'event\\_key%'
                              and c.relnamespace = (select relnamespace from pg_class where oid = 'event_key'::regclass)))
           from written",
    )
    .fetch_one(connection)
    .await?;
    if is_read_only {
        return Err(sqlx::Error::Protocol("transactions are read-only here".into()));
    }
    Ok(server)
}
