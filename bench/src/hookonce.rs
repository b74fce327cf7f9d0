//! hookonce as users run it: the release binary's `serve` with a settings file of its own, started
//! and stopped here.

use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use tokio::net::TcpStream;

use crate::{
    child::Running,
    events::{GITHUB_SECRET, STRIPE_SECRET},
    load,
    postgres::Postgres,
};

/// Under a profiler a start takes a while.
const READY_WITHIN: Duration = Duration::from_secs(120);
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// The destination that every database of a run has paused, so that deliveries are written and not
/// made.
pub const PAUSED: &str = "paused";

/// Who may use the admin port, and the ledger there.
pub const TOKEN: &str = "bench-0123456789abcdefghijklmnopqrstuv";

/// Where events go.
#[derive(Clone, Debug, Default)]
pub enum Relay {
    /// To a destination that is paused: the deliveries are recorded with their events.
    #[default]
    Paused,
    /// To these handlers, by a route each: the source and its destination's port.
    To(Vec<(String, u16)>),
}

pub struct Options<'a> {
    pub database: &'a str,
    pub relay: Relay,
    /// Further lines of the settings file.
    pub extra: &'a str,
    /// What runs the binary: a profiler and its arguments.
    pub wrapper: &'a [&'a str],
}

impl<'a> Options<'a> {
    pub fn paused(database: &'a str) -> Self {
        Self {
            database,
            relay: Relay::Paused,
            extra: "",
            wrapper: &[],
        }
    }
}

pub struct Hookonce {
    running: Running,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    /// From the start of the process to the first answer of its public port.
    pub started_within: Duration,
}

/// A port that was free a moment ago.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// What runs hookonce.
pub struct Installed {
    pub binary: PathBuf,
    pub folder: PathBuf,
}

impl Installed {
    /// A database with hookonce's schema and the destination `paused`, if it is not there.
    pub async fn create_database(&self, postgres: &Postgres, name: &str) -> anyhow::Result<()> {
        if !postgres.create_database(name).await? {
            return Ok(());
        }
        let settings = self.write_settings(postgres, &Options::paused(name), 0, 0)?;
        let mut command = self.command(&settings, &[]);
        let output = command
            .args(["db", "migrate"])
            .output()
            .with_context(|| format!("can't run {}", self.binary.display()))?;
        if !output.status.success() {
            bail!(
                "db migrate failed: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let pause = format!("insert into destination_pause (destination) values ('{PAUSED}')");
        postgres.connect(name).await?.batch_execute(&pause).await?;
        Ok(())
    }

    pub async fn start(
        &self,
        postgres: &Postgres,
        options: &Options<'_>,
    ) -> anyhow::Result<Hookonce> {
        let (port, admin) = (free_port()?, free_port()?);
        let settings = self.write_settings(postgres, options, port, admin)?;
        let mut command = self.command(&settings, options.wrapper);
        command.arg("serve");
        let log = self
            .folder
            .join(format!("hookonce-{}.log", options.database));
        let begin = Instant::now();
        let running = Running::start(command, "hookonce", Signal::SIGTERM, &log)?;
        let [address, admin] = [port, admin].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut hookonce = Hookonce {
            running,
            address,
            admin,
            started_within: Duration::ZERO,
        };
        hookonce
            .wait_until_ready(begin)
            .await
            .with_context(|| format!("see {}", log.display()))?;
        Ok(hookonce)
    }

    fn command(&self, settings: &Path, wrapper: &[&str]) -> Command {
        let mut command = match wrapper {
            [] => Command::new(&self.binary),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&self.binary);
                command
            }
        };
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"HOOKONCE"))
        {
            command.env_remove(name);
        }
        command
            .env_remove("DATABASE_URL")
            .arg("--config")
            .arg(settings)
            .arg("--data-dir")
            .arg(self.folder.join("data"));
        command
    }

    fn write_settings(
        &self,
        postgres: &Postgres,
        options: &Options<'_>,
        port: u16,
        admin: u16,
    ) -> anyhow::Result<PathBuf> {
        let url = postgres.url(options.database);
        let mut text = format!(
            "[ingress]\nbind = \"127.0.0.1:{port}\"\n[admin]\nbind = \"127.0.0.1:{admin}\"\ntoken = \"{TOKEN}\"\n[database]\nurl = \"{url}\"\n[log]\nfilter = \"warn\"\n\
             [sources.stripe]\nprovider = \"stripe\"\nsecret = \"{STRIPE_SECRET}\"\n\
             [sources.github]\nprovider = \"github\"\nsecret = \"{GITHUB_SECRET}\"\n{}\n",
            options.extra
        );
        match &options.relay {
            Relay::Paused => {
                writeln!(
                    text,
                    "[destinations.{PAUSED}]\nurl = \"http://127.0.0.1:9/\""
                )?;
                for source in ["stripe", "github"] {
                    writeln!(
                        text,
                        "[[routes]]\nsource = \"{source}\"\ndestination = \"{PAUSED}\""
                    )?;
                }
            }
            Relay::To(handlers) => {
                for (at, (source, port)) in handlers.iter().enumerate() {
                    writeln!(
                        text,
                        "[destinations.handler-{at}]\nurl = \"http://127.0.0.1:{port}/\"\nsigning_secret = \"whsec_aGVsbG8gYmVuY2htYXJrIG9mIGhvb2tvbmNl\""
                    )?;
                    writeln!(
                        text,
                        "[[routes]]\nsource = \"{source}\"\ndestination = \"handler-{at}\""
                    )?;
                }
            }
        }
        let path = self.folder.join(format!("{}.toml", options.database));
        fs::write(&path, text)?;
        Ok(path)
    }
}

impl Hookonce {
    pub fn pid(&self) -> i32 {
        self.running.pid()
    }

    async fn wait_until_ready(&mut self, begin: Instant) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        let request = b"GET /readyz HTTP/1.1\r\nhost: bench\r\n\r\n";
        loop {
            if let Ok(mut stream) = TcpStream::connect(self.address).await {
                let mut answer = Vec::new();
                if load::exchange(&mut stream, request, &mut answer)
                    .await
                    .is_ok_and(|answer| answer.status == 200)
                {
                    self.started_within = begin.elapsed();
                    return Ok(());
                }
            }
            self.running.check()?;
            if Instant::now() > deadline {
                bail!("hookonce did not get ready within {READY_WITHIN:?}");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub async fn stop(self) {
        self.running.stop(STOP_WITHIN).await;
    }
}
