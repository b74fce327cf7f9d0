//! Where the data folder is, and the cluster in it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::error::PostgresError;

/// The variable that names the data folder.
pub const DATA_DIR_VARIABLE: &str = "HOOKONCE_DATA_DIR";

/// Where everything is kept: `HOOKONCE_DATA_DIR`, else `/var/lib/hookonce` for root, else
/// `hookonce` in the user's data folder.
pub fn default_data_dir() -> Result<PathBuf, PostgresError> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    data_dir_from(variable, nix::unistd::geteuid().is_root())
}

fn data_dir_from(
    variable: impl Fn(&str) -> Option<PathBuf>,
    root: bool,
) -> Result<PathBuf, PostgresError> {
    if let Some(given) = variable(DATA_DIR_VARIABLE) {
        return std::path::absolute(&given)
            .map_err(|source| PostgresError::io("resolve the data folder", given, source));
    }
    if root {
        return Ok(PathBuf::from("/var/lib/hookonce"));
    }
    // The base directory specification tells us to ignore a relative path.
    if let Some(data_home) = variable("XDG_DATA_HOME").filter(|path| path.is_absolute()) {
        return Ok(data_home.join("hookonce"));
    }
    variable("HOME")
        .map(|home| home.join(".local/share/hookonce"))
        .ok_or(PostgresError::NoDataDir)
}

/// Where the cluster of a data folder is.
pub(super) fn cluster_of(data_dir: &Path) -> PathBuf {
    data_dir.join("pgdata")
}

/// The major version that made the cluster, if there is one.
pub(super) fn made_by(cluster: &Path) -> Option<String> {
    fs::read_to_string(cluster.join("PG_VERSION"))
        .ok()
        .map(|text| text.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(variables: &[(&str, &str)], root: bool) -> Result<PathBuf, PostgresError> {
        data_dir_from(
            |name| {
                variables
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| PathBuf::from(value))
            },
            root,
        )
    }

    #[test]
    fn the_data_folder_follows_variable_then_root_then_the_users_folders() {
        let all = [
            (DATA_DIR_VARIABLE, "/given"),
            ("XDG_DATA_HOME", "/xdg"),
            ("HOME", "/home/a"),
        ];
        assert_eq!(resolve(&all, true).unwrap(), PathBuf::from("/given"));
        assert_eq!(
            resolve(&all[1..], true).unwrap(),
            PathBuf::from("/var/lib/hookonce")
        );
        assert_eq!(
            resolve(&all[1..], false).unwrap(),
            PathBuf::from("/xdg/hookonce")
        );
        assert_eq!(
            resolve(&all[2..], false).unwrap(),
            PathBuf::from("/home/a/.local/share/hookonce")
        );
        assert_eq!(
            resolve(&[("XDG_DATA_HOME", "relative"), ("HOME", "/h")], false).unwrap(),
            PathBuf::from("/h/.local/share/hookonce")
        );
        assert!(matches!(resolve(&[], false), Err(PostgresError::NoDataDir)));
    }
}
