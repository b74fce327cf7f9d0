//! The folders that a server stands on: the data folder, its lock, the socket's folder, the log.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;
use sha2::{Digest, Sha256};

use crate::postgres::{
    PostgresError,
    account::{self, Account},
};

/// `sun_path` holds 104 bytes on macOS and 108 on Linux, of which `/.s.PGSQL.5432.lock` takes 19.
const SOCKET_DIR_BYTES_MAX: usize = 84;
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Makes the data folder if it is missing. Gives its absolute path, because PostgreSQL's programs
/// work in other folders.
pub(super) fn make_data_dir(data_dir: &Path) -> Result<PathBuf, PostgresError> {
    let failed = |source| PostgresError::DataDir {
        path: data_dir.to_path_buf(),
        source,
    };
    let root = geteuid().is_root();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(if root { 0o755 } else { 0o700 })
        .create(data_dir)
        .map_err(failed)?;
    let metadata = fs::metadata(data_dir).map_err(failed)?;
    // Under root PostgreSQL runs as another account, which has to pass through this folder. What is
    // private in it has modes of its own.
    if root && metadata.uid() == 0 && metadata.mode() & 0o011 != 0o011 {
        fs::set_permissions(
            data_dir,
            fs::Permissions::from_mode(metadata.mode() & 0o7777 | 0o011),
        )
        .map_err(failed)?;
    }
    fs::canonicalize(data_dir).map_err(failed)
}

/// A file lock that is released explicitly. Closing the file is not enough, because a process that
/// another thread is just starting still has it open.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

pub(super) fn lock(data_dir: &Path) -> Result<Lock, PostgresError> {
    let path = data_dir.join("postgres.lock");
    let open = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let file = open.map_err(|error| PostgresError::io("open the lock", &path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(PostgresError::InUse {
            data_dir: data_dir.to_path_buf(),
        }),
        Err(TryLockError::Error(error)) => Err(PostgresError::io("take the lock", path, error)),
    }
}

/// `run` in the data folder. If a socket's path there would be too long for the system, a short
/// folder named after the data folder.
pub(super) fn make_socket_dir(
    data_dir: &Path,
    account: Option<&Account>,
) -> Result<PathBuf, PostgresError> {
    let inside = data_dir.join("run");
    if inside.as_os_str().len() <= SOCKET_DIR_BYTES_MAX
        && inside.to_str().is_some_and(|path| !path.contains('"'))
    {
        account::private_dir(&inside, account)?;
        return Ok(inside);
    }
    let digest = hex::encode(Sha256::digest(data_dir.as_os_str().as_encoded_bytes()));
    let short = PathBuf::from(format!("/tmp/hookonce-{}", &digest[..16]));
    // /tmp is open to all. A folder or link that somebody else put there must not be trusted, nor
    // handed to PostgreSQL.
    if let Ok(metadata) = fs::symlink_metadata(&short) {
        let owner = account::owner(account);
        if !metadata.is_dir() || metadata.uid() != owner || metadata.mode() & 0o077 != 0 {
            return Err(PostgresError::UnsafeSocketDir { path: short, owner });
        }
        return Ok(short);
    }
    account::private_dir(&short, account)?;
    Ok(short)
}

/// Sets a log aside that has grown too long. Gives the length at which this start's part begins.
pub(super) fn rotate_log(log: &Path) -> u64 {
    let length = fs::metadata(log).map_or(0, |metadata| metadata.len());
    if length > LOG_BYTES_MAX && fs::rename(log, log.with_extension("log.1")).is_ok() {
        0
    } else {
        length
    }
}
