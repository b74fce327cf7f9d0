//! Who PostgreSQL runs as. It refuses root, so under root it gets another account, which must be
//! able to reach its files.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::Path,
    process::Stdio,
};

use nix::unistd::{Gid, Uid, User, chown, geteuid};
use tokio::process::Command;

use super::PostgresError;

/// Tried in this order when root has to choose.
const CANDIDATES: [&str; 3] = ["postgres", "nobody", "daemon"];

/// An account to drop to. Where we are not root there is none, and PostgreSQL runs as we do.
#[derive(Clone, Debug)]
pub(super) struct Account {
    name: String,
    uid: Uid,
    gid: Gid,
}

impl Account {
    /// The account for a cluster: its owner if it exists, else the first candidate that the system
    /// has.
    pub(super) fn for_cluster(cluster: &Path) -> Result<Option<Self>, PostgresError> {
        let owner = fs::metadata(cluster)
            .ok()
            .map(|metadata| (metadata.uid(), metadata.gid()));
        if !geteuid().is_root() {
            return match owner {
                Some((uid, _)) if uid != geteuid().as_raw() => Err(PostgresError::OtherOwner {
                    path: cluster.to_path_buf(),
                    owner: uid,
                }),
                _ => Ok(None),
            };
        }
        if let Some((uid, gid)) = owner.filter(|(uid, _)| *uid != 0) {
            return Ok(Some(Self {
                name: format!("uid {uid}"),
                uid: Uid::from_raw(uid),
                gid: Gid::from_raw(gid),
            }));
        }
        let user = CANDIDATES
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .ok_or(PostgresError::NoAccount)?;
        Ok(Some(Self {
            name: user.name,
            uid: user.uid,
            gid: user.gid,
        }))
    }

    /// Checks that the account may enter every folder from the root down to `target`.
    pub(super) fn can_reach(&self, target: &Path) -> Result<(), PostgresError> {
        let Some(closed) = target
            .ancestors()
            .filter(|folder| !self.can_enter(folder))
            .last()
        else {
            return Ok(());
        };
        Err(PostgresError::Unreachable {
            account: self.name.clone(),
            folder: closed.to_path_buf(),
            target: target.to_path_buf(),
        })
    }

    fn can_enter(&self, folder: &Path) -> bool {
        let Ok(metadata) = fs::metadata(folder) else {
            return true;
        }; // not there yet: made by us, or reported by who uses it
        let needed = if metadata.uid() == self.uid.as_raw() {
            0o100
        } else if metadata.gid() == self.gid.as_raw() {
            0o010
        } else {
            0o001
        };
        metadata.mode() & needed != 0
    }
}

/// The uid that owns what PostgreSQL writes.
pub(super) fn owner(account: Option<&Account>) -> u32 {
    account.map_or(geteuid(), |account| account.uid).as_raw()
}

/// Makes a folder that only PostgreSQL's account (and root) can enter. An existing folder keeps its
/// content.
pub(super) fn private_dir(path: &Path, account: Option<&Account>) -> Result<(), PostgresError> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(PostgresError::io("make a folder", path, error));
        }
        _ => {}
    }
    if let Some(account) = account {
        chown(path, Some(account.uid), Some(account.gid))
            .map_err(|error| PostgresError::io("change the owner", path, error.into()))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .map_err(|error| PostgresError::io("change the mode", path, error))
}

/// A command for one of PostgreSQL's programs. It runs as the account, without our input and
/// without the caller's `PG…` variables, which change defaults. It has its own process group, so
/// that a terminal's Ctrl-C does not reach it.
pub(super) fn command(program: &Path, account: Option<&Account>) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .env("LC_ALL", "C");
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG"))
    {
        command.env_remove(name);
    }
    if let Some(account) = account {
        // Setting the uid also drops root's supplementary groups.
        command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_folder_on_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let inner = dir.path().join("data");
        fs::create_dir(&inner).unwrap();
        // A uid that owns nothing here.
        let stranger = Account {
            name: "stranger".into(),
            uid: Uid::from_raw(54_321),
            gid: Gid::from_raw(54_321),
        };
        match stranger.can_reach(&inner) {
            Err(PostgresError::Unreachable { folder, target, .. }) => {
                assert_eq!(
                    (folder.as_path(), target.as_path()),
                    (dir.path(), inner.as_path())
                )
            }
            other => panic!("{other:?}"),
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        stranger.can_reach(&inner).unwrap();
    }
}
