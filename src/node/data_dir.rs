//! What hookonce keeps in the data folder besides PostgreSQL: the admin token, the addresses of the
//! running node and the file that it read, and the secrets of `dev`. Only the folder's owner can read it.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rand::RngExt as _;
use secrecy::SecretString;

use crate::node::application::Addresses;

/// A node that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Where its public port is bound.
    pub public: SocketAddr,
    /// The file of its settings, if it has one.
    pub settings: Option<PathBuf>,
}

/// A data folder, which need not exist yet.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

impl DataDir {
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The token of the admin API, which is made at the first call.
    pub fn admin_token(&self) -> anyhow::Result<SecretString> {
        let path = self.0.join("admin.token");
        match fs::read_to_string(&path) {
            Ok(token) if !token.trim().is_empty() => Ok(token.trim().into()),
            Ok(_) => self.new_token(&path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.new_token(&path),
            Err(error) => Err(error).with_context(|| format!("can't read {}", path.display())),
        }
    }

    fn new_token(&self, path: &Path) -> anyhow::Result<SecretString> {
        let token = hex::encode(rand::rng().random::<[u8; 32]>());
        self.write(path, &token).with_context(|| {
            format!("can't keep the admin token in {}: set admin.token, or a data folder that can be written (--data-dir)", path.display())
        })?;
        Ok(token.into())
    }

    /// Writes the addresses by which commands on this machine find the node, and which file its
    /// settings are in. If they can't be written, commands only need `--server` and `--to`.
    pub fn write_running(&self, addresses: Addresses, settings: Option<&Path>) {
        let settings = settings.map(|file| std::path::absolute(file).unwrap_or(file.into()));
        let settings = settings
            .as_deref()
            .and_then(Path::to_str)
            .unwrap_or_default();
        for (name, text) in [
            ("settings.path", settings.to_owned()),
            ("public.address", addresses.public.to_string()),
            ("admin.address", addresses.admin.to_string()),
        ] {
            if let Err(error) = self.write(&self.0.join(name), &text) {
                tracing::warn!(%error, name, "the addresses were not written: commands need --server and --to");
                return;
            }
        }
    }

    /// Removes what was written if it is still this node's.
    pub fn remove_running(&self, addresses: Addresses) {
        for (name, address) in [
            ("admin.address", addresses.admin),
            ("public.address", addresses.public),
        ] {
            let path = self.0.join(name);
            let written = fs::read_to_string(&path);
            if written.is_ok_and(|written| written.trim() == address.to_string()) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// The node that runs with this folder, as far as it said so.
    pub fn running(&self) -> Option<Running> {
        let read = |name: &str| fs::read_to_string(self.0.join(name)).ok();
        let public = read("public.address")?.trim().parse().ok()?;
        let settings = read("settings.path").filter(|path| !path.trim().is_empty());
        Some(Running {
            public,
            settings: settings.map(|path| PathBuf::from(path.trim())),
        })
    }

    fn dev_secrets_path(&self) -> PathBuf {
        self.0.join("dev-secrets.toml")
    }

    /// The secrets of `dev`, by source.
    pub fn dev_secrets(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let path = self.dev_secrets_path();
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).with_context(|| {
                format!(
                    "{} is not as hookonce wrote it: remove it for new secrets",
                    path.display()
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error).with_context(|| format!("can't read {}", path.display())),
        }
    }

    pub fn write_dev_secrets(&self, secrets: &BTreeMap<String, String>) -> anyhow::Result<()> {
        let path = self.dev_secrets_path();
        self.write(&path, &toml::to_string(secrets)?)
            .with_context(|| format!("can't write {}", path.display()))
    }

    /// Writes a file whole or not at all, readable by its owner alone.
    fn write(&self, path: &Path, text: &str) -> std::io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&self.0)?;
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(new, path)
    }
}
