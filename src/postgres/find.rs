//! Finds PostgreSQL's binaries on this machine. Never downloads: that is `install.rs`.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    OLDEST_MAJOR, PostgresError,
    data_dir::{cluster_of, made_by},
    version::Version,
};

/// A folder with PostgreSQL's binaries, or `none` to overlook those installed on the system.
pub const BINARIES_VARIABLE: &str = "HOOKONCE_POSTGRES_BIN";

/// The bin folder of one PostgreSQL installation that was seen to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    folder: PathBuf,
    version: Version,
}

impl Binaries {
    /// The folder given by `HOOKONCE_POSTGRES_BIN` or the settings (`extra`). Else the first of
    /// PATH, the packages' usual folders (newest first), Homebrew, and what `install` left in the
    /// data folder. If the data folder holds a cluster, binaries of its major version go first: a
    /// newer PostgreSQL on the machine must not lock people out of their data.
    pub fn find(extra: Option<&Path>, data_dir: &Path) -> Result<Self, PostgresError> {
        let search = Search {
            variable: std::env::var_os(BINARIES_VARIABLE).filter(|value| !value.is_empty()),
            path: std::env::var_os("PATH").unwrap_or_default(),
            system_roots: SYSTEM_ROOTS
                .iter()
                .map(|(root, suffix)| (PathBuf::from(root), *suffix))
                .collect(),
        };
        search.run(extra, data_dir)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Takes a folder if its `postgres` runs, is new enough and has `initdb` beside it. Else says
    /// why not.
    pub(super) fn probe(folder: &Path) -> Result<Self, String> {
        // PATH often holds a symbolic link to this one program. Its siblings are where the link
        // points.
        let postgres = fs::canonicalize(folder.join("postgres"))
            .map_err(|error| format!("no postgres program ({error})"))?;
        let folder = postgres.parent().map(Path::to_path_buf).unwrap_or_default();
        if !folder.join("initdb").exists() {
            return Err(format!("no initdb in {}", folder.display()));
        }
        let output = Command::new(&postgres)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("postgres does not run ({error})"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let Some(version) = Version::parse(&text).filter(|_| output.status.success()) else {
            return Err(format!(
                "`postgres --version` failed: {}{}",
                text.trim(),
                String::from_utf8_lossy(&output.stderr).trim()
            ));
        };
        if version.major < OLDEST_MAJOR {
            return Err(format!("it is PostgreSQL {version}"));
        }
        Ok(Self { folder, version })
    }
}

/// Where packages put one folder a version: the parent, and the way from a version's folder to its
/// programs.
const SYSTEM_ROOTS: [(&str, &str); 6] = [
    ("/usr/lib/postgresql", "bin"),
    ("/usr", "bin"), // pgsql-17/bin, by PostgreSQL's own RPM packages
    ("/opt/homebrew/opt", "bin"),
    ("/usr/local/opt", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "bin"),
];

/// The folder in the data folder that `install` fills, one folder a version.
pub(super) fn installed_root(data_dir: &Path) -> PathBuf {
    data_dir.join("postgres")
}

struct Search {
    variable: Option<OsString>,
    path: OsString,
    system_roots: Vec<(PathBuf, &'static str)>,
}

impl Search {
    fn run(&self, extra: Option<&Path>, data_dir: &Path) -> Result<Binaries, PostgresError> {
        let hidden = self
            .variable
            .as_deref()
            .is_some_and(|value| value == "none");
        let given = match (&self.variable, extra) {
            (Some(folder), _) if !hidden => Some((Path::new(folder), BINARIES_VARIABLE)),
            (_, Some(folder)) => Some((folder, "the settings")),
            _ => None,
        };
        if let Some((folder, origin)) = given {
            return Binaries::probe(folder).map_err(|why| PostgresError::UnusableBinaries {
                folder: folder.to_path_buf(),
                origin,
                why,
            });
        }
        let mut folders = if hidden {
            Vec::new()
        } else {
            self.system_folders()
        };
        folders.extend(version_folders(&installed_root(data_dir), "bin"));
        let found: Vec<Binaries> = folders
            .iter()
            .filter_map(|folder| Binaries::probe(folder).ok())
            .collect();
        let made_by = made_by(&cluster_of(data_dir));
        let same_major = found.iter().find(|binaries| {
            made_by.as_deref() == Some(binaries.version.major.to_string().as_str())
        });
        same_major
            .or(found.first())
            .cloned()
            .ok_or_else(|| PostgresError::NotFound {
                data_dir: data_dir.to_path_buf(),
            })
    }

    fn system_folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = std::env::split_paths(&self.path)
            .filter(|folder| folder.join("postgres").exists())
            .collect();
        for (root, suffix) in &self.system_roots {
            folders.extend(version_folders(root, suffix));
        }
        folders
    }
}

/// The folders `root/*/suffix` that hold a postgres program, the newest version first by the digits
/// in their names.
fn version_folders(root: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(Vec<u32>, PathBuf)> = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| {
            (
                version_in(&entry.file_name().to_string_lossy()),
                entry.path().join(suffix),
            )
        })
        .filter(|(_, folder)| folder.join("postgres").exists())
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, folder)| folder).collect()
}

fn version_in(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder with programs that answer like PostgreSQL of this version.
    fn pretend(folder: &Path, version: &str) {
        fs::create_dir_all(folder).unwrap();
        for name in ["postgres", "initdb"] {
            fs::write(
                folder.join(name),
                format!("#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n"),
            )
            .unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn search(root: &Path, variable: Option<&Path>) -> Search {
        Search {
            variable: variable.map(|path| path.as_os_str().to_owned()),
            path: OsString::new(),
            system_roots: vec![(root.join("system"), "bin")],
        }
    }

    fn version(major: u32, minor: u32) -> Version {
        Version { major, minor }
    }

    #[test]
    fn versions_are_read_from_releases_betas_and_distributions() {
        assert_eq!(
            Version::parse("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some(version(15, 18))
        );
        assert_eq!(
            Version::parse("postgres (PostgreSQL) 19beta2"),
            Some(version(19, 0))
        );
        assert_eq!(Version::parse("EnterpriseDB 15.1"), None);
    }

    #[test]
    fn the_newest_system_version_is_taken_and_too_old_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        pretend(&dir.path().join("system/9.6/bin"), "9.6.24");
        let found = search(dir.path(), None).run(None, dir.path());
        assert!(
            matches!(found, Err(PostgresError::NotFound { .. })),
            "{found:?}"
        );
        pretend(&dir.path().join("system/15/bin"), "15.3");
        pretend(&dir.path().join("system/17/bin"), "17.1");
        assert_eq!(
            search(dir.path(), None)
                .run(None, dir.path())
                .unwrap()
                .version(),
            version(17, 1)
        );
    }

    #[test]
    fn an_existing_cluster_chooses_its_own_major_version() {
        let dir = tempfile::tempdir().unwrap();
        pretend(&dir.path().join("system/15/bin"), "15.3");
        pretend(&dir.path().join("postgres/18.4/bin"), "18.4");
        fs::create_dir(dir.path().join("pgdata")).unwrap();
        fs::write(dir.path().join("pgdata/PG_VERSION"), "18\n").unwrap();
        assert_eq!(
            search(dir.path(), None)
                .run(None, dir.path())
                .unwrap()
                .version(),
            version(18, 4)
        );
    }

    #[test]
    fn a_given_folder_is_used_alone_and_none_hides_the_system() {
        let dir = tempfile::tempdir().unwrap();
        pretend(&dir.path().join("system/17/bin"), "17.1");
        pretend(&dir.path().join("given"), "16.2");
        let given = dir.path().join("given");
        assert_eq!(
            search(dir.path(), Some(&given))
                .run(None, dir.path())
                .unwrap()
                .version(),
            version(16, 2)
        );
        assert_eq!(
            search(dir.path(), None)
                .run(Some(&given), dir.path())
                .unwrap()
                .version(),
            version(16, 2)
        );
        let wrong = search(dir.path(), Some(&dir.path().join("empty"))).run(None, dir.path());
        assert!(
            matches!(
                wrong,
                Err(PostgresError::UnusableBinaries {
                    origin: BINARIES_VARIABLE,
                    ..
                })
            ),
            "{wrong:?}"
        );
        let hidden = search(dir.path(), Some(Path::new("none")));
        assert!(matches!(
            hidden.run(None, dir.path()),
            Err(PostgresError::NotFound { .. })
        ));
        pretend(&dir.path().join("postgres/18.4/bin"), "18.4");
        assert_eq!(
            hidden.run(None, dir.path()).unwrap().version(),
            version(18, 4)
        );
    }
}
