//! Connects, migrates, and refuses a database that can't keep hookonce's promises.

use sqlx::{
    Connection as _, PgConnection,
    migrate::{MigrateError, Migrator},
    postgres::PgConnectOptions,
};

use super::{
    error::Error,
    link::{Db, Dialer},
};

/// Without the migrator's own lock, which is the session's: a pooler may give its end another
/// session than its beginning.
static MIGRATOR: Migrator = Migrator {
    locking: false,
    ..sqlx::migrate!("./migrations")
};
/// Who holds this lock migrates. Of this application's choice, as advisory locks are.
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

/// The connections of writers, which repeat a few statements over and over: their plans are kept.
/// One made while a table was empty must not read it to its end when it has grown.
pub fn for_few_statements(options: &PgConnectOptions) -> Dialer {
    Dialer::new(options.clone()).with("enable_seqscan", "off")
}

/// The connection that ends deliveries, opened when it is first needed. It joins hundreds of rows
/// that the planner takes for one: the statistics of an outbox where all was pending say that
/// nothing is leased. Each must not be compared with each.
pub fn for_finishing(options: &PgConnectOptions) -> Dialer {
    for_few_statements(options).with("enable_nestloop", "off")
}

/// The connection that claims deliveries, opened when it is first needed. It looks for each row by
/// its primary key: without statistics, the planner takes a thousand ids for half of the outbox,
/// and reads it and all events to their ends.
pub fn claiming_pool(options: &PgConnectOptions) -> Db {
    for_few_statements(options)
        .with("enable_hashjoin", "off")
        .with("enable_mergejoin", "off")
        .pool(1)
}

/// Connections for all that is no such thing. Each plan is made for the values at hand and for the
/// tables as they are: a kept one joined 512 finished deliveries with as many open ones by
/// comparing each with each.
pub fn pool(options: &PgConnectOptions, connections_max: u32) -> Db {
    Dialer::new(options.clone())
        .with("plan_cache_mode", "force_custom_plan")
        .pool(connections_max)
}

/// Refuses servers that are too old, don't sync to disk or don't hold all text, and poolers that
/// change sessions.
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

/// How often two connections are asked for what they were told. Where many nodes start at once a
/// pooler may give a connection its own session again for a while.
const SESSION_ROUNDS: usize = 16;

/// A pooler that has a session for each statement gives the one that is free to whoever asks next:
/// a connection does not find what it was told, but what others were. It may also tell by itself,
/// for statements that were prepared are then not there, or there already.
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

/// Brings the schema up to this version, all of it or nothing. Several nodes at once are safe: one
/// migrates, the others wait for it. Where there is nothing to do a role that may create nothing is
/// enough.
pub async fn migrate(pool: &Db) -> Result<(), SchemaError> {
    let mut connection = pool.detached().await?;
    if !is_current(&mut connection).await? {
        let mut all = connection.begin().await?;
        // An index over a big table takes as long as it takes, and so does waiting for another node
        // that makes it.
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

/// Whether exactly this version's migrations are there.
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

/// Whether the pool answers a trivial query.
pub async fn answers(pool: &Db) -> Result<(), sqlx::Error> {
    sqlx::query("select 1").execute(pool).await.map(drop)
}

/// A commit of nothing.
pub struct Written {
    /// Whose log it is in.
    pub server: String,
    /// What the server's clock said.
    pub at_unix_ms: i64,
}

/// Writes as little as a commit can be (a message in the log that nobody reads), and says whose log
/// it is: when the server was started, its timeline, and the files of the keys. Another server, an
/// older state of this one, and tables that were made anew all have another name.
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

/// Takes one more page from the server's disk, which a commit alone does not: where it is full this
/// fails, before an event does. The page is in a table of this session's own, which is in no log,
/// and emptied after `PAGES_MAX`.
pub struct Pages {
    taken: u32,
}

const PAGES_MAX: u32 = 64;

impl Pages {
    /// None where the role may make no such table, or whatever else the server has against it:
    /// events need none.
    pub async fn of(connection: &mut PgConnection) -> Result<Option<Self>, sqlx::Error> {
        // A row of nearly a page, kept as it is, so that each needs a page of its own.
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
