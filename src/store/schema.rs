//! Connects, migrates, and refuses a database that can't keep hookonce's promises. It retries
//! nothing.

use sqlx::{
    Connection as _, PgConnection,
    migrate::{MigrateError, Migrator},
    postgres::PgConnectOptions,
};

use super::{
    error::Error,
    link::{Db, Dialer},
};

/// Runs without sqlx's own lock, which belongs to the session: a pooler may give the end of a
/// migration another session than its beginning.
static MIGRATOR: Migrator = Migrator {
    locking: false,
    ..sqlx::migrate!("./migrations")
};
/// The advisory lock of whoever migrates. Its number is this application's own choice.
const MIGRATING: i64 = 0x686f_6f6b_6f6e_6365;

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
    #[error(
        "the database's encoding is {0}: events hold any text of Unicode. Make one that does: \
         create database hookonce encoding 'UTF8' template template0"
    )]
    Encoding(String),
    #[error(
        "a connection has not the session that it was given: a pooler in transaction mode is between, and what a session is told (commits are synchronous, a statement's \
         time) would not hold. Use pool_mode = session for hookonce's database or user, or connect to PostgreSQL itself"
    )]
    SharedSession,
    #[error("PostgreSQL {0} is too old: hookonce needs 15 or later")]
    TooOld(i32),
    #[error("the database did not answer")]
    Database(#[from] sqlx::Error),
}

/// Options for writers, which repeat a few statements over and over, so their plans are kept.
/// Sequential scans are off: a plan made while a table was empty must not read it to its end when
/// it has grown.
pub fn for_few_statements(options: &PgConnectOptions) -> Dialer {
    Dialer::new(options.clone()).with("enable_seqscan", "off")
}

/// The connection that ends deliveries, opened when it is first needed. The finishing statement
/// joins up to 512 rows. Statistics taken while all of an outbox was pending make the planner
/// expect one, and choose a nested loop: 512 × 512 comparisons. So nested loops are off.
///
/// Bench case `backlog`: with that plan a backlog drained at 2,900/s instead of 8,900/s.
pub fn for_finishing(options: &PgConnectOptions) -> Dialer {
    for_few_statements(options).with("enable_nestloop", "off")
}

/// The connection that claims deliveries, opened when it is first needed. Rows can only be looked
/// up by their primary key there. Without statistics the planner takes a thousand ids for half of
/// the outbox, and reads it and all events to their ends.
///
/// Bench case `backlog`: such a claim took 50 to 280 ms, and a backlog of 200,000 drained at 4,100
/// to 6,300/s.
pub fn claiming_pool(options: &PgConnectOptions) -> Db {
    for_few_statements(options)
        .with("enable_hashjoin", "off")
        .with("enable_mergejoin", "off")
        .pool(1)
}

/// Connections for everything else. Each plan is made anew for the values and the tables as they
/// are. A kept plan, made while the outbox was empty, joined two sets of 512 deliveries by a nested
/// loop: 348 ms a batch.
pub fn pool(options: &PgConnectOptions, connections_max: u32) -> Db {
    Dialer::new(options.clone())
        .with("plan_cache_mode", "force_custom_plan")
        .pool(connections_max)
}

/// Refuses servers that are too old, don't sync to disk or don't hold all text, and poolers that
/// change sessions.
///
/// # Errors
///
/// The first of these that is found, or that the database did not answer.
pub async fn check(pool: &Db, allow_fsync_off: bool) -> Result<(), SchemaError> {
    check_session(pool).await?;
    let (version, fsync, encoding): (i32, String, String) =
        sqlx::query_as("select current_setting('server_version_num')::int, current_setting('fsync'), current_setting('server_encoding')")
            .fetch_one(pool)
            .await?;
    if version < 150_000 {
        return Err(SchemaError::TooOld(version / 10_000));
    }
    if fsync == "off" && !allow_fsync_off {
        return Err(SchemaError::FsyncOff);
    }
    if encoding != "UTF8" {
        return Err(SchemaError::Encoding(encoding));
    }
    Ok(())
}

/// How many times two connections are asked for their own setting. While many nodes start at once,
/// a pooler may give a connection its own session again for a while.
const SESSION_ROUNDS: usize = 16;

/// Detects a pooler that changes sessions. With a session for each statement, a connection finds
/// what the other one was told, not what it was told itself. Errors about prepared statements that
/// are missing or exist already also show such a pooler.
async fn check_session(pool: &Db) -> Result<(), SchemaError> {
    let shared = |error: sqlx::Error| {
        let code = error
            .as_database_error()
            .and_then(|error| error.code())
            .map(|code| code.into_owned());
        if matches!(code.as_deref(), Some("26000" | "42P05" | "08P01")) {
            SchemaError::SharedSession
        } else {
            error.into()
        }
    };
    let mut connections = Vec::new();
    for _ in 0..2 {
        let mut connection = pool.detached().await.map_err(shared)?;
        let mark = crate::ids::new().to_string();
        let told = sqlx::query("select set_config('hookonce.session', $1, false)")
            .bind(&mark)
            .persistent(false);
        told.execute(&mut connection).await.map_err(shared)?;
        connections.push((connection, mark));
    }
    for _ in 0..SESSION_ROUNDS {
        for (connection, mark) in &mut connections {
            let found = sqlx::query_scalar("select current_setting('hookonce.session', true)")
                .persistent(false);
            let found: Option<String> = found.fetch_one(connection).await.map_err(shared)?;
            if found.as_ref() != Some(mark) {
                return Err(SchemaError::SharedSession);
            }
        }
    }
    for (connection, _) in connections {
        connection.close().await?;
    }
    Ok(())
}

/// Brings the schema up to this version, all of it or nothing. Several nodes may start at once: one
/// migrates and the others wait. If there is nothing to do, a role that may create nothing is
/// enough.
pub async fn migrate(pool: &Db) -> Result<(), SchemaError> {
    let mut connection = pool.detached().await?;
    if !is_current(&mut connection).await? {
        let mut all = connection.begin().await?;
        // No limit, because an index over a big table takes long, and so does waiting for another
        // node that makes it.
        sqlx::query("set local statement_timeout = 0")
            .execute(&mut *all)
            .await?;
        sqlx::query("select pg_advisory_xact_lock($1)")
            .bind(MIGRATING)
            .execute(&mut *all)
            .await?;
        MIGRATOR.run(&mut *all).await.map_err(|error| match error {
            MigrateError::VersionMissing(version) => SchemaError::Newer(version),
            other => SchemaError::Migrate(other),
        })?;
        all.commit().await?;
    }
    Ok(connection.close().await?)
}

/// Whether exactly this version's migrations are applied.
async fn is_current(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let table: Option<String> = sqlx::query_scalar("select to_regclass('_sqlx_migrations')::text")
        .fetch_one(&mut *connection)
        .await?;
    if table.is_none() {
        return Ok(false);
    }
    let found = sqlx::query_as(
        "select version, checksum from _sqlx_migrations where success order by version",
    );
    let found: Vec<(i64, Vec<u8>)> = found.fetch_all(connection).await?;
    Ok(found
        .iter()
        .map(|(version, checksum)| (*version, &checksum[..]))
        .eq(MIGRATOR.iter().map(|m| (m.version, &m.checksum[..]))))
}

/// Checks that the pool answers a trivial query.
pub async fn answers(pool: &Db) -> Result<(), sqlx::Error> {
    sqlx::query("select 1").execute(pool).await.map(drop)
}

/// What an empty commit told.
pub struct Written {
    /// The identity of the server whose log has the commit; see `writes`.
    pub server: String,
    /// The server's clock at the commit, in ms since 1970.
    pub at_unix_ms: i64,
}

/// Makes the smallest commit there is, a message in the log that nobody reads, and returns the
/// server's identity. That is the server's start time, its timeline, and the files of the key
/// tables. So another server, an older state of this one, and tables that were made anew all
/// differ.
pub async fn writes(connection: &mut PgConnection) -> Result<Written, Error> {
    let (is_read_only, at_unix_ms, server): (bool, i64, String) = sqlx::query_as(
        "with written as (select pg_logical_emit_message(true, 'hookonce', ''))
         select current_setting('transaction_read_only')::bool,
                (extract(epoch from clock_timestamp()) * 1000)::bigint,
                concat_ws(' ', pg_postmaster_start_time(), substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8),
                          (select string_agg(pg_relation_filenode(c.oid)::text, ',' order by c.oid)
                             from pg_class c where c.relkind = 'r' and c.relname like 'event\\_key%'
                              and c.relnamespace = (select relnamespace from pg_class where oid = 'event_key'::regclass)))
           from written",
    )
    .fetch_one(connection)
    .await?;
    if is_read_only {
        return Err(Error::ReadOnly);
    }
    Ok(Written { server, at_unix_ms })
}

/// Takes one more page of the server's disk, which an empty commit does not. So a full disk is
/// noticed here before an event is refused. The page is in a temporary table, which is not logged
/// and is emptied after `PAGES_MAX` pages.
pub struct Pages {
    taken: u32,
}

const PAGES_MAX: u32 = 64;

impl Pages {
    /// None if the role may not make a temporary table, or the server refuses it otherwise.
    /// Recording events needs no such table.
    pub async fn of(connection: &mut PgConnection) -> Result<Option<Self>, sqlx::Error> {
        // Each row fills nearly a page and is stored uncompressed, so that each takes a page of its
        // own.
        let made = "create temporary table if not exists hookonce_pages (filler bytea); \
                    alter table hookonce_pages alter column filler set storage plain";
        match sqlx::raw_sql(made).execute(connection).await {
            Ok(_) => Ok(Some(Self { taken: 0 })),
            Err(sqlx::Error::Database(error))
                if !error
                    .code()
                    .is_some_and(|code| code.starts_with("53") || code == "25006") =>
            {
                tracing::warn!(%error, "a full disk will be noticed only when an event is refused: no temporary table can be made");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub async fn take(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.taken == PAGES_MAX {
            sqlx::query("truncate hookonce_pages")
                .execute(&mut *connection)
                .await?;
            self.taken = 0;
        }
        sqlx::query("insert into hookonce_pages values (decode(repeat('00', 8000), 'hex'))")
            .execute(connection)
            .await?;
        self.taken += 1;
        Ok(())
    }
}
