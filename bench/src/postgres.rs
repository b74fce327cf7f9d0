//! The private PostgreSQL of a run: made, started and stopped here, durable (fsync and
//! synchronous_commit on), on a unix socket alone.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{sys::signal::Signal, unistd::User};
use tokio_postgres::{Client, NoTls};

use crate::child::Running;

const USER: &str = "bench";
const PORT: u16 = 5432;
const READY_WITHIN: Duration = Duration::from_secs(30);

/// What differs from PostgreSQL's defaults. shared_buffers and wal_compression are those of
/// hookonce's own managed server. The room for WAL keeps checkpoints out of short rounds, where
/// they would hit one side by chance; the sustained cases take it away again.
const SETTINGS: [(&str, &str); 12] = [
    ("listen_addresses", ""),
    ("port", "5432"),
    ("unix_socket_permissions", "0700"),
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "128MB"),
    ("wal_compression", "lz4"),
    ("max_connections", "700"),
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "30min"),
    ("log_min_messages", "warning"),
];

pub struct Postgres {
    running: Running,
    binaries: PathBuf,
    folder: PathBuf,
}

/// Where `initdb`, `postgres` and, if it can be had, `pgbench` are: as given, else on PATH, else
/// the newest installed.
pub fn find(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let has = |folder: &Path, program: &str| folder.join(program).exists();
    if let Some(given) = given {
        anyhow::ensure!(
            has(given, "initdb") && has(given, "postgres"),
            "{} has no initdb and postgres",
            given.display()
        );
        return Ok(given.to_path_buf());
    }
    let mut installed: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .collect();
    installed.sort_by(|a, b| b.cmp(a));
    let on_path: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    // A link on PATH leads to the folder of all programs.
    let linked = on_path.iter().filter_map(|folder| {
        fs::canonicalize(folder.join("initdb"))
            .ok()?
            .parent()
            .map(Path::to_path_buf)
    });
    let mut found: Vec<PathBuf> = linked
        .chain(installed.into_iter().map(|(_, folder)| folder))
        .collect();
    found.retain(|folder| has(folder, "initdb") && has(folder, "postgres"));
    let with_pgbench = found.iter().find(|folder| has(folder, "pgbench")).cloned();
    let any = found.into_iter().next();
    with_pgbench.or(any).context(
        "no PostgreSQL was found: install it with its pgbench, or give its folder with --postgres",
    )
}

impl Postgres {
    pub async fn start(folder: &Path, binaries: &Path) -> anyhow::Result<Self> {
        let (data, run) = (folder.join("pgdata"), folder.join("run"));
        let account =
            if nix::unistd::geteuid().is_root() {
                Some(User::from_name("postgres")?.context(
                    "PostgreSQL refuses to run as root and there is no account postgres",
                )?)
            } else {
                None
            };
        for path in [&data, &run] {
            fs::create_dir(path)?;
            if let Some(account) = &account {
                chown(path, Some(account.uid.as_raw()), Some(account.gid.as_raw()))?;
            }
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        }
        let command = |program: &str| {
            use std::os::unix::process::CommandExt as _;
            let mut command = Command::new(binaries.join(program));
            command
                .current_dir("/")
                .env("LC_ALL", "C")
                .arg("-D")
                .arg(&data);
            if let Some(account) = &account {
                command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
            }
            command
        };
        let mut initdb = command("initdb");
        initdb.args([
            "--auth=trust",
            "--data-checksums",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-instructions",
            "-U",
            USER,
        ]);
        let made = initdb.output().context("can't run initdb")?;
        if !made.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        }
        // In the file, not on the command line, which would win over a later `set`.
        let settings: String = SETTINGS
            .iter()
            .map(|(name, value)| format!("{name} = '{value}'\n"))
            .collect();
        let mut file = fs::File::options()
            .append(true)
            .open(data.join("postgresql.conf"))?;
        write!(
            file,
            "unix_socket_directories = '{}'\n{settings}",
            run.display()
        )?;
        let running = Running::start(
            command("postgres"),
            "PostgreSQL",
            Signal::SIGINT,
            &folder.join("postgres.log"),
        )?;
        let mut postgres = Self {
            running,
            binaries: binaries.to_path_buf(),
            folder: folder.to_path_buf(),
        };
        postgres.wait_until_ready().await?;
        Ok(postgres)
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while let Err(error) = self.connect("postgres").await {
            self.running
                .check()
                .with_context(|| format!("see {}", self.folder.join("postgres.log").display()))?;
            if Instant::now() > deadline {
                return Err(error).context("PostgreSQL did not get ready");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    pub fn pid(&self) -> i32 {
        self.running.pid()
    }

    pub fn binaries(&self) -> &Path {
        &self.binaries
    }

    /// The folder of the socket.
    pub fn host(&self) -> PathBuf {
        self.folder.join("run")
    }

    pub fn url(&self, database: &str) -> String {
        let host = self.host().display().to_string().replace('/', "%2F");
        format!("postgres://{USER}@localhost:{PORT}/{database}?host={host}&sslmode=disable")
    }

    pub fn user(&self) -> &'static str {
        USER
    }

    pub async fn connect(&self, database: &str) -> anyhow::Result<Client> {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(self.host())
            .port(PORT)
            .user(USER)
            .dbname(database)
            .application_name("bench");
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("bench: a connection to PostgreSQL broke: {error}");
            }
        });
        Ok(client)
    }

    /// Whether it was not there before.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<bool> {
        let client = self.connect("postgres").await?;
        let new = client
            .query_opt("select from pg_database where datname = $1", &[&name])
            .await?
            .is_none();
        if new {
            client
                .batch_execute(&format!("create database {name}"))
                .await?;
        }
        Ok(new)
    }

    /// Sets a server setting without a restart; `None` gives the one of the start back.
    pub async fn set(&self, name: &str, value: Option<&str>) -> anyhow::Result<()> {
        let client = self.connect("postgres").await?;
        let change = value.map_or_else(
            || format!("alter system reset {name}"),
            |value| format!("alter system set {name} = '{value}'"),
        );
        client.batch_execute(&change).await?;
        client.batch_execute("select pg_reload_conf()").await?;
        Ok(())
    }

    /// Drops the databases of earlier cases, so that no vacuum and no checkpoint of theirs falls
    /// into the next.
    pub async fn clear(&self) -> anyhow::Result<()> {
        let client = self.connect("postgres").await?;
        for row in client
            .query(
                "select datname from pg_database where not datistemplate and datname <> 'postgres'",
                &[],
            )
            .await?
        {
            client
                .batch_execute(&format!(
                    "drop database {} with (force)",
                    row.get::<_, String>(0)
                ))
                .await?;
        }
        self.rest().await
    }

    /// Writes out what is left to write.
    pub async fn rest(&self) -> anyhow::Result<()> {
        Ok(self
            .connect("postgres")
            .await?
            .batch_execute("checkpoint")
            .await?)
    }

    pub async fn stop(self) {
        self.running.stop(Duration::from_secs(20)).await;
    }
}

/// Empties what a round filled, so that the next one finds what this one found.
pub async fn empty(client: &Client) -> anyhow::Result<()> {
    client
        .batch_execute(
            "truncate event_key, event, conflict, outbox, delivery_ended, attempt, step, dedup_key",
        )
        .await?;
    client.batch_execute("checkpoint").await?;
    Ok(())
}

/// The bytes of WAL written up to now.
pub async fn wal_bytes(client: &Client) -> anyhow::Result<i64> {
    Ok(client
        .query_one("select (pg_current_wal_insert_lsn() - '0/0')::bigint", &[])
        .await?
        .get(0))
}
