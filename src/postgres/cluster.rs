//! The cluster's files: makes a cluster if there is none, and refuses one of another major version.
//! Starts no server.

use std::{
    fs::{self, File},
    path::Path,
};

use super::{
    Binaries, PostgresError,
    account::{self, Account},
    data_dir::{cluster_of, made_by},
};

/// The superuser, whose only way in is the private socket.
pub(super) const SUPERUSER: &str = "hookonce";

/// The names of unfinished clusters begin with this.
const UNFINISHED: &str = "pgdata.new";

/// Makes the cluster if there is none; refuses one that these binaries cannot run. The caller holds
/// the data folder's lock.
pub(super) async fn ensure(
    data_dir: &Path,
    binaries: &Binaries,
    account: Option<&Account>,
) -> Result<(), PostgresError> {
    let cluster = cluster_of(data_dir);
    if let Some(made_by) = made_by(&cluster) {
        if made_by == binaries.version().major.to_string() {
            return Ok(());
        }
        return Err(PostgresError::OtherMajor {
            cluster,
            made_by,
            folder: binaries.folder().to_path_buf(),
            found: binaries.version(),
        });
    }
    // An empty folder is in nobody's way. One with other files is not ours to remove.
    if cluster.exists() && fs::remove_dir(&cluster).is_err() {
        return Err(PostgresError::NotACluster { cluster });
    }
    // The cluster is made aside and renamed, so that a process killed half way leaves no half
    // cluster that looks whole. The name is unique, because the initdb of a killed process may
    // still be writing into another.
    remove_unfinished(data_dir);
    let aside = data_dir.join(format!("{UNFINISHED}-{}", std::process::id()));
    account::private_dir(&aside, account)?;
    initdb(&aside, binaries, account).await?;
    fs::rename(&aside, &cluster)
        .map_err(|error| PostgresError::io("move the new cluster", &cluster, error))?;
    File::open(data_dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| PostgresError::io("sync the data folder", data_dir, error))
}

fn remove_unfinished(data_dir: &Path) {
    let entries = fs::read_dir(data_dir).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| {
        entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(UNFINISHED.as_bytes())
    }) {
        if let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::warn!(path = %entry.path().display(), %error, "an unfinished cluster could not be removed; it does no harm");
        }
    }
}

async fn initdb(
    target: &Path,
    binaries: &Binaries,
    account: Option<&Account>,
) -> Result<(), PostgresError> {
    let failed = |output: String| PostgresError::InitdbFailed {
        cluster: target.to_path_buf(),
        output,
    };
    let output = account::command(&binaries.program("initdb"), account)
        .arg("-D")
        .arg(target)
        .args([
            "--auth-local=trust",
            "--auth-host=reject",
            "--data-checksums",
            "--encoding=UTF8",
            "--no-instructions",
        ])
        .arg(format!("--username={SUPERUSER}"))
        .args(locale(binaries.version().major))
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
        .trim()
        .to_string(),
    ))
}

/// C.UTF-8 everywhere. An index must not depend on the system's collation, which changes with its C
/// library.
fn locale(major: u32) -> &'static [&'static str] {
    match major {
        17.. => &[
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        ],
        _ if cfg!(target_os = "macos") => &["--locale=C"],
        _ => &["--locale=C.UTF-8"],
    }
}
