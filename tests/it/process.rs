//! The binary as a process: a folder to run it in, a running `serve`, and a PostgreSQL that a test
//! may break.

use std::{
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use hookonce::postgres::{Server, ServerOptions};
use sqlx::{Connection as _, PgConnection};

use crate::app::*;

/// A folder with settings and data, and the commands run in it.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub database_url: String,
}

impl Place {
    pub async fn new(config: &str) -> Self {
        Self::on(config, database().await)
    }

    pub fn on(config: &str, database_url: String) -> Self {
        let place = Self {
            folder: tempfile::tempdir().expect("a folder"),
            database_url,
        };
        place.write(config);
        place
    }

    pub fn write(&self, config: &str) {
        std::fs::write(self.folder.path().join("hookonce.toml"), config).expect("the settings");
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookonce"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("DATABASE_URL", &self.database_url);
        command
            .env("HOOKONCE_DATA_DIR", self.folder.path().join("data"))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// Runs a command to its end; one that does not end is killed.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::from(self.command(arguments));
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
        tokio::time::timeout(LONG * 2, output)
            .await
            .unwrap_or_else(|_| panic!("{arguments:?} did not end"))
            .expect("the command")
    }

    pub async fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    pub async fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let text = self
            .text(&[arguments, &["--output", "json"]].concat())
            .await;
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"))
    }

    /// What a command that must fail with this exit code said.
    pub async fn refused(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments).await;
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {output:?}"
        );
        String::from_utf8(output.stderr).expect("text")
    }

    pub async fn serve(&self) -> Served {
        let log = std::fs::File::create(self.folder.path().join("log")).expect("a log");
        let served = Served(
            self.command(&["serve"])
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("serve"),
        );
        let ready = self.run(&["ready", "--wait", "30s"]).await;
        assert!(ready.status.success(), "{ready:?} {}", self.log());
        served
    }

    /// Asks the place's database.
    pub async fn count(&self, sql: &'static str) -> i64 {
        let mut connection = PgConnection::connect(&self.database_url)
            .await
            .expect("the database");
        sqlx::query_scalar(sql)
            .fetch_one(&mut connection)
            .await
            .expect("a count")
    }

    /// Asks until it gives this count.
    pub async fn until(&self, sql: &'static str, count: i64) {
        let wait = async {
            while self.count(sql).await != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, wait)
            .await
            .unwrap_or_else(|_| panic!("{sql} is not {count}: {}", self.log()));
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until a process of this place has logged this.
    pub async fn logged(&self, text: &str) {
        let wait = async {
            while !self.log().contains(text) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, wait)
            .await
            .unwrap_or_else(|_| panic!("{text:?} was not logged: {}", self.log()));
    }
}

/// A running process, killed when it is dropped.
pub struct Served(pub Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Served {
    pub fn signal(&self, name: &str) {
        signal(name, &self.0.id().to_string());
    }

    /// Waits for its end; one that does not end is killed.
    pub async fn ended(mut self) -> ExitStatus {
        let wait = async {
            loop {
                match self.0.try_wait().expect("the process") {
                    Some(status) => return status,
                    None => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(LONG, wait)
            .await
            .expect("the end of the process")
    }
}

fn signal(name: &str, pid: &str) {
    assert!(
        Command::new("kill")
            .args([&format!("-{name}"), pid])
            .status()
            .expect("kill")
            .success(),
        "kill -{name} {pid}"
    );
}

/// A port that nobody else gets by chance: it is below those that the kernel gives out (from 32,768
/// on), and each is given here once.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut ports = std::iter::repeat_with(|| {
        let offset = std::process::id()
            .wrapping_mul(97)
            .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))
            % COUNT;
        FIRST + u16::try_from(offset).expect("below the count")
    });
    ports
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a port")
}

pub fn served_config(handler: &Handler) -> (String, String) {
    let port = free_port();
    let config = config(&[("h", &handler.url(), "retry = { base = \"10ms\" }")])
        .replacen(
            "bind = \"127.0.0.1:0\"",
            &format!("bind = \"127.0.0.1:{port}\""),
            1,
        )
        .replacen("[relay]", "[relay]\ntimeout = \"1s\"\nlease = \"4s\"", 1);
    (config, format!("http://127.0.0.1:{port}/hooks/stripe"))
}

/// The PostgreSQL server of a data folder: stopped at once, whatever becomes of the test.
pub struct Managed(pub PathBuf);

impl Managed {
    pub fn pid(&self) -> Option<String> {
        let file = std::fs::read_to_string(self.0.join("pgdata/postmaster.pid")).ok()?;
        file.lines().next().map(str::to_owned)
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = Command::new("kill").args(["-QUIT", &pid]).status();
        }
    }
}

/// A PostgreSQL of the test's own, which it may set as it likes, kill and start again.
pub struct OwnServer {
    managed: Managed,
    server: Option<Server>,
    settings: Vec<(String, String)>,
    /// The last to be dropped: the server's folder.
    _folder: tempfile::TempDir,
}

impl OwnServer {
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("hookonce-")
            .tempdir()
            .expect("a folder");
        let settings = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut own = Self {
            managed: Managed(folder.path().into()),
            server: None,
            settings,
            _folder: folder,
        };
        own.start_again().await;
        own
    }

    pub async fn start_again(&mut self) {
        // The lock of the data folder goes with it.
        self.server = None;
        let until = std::time::Instant::now() + LONG;
        loop {
            let options = ServerOptions {
                binaries: binaries().await,
                data_dir: self.managed.0.clone(),
                adopt: false,
                settings: self.settings.clone(),
            };
            match Server::start(options).await {
                Ok(server) => return self.server = Some(server),
                // Backends of one that was killed end when they see that it is gone; until then its
                // memory is in use.
                Err(error) if std::time::Instant::now() > until => panic!("no PostgreSQL: {error}"),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// Kills the postmaster: its backends find out by themselves.
    pub async fn kill(&self) {
        let server = self.server.as_ref().expect("a server");
        signal("KILL", &server.pid().to_string());
        tokio::time::timeout(LONG, server.exited())
            .await
            .expect("its end");
    }

    pub fn url(&self) -> String {
        self.server.as_ref().expect("a server").url()
    }

    /// The immediate stop, as a crash would be: nothing is written out, and the next start has to
    /// recover.
    pub async fn crash(&self) {
        let server = self.server.as_ref().expect("a server");
        signal("QUIT", &server.pid().to_string());
        tokio::time::timeout(LONG, server.exited())
            .await
            .expect("its end");
    }
}
