//! Connects, migrates, and refuses a database that can't keep hookonce's promises.

use std::time::Duration;

use sqlx::{
    Connection as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

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

const ACQUIRE_WITHIN: Duration = Duration::from_secs(5);

/// The options of every connection. Commits are synchronous whatever the server's default is.
pub fn connect_options(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    let options: PgConnectOptions = url.parse()?;
    Ok(options.application_name("hookonce").options([("synchronous_commit", "on"), ("statement_timeout", "30s")]))
}

/// The options of connections that repeat a few statements over and over: their plans are kept. One made while a table was empty must not
/// read it to its end when it has grown.
pub fn for_few_statements(options: &PgConnectOptions) -> PgConnectOptions {
    options.clone().options([("enable_seqscan", "off")])
}

/// The connection that ends deliveries, opened when it is first needed. It joins hundreds of rows that the planner takes for one: the statistics
/// of an outbox where all was pending say that nothing is leased. Each must not be compared with each.
pub fn finishing_pool(options: &PgConnectOptions) -> PgPool {
    lone_connection(for_few_statements(options).options([("enable_nestloop", "off")]))
}

/// The connection that claims deliveries, opened when it is first needed. It looks for each row by its primary key: without statistics, the planner
/// takes a thousand ids for half of the outbox, and reads it and all events to their ends.
pub fn claiming_pool(options: &PgConnectOptions) -> PgPool {
    lone_connection(for_few_statements(options).options([("enable_hashjoin", "off"), ("enable_mergejoin", "off")]))
}

fn lone_connection(options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_WITHIN).connect_lazy_with(options)
}

/// Connections for all that is no such thing. Each plan is made for the values at hand and for the tables as they are: a kept one joined 512
/// finished deliveries with as many open ones by comparing each with each.
pub async fn pool(options: PgConnectOptions, connections_max: u32) -> Result<PgPool, sqlx::Error> {
    let options = options.options([("plan_cache_mode", "force_custom_plan")]);
    PgPoolOptions::new().max_connections(connections_max).acquire_timeout(ACQUIRE_WITHIN).connect_with(options).await
}

/// Refuses servers that are too old or don't sync to disk.
pub async fn check(pool: &PgPool, allow_fsync_off: bool) -> Result<(), SchemaError> {
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
pub async fn migrate(pool: &PgPool) -> Result<(), SchemaError> {
    // An index over a big table takes as long as it takes, and so does waiting for another node that makes it.
    let mut connection = pool.acquire().await?.detach();
    sqlx::query("set statement_timeout = 0").execute(&mut connection).await?;
    let migrated = MIGRATOR.run(&mut connection).await;
    connection.close().await?;
    migrated.map_err(|error| match error {
        sqlx::migrate::MigrateError::VersionMissing(version) => SchemaError::Newer(version),
        other => SchemaError::Migrate(other),
    })
}

/// Whether the database answers a trivial query.
pub async fn answers(pool: &PgPool) -> bool {
    sqlx::query("select 1").execute(pool).await.is_ok()
}
