//! Cleans up after a test run, however it ended. A shell waits for our end of a pipe to close, then
//! stops PostgreSQL and removes the folder. A destructor would not run after kill -9, nor for a
//! static.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use super::PostgresError;

/// `$1` is the data folder. An immediate stop is right, because the data is removed next.
const SCRIPT: &str = r#"
cat >/dev/null
pid_file="$1/pgdata/postmaster.pid"
pid=$(head -n 1 "$pid_file" 2>/dev/null)
[ -n "$pid" ] && kill -QUIT "$pid" 2>/dev/null
tries=0
while [ -e "$pid_file" ] && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
tries=0
until rm -rf "$1" 2>/dev/null || [ $tries -ge 10 ]; do sleep 0.5; tries=$((tries + 1)); done
"#;

#[derive(Debug)]
pub(super) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    pub(super) fn over(data_dir: &Path) -> Result<Self, PostgresError> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "hookonce-watchdog"])
            .arg(data_dir)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| PostgresError::io("start the clean-up shell", data_dir, error))?;
        Ok(Self { shell })
    }

    /// Closes our end and waits until PostgreSQL is stopped and the folder is gone.
    pub(super) fn release(mut self) {
        drop(self.shell.stdin.take());
        if let Err(error) = self.shell.wait() {
            tracing::warn!(%error, "the clean-up shell could not be waited for");
        }
    }
}
