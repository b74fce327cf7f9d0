//! What can go wrong with the managed PostgreSQL. Each message says what, where, and what to do.

use std::{fmt::Write as _, io, path::PathBuf};

use super::version::{OLDEST_MAJOR, Version};

#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    #[error(
        "no data folder: neither HOOKONCE_DATA_DIR nor HOME is set; set HOOKONCE_DATA_DIR to a folder that can be written"
    )]
    NoDataDir,
    #[error(
        "no PostgreSQL {OLDEST_MAJOR} or later found (looked in PATH, the usual folders and {data}); `hookonce db install` gets one \
         for this data folder, or {paste}", data = .data_dir.display(), paste = PASTE
    )]
    NotFound { data_dir: PathBuf },
    #[error("{folder} (from {origin}) is not usable: {why}; it must be the bin folder of PostgreSQL {OLDEST_MAJOR} or later", folder = .folder.display())]
    UnusableBinaries {
        folder: PathBuf,
        origin: &'static str,
        why: String,
    },
    #[error("PostgreSQL could not be downloaded:{tried}\nInstall it yourself, then run the same command again: {PASTE}", tried = list_tried(.tried))]
    InstallFailed { tried: Vec<(&'static str, String)> },
    #[error("cannot {what} at {path}", path = .path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the data folder {path} cannot be made or used; set HOOKONCE_DATA_DIR to a folder that can be written", path = .path.display())]
    DataDir {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{data_dir} is not empty, and a private server's folder is removed in the end; give it one of its own", data_dir = .data_dir.display())]
    NotEmpty { data_dir: PathBuf },
    #[error(
        "PostgreSQL refuses to run as root, and there is no user postgres, nobody or daemon to run it as; \
         run hookonce as a normal user, or add one: useradd --system postgres"
    )]
    NoAccount,
    #[error(
        "PostgreSQL runs as the user {account}, who cannot enter {folder} on the way to {target}; \
         use a folder outside it (HOOKONCE_DATA_DIR=/var/lib/hookonce), or run hookonce as a normal user",
        folder = .folder.display(), target = .target.display()
    )]
    Unreachable {
        account: String,
        folder: PathBuf,
        target: PathBuf,
    },
    #[error(
        "{path} belongs to another user (uid {owner}); run hookonce as that user, or set HOOKONCE_DATA_DIR to a folder of your own",
        path = .path.display()
    )]
    OtherOwner { path: PathBuf, owner: u32 },
    #[error(
        "another hookonce already uses {data_dir}; stop it first, set HOOKONCE_DATA_DIR to another folder, \
         or share its database by DATABASE_URL", data_dir = .data_dir.display()
    )]
    InUse { data_dir: PathBuf },
    #[error("PostgreSQL (process {pid}) is already running on {cluster}; stop it first: kill -INT {pid}", cluster = .cluster.display())]
    AlreadyRunning { pid: i32, cluster: PathBuf },
    #[error("{cluster} holds files but no PostgreSQL cluster (no PG_VERSION); move it away or set HOOKONCE_DATA_DIR", cluster = .cluster.display())]
    NotACluster { cluster: PathBuf },
    #[error(
        "{cluster} was made by PostgreSQL {made_by}, but {folder} is {found}. Either install PostgreSQL {made_by} and point \
         HOOKONCE_POSTGRES_BIN at its bin folder, or upgrade the cluster (pg_upgrade, or pg_dumpall with {made_by} and restore), \
         or start afresh with another HOOKONCE_DATA_DIR", cluster = .cluster.display(), folder = .folder.display()
    )]
    OtherMajor {
        cluster: PathBuf,
        made_by: String,
        folder: PathBuf,
        found: Version,
    },
    #[error("initdb could not make a cluster in {cluster}; nothing was kept, so start again once this is mended: {output}", cluster = .cluster.display())]
    InitdbFailed { cluster: PathBuf, output: String },
    #[error("PostgreSQL stopped while starting ({reason}); its log {log} ends with:\n{tail}", log = .log.display())]
    Died {
        reason: String,
        log: PathBuf,
        tail: String,
    },
    #[error("PostgreSQL was not ready after {seconds} s; its log {log} ends with:\n{tail}", log = .log.display())]
    NotReady {
        seconds: u64,
        log: PathBuf,
        tail: String,
    },
    #[error("PostgreSQL (process {pid}) did not stop; see {log}, then: kill -QUIT {pid}", log = .log.display())]
    StillRunning { pid: i32, log: PathBuf },
    #[error("{path} is not a private folder of uid {owner}; remove it", path = .path.display())]
    UnsafeSocketDir { path: PathBuf, owner: u32 },
    #[error("the managed PostgreSQL answered with an error")]
    Sql(#[source] sqlx::Error),
}

impl PostgresError {
    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io {
            what,
            path: path.into(),
            source,
        }
    }
}

/// The lines to paste if hookonce cannot get PostgreSQL by itself.
const PASTE: &str = "paste the line for your system:
  Debian, Ubuntu   sudo apt-get update && sudo apt-get install -y postgresql
  Fedora, RHEL     sudo dnf install -y postgresql-server
  macOS            brew install postgresql@17
  Docker           docker run -d --name hookonce-postgres -p 127.0.0.1:5432:5432 -e POSTGRES_DB=hookonce -e POSTGRES_PASSWORD=hookonce postgres:17
                   export DATABASE_URL=postgres://postgres:hookonce@127.0.0.1:5432/hookonce";

fn list_tried(tried: &[(&'static str, String)]) -> String {
    tried.iter().fold(String::new(), |mut text, (route, why)| {
        let _ = write!(text, "\n  {route}: {why}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_install_lists_each_route_and_what_to_paste() {
        let text = PostgresError::InstallFailed {
            tried: vec![
                ("npm", "not installed".into()),
                ("pip", "digest differs".into()),
            ],
        }
        .to_string();
        for part in [
            "npm: not installed",
            "pip: digest differs",
            "apt-get install",
            "dnf install",
            "brew install",
            "docker run",
        ] {
            assert!(text.contains(part), "{part} missing in {text}");
        }
    }
}
