//! Postmasters by their pid file: whether one runs on this cluster, and whether it still does.
//! Starts and stops nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::{errno::Errno, sys::signal, unistd::Pid};

use super::PostgresError;

/// A postmaster that runs on a cluster.
#[derive(Clone, Debug)]
pub(super) struct Postmaster {
    pub(super) pid: i32,
    /// The folder of its socket, if it has written it already.
    pub(super) socket_dir: Option<PathBuf>,
}

/// The postmaster that runs on this cluster, by whoever it was started.
pub(super) fn running_on(cluster: &Path) -> Option<Postmaster> {
    let text = fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
    // Lines: pid, data folder, start time, port, socket folder, address, shared memory, status.
    let mut lines = text.lines();
    let pid = lines
        .next()?
        .trim()
        .parse()
        .ok()
        .filter(|pid: &i32| *pid > 1)?;
    let socket_dir = lines
        .nth(3)
        .filter(|line| !line.is_empty())
        .map(PathBuf::from);
    runs(pid, cluster).then_some(Postmaster { pid, socket_dir })
}

/// Removes the pid file of a postmaster that is gone. PostgreSQL does so itself, unless the pid now
/// belongs to another process of the same account; then it would refuse to start. It still notices
/// leftover backends by their shared memory.
pub(super) fn remove_stale_pid_file(cluster: &Path) -> Result<(), PostgresError> {
    let path = cluster.join("postmaster.pid");
    if !path.exists() || running_on(cluster).is_some() {
        return Ok(());
    }
    tracing::info!(path = %path.display(), "removing the pid file of a PostgreSQL that is gone");
    fs::remove_file(&path)
        .map_err(|error| PostgresError::io("remove a stale pid file", path, error))
}

/// Whether this process is alive and is the postmaster of this cluster. A postmaster works in its
/// cluster's folder.
pub(super) fn runs(pid: i32, cluster: &Path) -> bool {
    if signal::kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) {
        return false;
    }
    let process = PathBuf::from(format!("/proc/{pid}"));
    if !Path::new("/proc/self").exists() {
        return runs_by_ps(pid);
    }
    match (
        fs::read_link(process.join("cwd")),
        fs::canonicalize(cluster),
    ) {
        (Ok(works_in), Ok(cluster)) => works_in == cluster,
        // Root without CAP_SYS_PTRACE (as in containers) may not look there. The name and the state
        // are readable by all.
        (Err(error), _) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            fs::read_to_string(process.join("stat"))
                .is_ok_and(|stat| stat.contains("(postgres) ") && !stat.contains("(postgres) Z"))
        }
        _ => false,
    }
}

fn runs_by_ps(pid: i32) -> bool {
    let output = std::process::Command::new("ps")
        .args(["-o", "stat=,comm=", "-p", &pid.to_string()])
        .output();
    output.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout);
        text.contains("postgres") && !text.trim_start().starts_with('Z')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_naming_another_process_is_stale_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("postmaster.pid");
        // Our own process is alive, but no postmaster of this cluster.
        fs::write(
            &file,
            format!(
                "{}\n{}\n0\n5432\n/tmp\n\n",
                std::process::id(),
                dir.path().display()
            ),
        )
        .unwrap();
        assert!(running_on(dir.path()).is_none());
        remove_stale_pid_file(dir.path()).unwrap();
        assert!(!file.exists());
    }
}
