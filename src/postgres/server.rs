//! Starts, adopts, watches and stops the server on the data folder's cluster.
//!
//! Architecture invariant: one `Server` a data folder, held by a file lock; durability (`fsync`,
//! `synchronous_commit`) is on and no TCP port is open. What it deliberately does not do: restart a
//! server that died (the caller decides), migrate, or stop the server on drop.

mod folders;

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::{
    Connection, Executor, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::{sync::watch, time::sleep};

use self::folders::{Lock, lock, make_data_dir, make_socket_dir, rotate_log};
use super::{
    Binaries, PostgresError,
    account::{self, Account},
    cluster::{self, SUPERUSER},
    data_dir::cluster_of,
    postmaster::{self, Postmaster},
    watchdog::Watchdog,
};

/// The database that hookonce uses.
const DATABASE: &str = "hookonce";
/// Names the socket only; no TCP port is opened.
const PORT: u16 = 5432;
/// Crash recovery after a kill may have to read up to `max_wal_size` of log.
const READY_WITHIN: Duration = Duration::from_secs(120);
const FAST_STOP_WITHIN: Duration = Duration::from_secs(60);
const IMMEDIATE_STOP_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
const LOG_TAIL_BYTES: u64 = 2_000;

#[derive(Clone, Debug)]
pub struct ServerOptions {
    pub binaries: Binaries,
    /// Holds the cluster (`pgdata`), the socket (`run`) and the log (`postgres.log`).
    pub data_dir: PathBuf,
    /// Take over a server that a killed process left running, instead of refusing.
    pub adopt: bool,
    /// Further server settings; they win over ours.
    pub settings: Vec<(String, String)>,
}

/// A running server. Dropping this leaves the server running for the next process to adopt, because
/// a panic must not stop a database under load. Call `stop` to stop it.
#[derive(Debug)]
pub struct Server {
    pid: i32,
    socket_dir: PathBuf,
    cluster: PathBuf,
    log: PathBuf,
    adopted: bool,
    end: watch::Receiver<Option<String>>,
    watchdog: Option<Watchdog>,
    /// Held while we are the one who manages this data folder.
    _lock: Lock,
}

impl Server {
    /// Makes the cluster if there is none, starts or adopts its server, and makes the database
    /// `hookonce`. Dropped half way, it may leave a server running, which the next start adopts.
    pub async fn start(options: ServerOptions) -> Result<Self, PostgresError> {
        let ground = Ground::prepare(&options)?;
        if let Some(left) = postmaster::running_on(&ground.cluster) {
            if !options.adopt {
                return Err(PostgresError::AlreadyRunning {
                    pid: left.pid,
                    cluster: ground.cluster,
                });
            }
            match Self::adopt(&ground, &left).await {
                // The server was already on its way down, so a start of our own can follow.
                Err(PostgresError::Died { reason, .. }) => tracing::info!(
                    pid = left.pid,
                    reason,
                    "the PostgreSQL left running has ended"
                ),
                Err(error) => return Err(error),
                Ok(end) => return ground.serve(left.pid, left.socket_dir, end, true).await,
            }
        }
        cluster::ensure(&ground.data_dir, &options.binaries, ground.account.as_ref()).await?;
        postmaster::remove_stale_pid_file(&ground.cluster)?;
        let (pid, end) = ground.spawn(&options).await?;
        ground.wait_until_ready(&ground.socket_dir, &end).await?;
        ground.serve(pid, None, end, false).await
    }

    /// A throw-away server for a test run: stopped, and `data_dir` removed, when `stop` is called
    /// or this process ends in whatever way.
    pub async fn start_private(binaries: Binaries, data_dir: &Path) -> Result<Self, PostgresError> {
        let data_dir = make_data_dir(data_dir)?;
        // All of it is removed in the end, so it must be empty now.
        if fs::read_dir(&data_dir).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(PostgresError::NotEmpty { data_dir });
        }
        let watchdog = Watchdog::over(&data_dir)?;
        // A test run keeps one small pool for each of its databases.
        let settings = vec![("max_connections".to_string(), "300".to_string())];
        let mut server = Self::start(ServerOptions {
            binaries,
            data_dir,
            adopt: false,
            settings,
        })
        .await?;
        server.watchdog = Some(watchdog);
        Ok(server)
    }

    async fn adopt(
        ground: &Ground,
        left: &Postmaster,
    ) -> Result<watch::Receiver<Option<String>>, PostgresError> {
        let end = watch_process(left.pid, ground.cluster.clone());
        let socket_dir = left.socket_dir.as_deref().unwrap_or(&ground.socket_dir);
        ground.wait_until_ready(socket_dir, &end).await?;
        tracing::info!(
            pid = left.pid,
            "adopted the PostgreSQL that was left running"
        );
        Ok(end)
    }

    /// The address of the database `hookonce`, over the unix socket.
    pub fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    /// The address of another database of this server.
    pub fn url_of(&self, database: &str) -> String {
        url(&self.socket_dir, database)
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether another process had left it running.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Ends when the server has ended, and says how. It borrows nothing, so a task of its own can
    /// wait for it.
    pub fn exited(&self) -> impl Future<Output = String> + Send + 'static {
        wait_for_end(self.end.clone())
    }

    /// Stops the server: clients are cut off, their transactions are rolled back, and everything is
    /// written out. If that takes too long, stops it at once. That costs a recovery at the next
    /// start but no data.
    pub async fn stop(mut self) -> Result<(), PostgresError> {
        if let Some(watchdog) = self.watchdog.take() {
            return tokio::task::spawn_blocking(|| watchdog.release())
                .await
                .map_err(|error| {
                    PostgresError::io("wait for the clean-up shell", &self.cluster, error.into())
                });
        }
        for (signal, within) in [
            (Signal::SIGINT, FAST_STOP_WITHIN),
            (Signal::SIGQUIT, IMMEDIATE_STOP_WITHIN),
        ] {
            if !postmaster::runs(self.pid, &self.cluster) {
                return Ok(());
            }
            // The process may end between the check and the signal.
            let _ = kill(Pid::from_raw(self.pid), signal);
            if tokio::time::timeout(within, self.gone()).await.is_ok() {
                return Ok(());
            }
            tracing::warn!(pid = self.pid, waited_s = within.as_secs(), %signal, "PostgreSQL has not stopped yet");
        }
        Err(PostgresError::StillRunning {
            pid: self.pid,
            log: self.log,
        })
    }

    async fn gone(&self) {
        while postmaster::runs(self.pid, &self.cluster) {
            sleep(POLL).await;
        }
    }
}

/// The address of the database on a server that some process runs on this data folder. For commands
/// that only look.
pub fn running_url(data_dir: &Path) -> Option<String> {
    let socket_dir = postmaster::running_on(&cluster_of(data_dir))?.socket_dir?;
    Some(url(&socket_dir, DATABASE))
}

fn url(socket_dir: &Path, database: &str) -> String {
    let host = utf8_percent_encode(&socket_dir.to_string_lossy(), NON_ALPHANUMERIC).to_string();
    format!("postgres://{SUPERUSER}@localhost:{PORT}/{database}?host={host}&sslmode=disable")
}

/// What a start needs: checked folders, the account, the lock.
struct Ground {
    data_dir: PathBuf,
    cluster: PathBuf,
    socket_dir: PathBuf,
    log: PathBuf,
    log_start: u64,
    account: Option<Account>,
    lock: Lock,
}

impl Ground {
    fn prepare(options: &ServerOptions) -> Result<Self, PostgresError> {
        let data_dir = make_data_dir(&options.data_dir)?;
        let cluster = cluster_of(&data_dir);
        let account = Account::for_cluster(&cluster)?;
        if let Some(account) = &account {
            account.can_reach(&data_dir)?;
            account.can_reach(options.binaries.folder())?;
        }
        let lock = lock(&data_dir)?;
        let socket_dir = make_socket_dir(&data_dir, account.as_ref())?;
        let log = data_dir.join("postgres.log");
        let log_start = rotate_log(&log);
        Ok(Self {
            data_dir,
            cluster,
            socket_dir,
            log,
            log_start,
            account,
            lock,
        })
    }

    async fn spawn(
        &self,
        options: &ServerOptions,
    ) -> Result<(i32, watch::Receiver<Option<String>>), PostgresError> {
        let failed = |error| PostgresError::io("open the log", &self.log, error);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.log)
            .map_err(failed)?;
        let wal_compression = if self.has_lz4(options).await {
            "lz4"
        } else {
            "off"
        };
        let ours = [
            ("listen_addresses", String::new()),
            ("port", PORT.to_string()),
            (
                "unix_socket_directories",
                format!("\"{}\"", self.socket_dir.display()),
            ),
            ("unix_socket_permissions", "0700".into()),
            ("fsync", "on".into()),
            ("full_page_writes", "on".into()),
            ("synchronous_commit", "on".into()),
            ("shared_buffers", "128MB".into()),
            ("max_connections", "100".into()),
            ("wal_compression", wal_compression.into()),
            ("log_destination", "stderr".into()),
            ("logging_collector", "off".into()),
            ("log_line_prefix", "%m [%p] ".into()),
        ];
        let program = options.binaries.program("postgres");
        let mut command = account::command(&program, self.account.as_ref());
        command
            .arg("-D")
            .arg(&self.cluster)
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log);
        for (name, value) in ours
            .iter()
            .map(|(name, value)| (*name, value))
            .chain(options.settings.iter().map(|(n, v)| (n.as_str(), v)))
        {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let mut child = command
            .spawn()
            .map_err(|error| PostgresError::io("start PostgreSQL", &program, error))?;
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .unwrap_or_default();
        let (sender, end) = watch::channel(None);
        tokio::spawn(async move {
            let reason = child
                .wait()
                .await
                .map_or_else(|error| error.to_string(), |status| status.to_string());
            let _ = sender.send(Some(reason));
        });
        Ok((pid, end))
    }

    /// Whether the server's program was built with lz4. It refuses the value otherwise.
    async fn has_lz4(&self, options: &ServerOptions) -> bool {
        let mut command =
            account::command(&options.binaries.program("postgres"), self.account.as_ref());
        command
            .arg("-D")
            .arg(&self.cluster)
            .args(["-c", "wal_compression=lz4", "-C", "wal_compression"])
            .kill_on_drop(true);
        command
            .output()
            .await
            .is_ok_and(|output| output.status.success())
    }

    async fn wait_until_ready(
        &self,
        socket_dir: &Path,
        end: &watch::Receiver<Option<String>>,
    ) -> Result<(), PostgresError> {
        let connect = async {
            while let Err(error) = connect(socket_dir, "postgres").await {
                tracing::debug!(%error, "PostgreSQL is not ready yet");
                sleep(POLL).await;
            }
        };
        tokio::select! {
            reason = wait_for_end(end.clone()) => Err(PostgresError::Died { reason, log: self.log.clone(), tail: self.log_tail() }),
            ready = tokio::time::timeout(READY_WITHIN, connect) => ready.map_err(|_| {
                PostgresError::NotReady { seconds: READY_WITHIN.as_secs(), log: self.log.clone(), tail: self.log_tail() }
            }),
        }
    }

    async fn serve(
        self,
        pid: i32,
        socket_dir: Option<PathBuf>,
        end: watch::Receiver<Option<String>>,
        adopted: bool,
    ) -> Result<Server, PostgresError> {
        let socket_dir = socket_dir.unwrap_or(self.socket_dir);
        make_database(&socket_dir)
            .await
            .map_err(PostgresError::Sql)?;
        Ok(Server {
            pid,
            socket_dir,
            cluster: self.cluster,
            log: self.log,
            adopted,
            end,
            watchdog: None,
            _lock: self.lock,
        })
    }

    /// The end of what was logged since this start began.
    fn log_tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(
                self.log_start.max(length.saturating_sub(LOG_TAIL_BYTES)),
            ))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).trim().to_string())
        };
        read().unwrap_or_else(|error| format!("(the log cannot be read: {error})"))
    }
}

fn watch_process(pid: i32, cluster: PathBuf) -> watch::Receiver<Option<String>> {
    let (sender, end) = watch::channel(None);
    tokio::spawn(async move {
        // It is not our child, so no signal tells us of its end.
        while postmaster::runs(pid, &cluster) && !sender.is_closed() {
            sleep(POLL * 5).await;
        }
        let _ = sender.send(Some(
            "it was started by an earlier process, so its exit status is not known".to_string(),
        ));
    });
    end
}

async fn wait_for_end(mut end: watch::Receiver<Option<String>>) -> String {
    let reason = end
        .wait_for(Option::is_some)
        .await
        .map(|reason| reason.clone());
    match reason {
        Ok(reason) => reason.unwrap_or_default(),
        // The runtime of the watching task is gone, so the end will never be known.
        Err(_) => std::future::pending().await,
    }
}

async fn connect(socket_dir: &Path, database: &str) -> Result<PgConnection, sqlx::Error> {
    let options = PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(PORT)
        .username(SUPERUSER)
        .database(database)
        .ssl_mode(PgSslMode::Disable);
    PgConnection::connect_with(&options).await
}

async fn make_database(socket_dir: &Path) -> Result<(), sqlx::Error> {
    let mut connection = connect(socket_dir, "postgres").await?;
    let known = connection
        .fetch_optional("select 1 from pg_database where datname = 'hookonce'")
        .await?;
    if known.is_none() {
        connection.execute("create database hookonce").await?;
    }
    connection.close().await
}

#[cfg(test)]
mod tests;
