//! Connections to PostgreSQL: which settings each session gets, and a time limit for every wait. A
//! connection whose packets go nowhere looks like one that works, for nobody reports it: a failover
//! without a reset, a stopped backend, a lost NAT entry. Which statements run is not decided here.

use std::{future::Future, io, time::Duration};

use futures_util::{
    FutureExt as _, StreamExt as _, TryFutureExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    ConnectOptions as _, Describe, Either, Execute, Executor, PgConnection, PgPool, Postgres,
    SqlStr,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::time::{error::Elapsed, timeout};

const ACQUIRE_WITHIN: Duration = Duration::from_secs(5);
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Limit for the ping before an idle connection is used. A server that takes longer is not worth
/// asking.
const PING_WITHIN: Duration = Duration::from_secs(1);
/// How long the server may work on one statement, and how long its answer is waited for.
const SERVER_TIMEOUT: &str = "30s";
const STATEMENT_WITHIN: Duration = Duration::from_secs(35);

/// Parses a database URL into the options of every connection.
pub fn options(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    let options: PgConnectOptions = url.parse()?;
    // No `extra_float_digits` at the start-up: poolers refuse start-up options that they don't
    // know, and doubles are exact by default.
    Ok(options
        .application_name("hookonce")
        .extra_float_digits(None))
}

/// Waits for a statement at most this long. After a timeout the connection must not be used again,
/// because its answer may still come.
pub async fn within<T, E: From<sqlx::Error>>(
    limit: Duration,
    statement: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    timeout(limit, statement)
        .await
        .unwrap_or_else(|_| Err(silent(limit).into()))
}

fn silent(limit: Duration) -> sqlx::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!(
            "the database did not answer within {} s",
            limit.as_secs_f64()
        ),
    )
    .into()
}

/// Opens connections whose sessions have the same settings.
#[derive(Clone, Debug)]
pub struct Dialer {
    options: PgConnectOptions,
    settings: Vec<(&'static str, &'static str)>,
}

impl Dialer {
    /// Commits are synchronous, whatever the server's default is.
    pub fn new(options: PgConnectOptions) -> Self {
        Self {
            options,
            settings: vec![
                ("synchronous_commit", "on"),
                ("statement_timeout", SERVER_TIMEOUT),
            ],
        }
    }

    /// Adds a setting of the session.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.settings.push((name, value));
        self
    }

    /// Opens a connection and sets its session up by a statement, because a pooler may drop what a
    /// start-up packet says.
    ///
    /// The future is boxed because it is large and rarely runs. Inside the future that writes a
    /// batch it was 190 KB, copied with every batch: 43 % more instructions an event.
    pub fn connect(&self) -> BoxFuture<'_, Result<PgConnection, sqlx::Error>> {
        let open = async {
            let mut connection = self.options.connect().await?;
            self.tell(&mut connection).await?;
            Ok(connection)
        };
        Box::pin(within(CONNECT_WITHIN, open))
    }

    async fn tell(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        watch_sockets(self.options.get_port());
        let names: Vec<&str> = self.settings.iter().map(|(name, _)| *name).collect();
        let values: Vec<&str> = self.settings.iter().map(|(_, value)| *value).collect();
        // By the usual path a role named hookonce would make its tables in the schema of that name,
        // which is there for the functions of migration 0009. So the path is where the tables are.
        let told = sqlx::query_scalar::<_, String>(
            "select set_config(name, value, false)
               from (select name, value from unnest($1::text[], $2::text[]) as s (name, value)
                     union all
                     select 'search_path', coalesce((select relnamespace::regnamespace::text from pg_class where oid = to_regclass('event_key')),
                                                    quote_ident(current_schema()), current_setting('search_path'))) as s",
        );
        told.bind(names)
            .bind(values)
            .persistent(false)
            .fetch_all(&mut *connection)
            .await?;
        let kept: String = sqlx::query_scalar("show synchronous_commit")
            .persistent(false)
            .fetch_one(connection)
            .await?;
        if matches!(kept.as_str(), "off" | "local") {
            let message = format!(
                "synchronous_commit is {kept} on this connection, though it was set to on: a pooler between (PgBouncer in transaction mode) gives each \
                 statement another session. Connect to PostgreSQL itself, or to a pooler in session mode"
            );
            return Err(sqlx::Error::Configuration(message.into()));
        }
        Ok(())
    }

    /// A pool of at most this many connections, each opened when it is first needed.
    pub fn pool(&self, connections_max: u32) -> Db {
        let dialer = self.clone();
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(ACQUIRE_WITHIN)
            .test_before_acquire(false)
            .before_acquire(|connection, _| {
                Box::pin(async move {
                    within(PING_WITHIN, sqlx::Connection::ping(connection))
                        .await
                        .map(|()| true)
                })
            })
            .after_connect(move |connection, _| {
                let dialer = dialer.clone();
                Box::pin(async move { within(CONNECT_WITHIN, dialer.tell(connection)).await })
            })
            .connect_lazy_with(self.options.clone());
        Db {
            pool,
            limit: STATEMENT_WITHIN,
        }
    }
}

/// A pool that bounds every statement. A statement without an answer in time is an error, and its
/// connection is given up.
#[derive(Clone, Debug)]
pub struct Db {
    pool: PgPool,
    limit: Duration,
}

impl Db {
    /// How many connections are open.
    pub fn size(&self) -> u32 {
        self.pool.size()
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// A connection taken out of the pool, for statements without a time limit.
    pub async fn detached(&self) -> Result<PgConnection, sqlx::Error> {
        Ok(self.pool.acquire().await?.detach())
    }

    async fn lend(&self) -> Result<Lent, sqlx::Error> {
        Ok(Lent {
            connection: Some(self.pool.acquire().await?),
            limit: self.limit,
        })
    }
}

/// A connection lent by the pool, which gets it back only after its statement has ended. If the
/// statement was cut off, the connection is dropped: the pool would wait for its answer.
struct Lent {
    connection: Option<PoolConnection<Postgres>>,
    limit: Duration,
}

impl Lent {
    fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.connection
            .as_deref_mut()
            .ok_or(sqlx::Error::PoolClosed)
    }

    fn ended<T>(
        mut self,
        answer: Result<Result<T, sqlx::Error>, Elapsed>,
    ) -> Result<T, sqlx::Error> {
        let answer = answer.map_err(|_| silent(self.limit))?;
        self.connection = None;
        answer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.detach());
        }
    }
}

impl<'p> Executor<'p> for &'_ Db {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let db = self.clone();
        let all = async move {
            let mut lent = db.lend().await?;
            let answer = timeout(
                db.limit,
                lent.connection()?.fetch_many(query).try_collect::<Vec<_>>(),
            )
            .await;
            lent.ended(answer)
        };
        all.map_ok(|rows| stream::iter(rows.into_iter().map(Ok)))
            .try_flatten_stream()
            .boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let db = self.clone();
        async move {
            let mut lent = db.lend().await?;
            let answer = timeout(db.limit, lent.connection()?.fetch_optional(query)).await;
            lent.ended(answer)
        }
        .boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        let db = self.clone();
        async move {
            let mut lent = db.lend().await?;
            let answer = timeout(db.limit, lent.connection()?.prepare_with(sql, parameters)).await;
            lent.ended(answer)
        }
        .boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'p: 'e,
    {
        let db = self.clone();
        async move {
            let mut lent = db.lend().await?;
            let answer = timeout(db.limit, lent.connection()?.describe(sql)).await;
            lent.ended(answer)
        }
        .boxed()
    }
}

/// Sets TCP timeouts, so that the system itself notices within ten seconds that PostgreSQL
/// acknowledges no packets. Keepalive probes serve while nothing is sent. sqlx has no setting for
/// this, so all sockets to this port are set.
#[cfg(target_os = "linux")]
fn watch_sockets(port: u16) {
    use nix::sys::socket::{SockaddrStorage, getpeername, setsockopt, sockopt};

    let Ok(open) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let numbers = open
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for number in numbers {
        let Ok(peer) = getpeername::<SockaddrStorage>(number) else {
            continue;
        };
        let peer_port = peer
            .as_sockaddr_in()
            .map(|v4| v4.port())
            .or_else(|| Some(peer.as_sockaddr_in6()?.port()));
        if peer_port != Some(port) {
            continue;
        }
        // SAFETY: the number is used for these calls alone. If another thread has closed it
        // meanwhile and it names another file by now, the calls fail or make a socket notice its
        // peer's end.
        let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        let told = setsockopt(&socket, sockopt::KeepAlive, &true)
            .and_then(|()| setsockopt(&socket, sockopt::TcpKeepIdle, &5))
            .and_then(|()| setsockopt(&socket, sockopt::TcpKeepInterval, &2))
            .and_then(|()| setsockopt(&socket, sockopt::TcpKeepCount, &2))
            .and_then(|()| setsockopt(&socket, sockopt::TcpUserTimeout, &10_000));
        if let Err(error) = told {
            tracing::debug!(%error, "a connection to the database has no keepalive");
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn watch_sockets(_port: u16) {}
