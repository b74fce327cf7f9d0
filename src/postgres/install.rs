//! Gets PostgreSQL's binaries by package name, through a client or crate that is there anyway, into
//! the data folder.
//!
//! Each route is pinned, and its archive is checked against the digest in `routes.rs` before
//! anything in it runs; the crate checks its own. It knows no registry's address, because the
//! clients' configuration says where packages come from. It does not look at what the system has;
//! `find.rs` does.

mod progress;
mod routes;
mod unpack;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use super::{Binaries, PostgresError, find::installed_root};
pub use progress::Progress;
use routes::Route;

/// Takes what is already installed in the data folder, else downloads it. Several processes may do
/// so at once: the first to finish wins.
pub async fn install(
    data_dir: &Path,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Binaries, PostgresError> {
    let root = installed_root(data_dir);
    let make = |error| PostgresError::io("make the folder for PostgreSQL's binaries", &root, error);
    fs::create_dir_all(&root).map_err(make)?;
    let mut tried = Vec::new();
    for route in routes::all() {
        let target = root.join(route.version());
        if let Ok(binaries) = Binaries::probe(&target.join("bin")) {
            progress(Progress::Done {
                folder: binaries.folder().to_path_buf(),
            });
            return Ok(binaries);
        }
        progress(Progress::Trying {
            route: route.name(),
            package: route.package(),
        });
        match try_route(&route, &root, &target, progress).await {
            Ok(binaries) => {
                progress(Progress::Done {
                    folder: binaries.folder().to_path_buf(),
                });
                return Ok(binaries);
            }
            Err(why) => {
                progress(Progress::Failed {
                    route: route.name(),
                    why: why.clone(),
                });
                tried.push((route.name(), why));
            }
        }
    }
    Err(PostgresError::InstallFailed { tried })
}

async fn try_route(
    route: &Route,
    root: &Path,
    target: &Path,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Binaries, String> {
    let workshop = Workshop::new(root)
        .map_err(|error| format!("cannot write in {}: {error}", root.display()))?;
    let tree = workshop.0.join("tree");
    route.fetch(&workshop.0, &tree, progress).await?;
    let whole = tree.clone();
    tokio::task::spawn_blocking(move || open_to_all(&whole))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("cannot set modes: {error}"))?;
    // A build for another C library unpacks well but does not run.
    Binaries::probe(&tree.join("bin"))?;
    if fs::rename(&tree, target).is_err() && Binaries::probe(&target.join("bin")).is_err() {
        // The target is broken and no other process's good work, so it makes room.
        fs::remove_dir_all(target)
            .and_then(|()| fs::rename(&tree, target))
            .map_err(|error| format!("cannot move to {}: {error}", target.display()))?;
    }
    Binaries::probe(&target.join("bin"))
}

/// Under root, PostgreSQL's account must be able to read all this, whatever our umask is.
fn open_to_all(folder: &Path) -> std::io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    let programs = folder.file_name().is_some_and(|name| name == "bin");
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            open_to_all(&entry.path())?;
        } else if kind.is_file() {
            let mode = if programs || entry.metadata()?.permissions().mode() & 0o100 != 0 {
                0o755
            } else {
                0o644
            };
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

/// A folder beside the target, so that a rename finishes the work; removed with whatever is left in
/// it.
struct Workshop(PathBuf);

/// The owner of an older workshop is gone, because downloads end sooner than this.
const WORKSHOP_AGE_MAX: Duration = Duration::from_secs(3600);

impl Workshop {
    fn new(root: &Path) -> std::io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        for entry in fs::read_dir(root)?
            .flatten()
            .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b".new-"))
        {
            let age = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
                .and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age > WORKSHOP_AGE_MAX) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let folder = root.join(format!(
            ".new-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
