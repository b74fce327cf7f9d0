//! `db`: install, migrate, status, prune.

use anyhow::Context as _;
use clap::Subcommand;
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::{
    cli::{
        Exit, Globals,
        client::Client,
        config,
        output::{self, Column, columns},
    },
    contract::{self, Pruned, Status},
    node::database::{self, Database},
    postgres,
    settings::Settings,
    store::{retention, schema, tls},
};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Get PostgreSQL into the data folder
    Install,
    /// Bring the schema up to this version
    Migrate,
    /// What the running service's database holds
    Status,
    /// Remove what is past its time, now
    Prune,
}

const FIELDS: [Column<contract::Database>; 9] = columns!(
    contract::Database;
    "server" => server_version,
    "database" => database,
    "bytes" => size_bytes,
    "partitions" => partitions,
    "events (estimate)" => events_estimate,
    "keys (estimate)" => keys_estimate,
    "open deliveries" => open_deliveries,
    "oldest event" => oldest_event_at,
    "oldest open delivery" => oldest_open_delivery_at,
);

pub async fn run(globals: &Globals, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Install => {
            let binaries = database::fetch(&globals.data_dir).await?;
            let folder = binaries.folder().display().to_string();
            output::one(globals, &json!({ "folder": folder }), |_| {
                format!("PostgreSQL is in {folder}")
            })?;
        }
        Command::Migrate => {
            migrate(globals).await?;
            output::one(globals, &json!({ "migrated": true }), |_| {
                "the schema is up to date".into()
            })?;
        }
        Command::Status => {
            let status: Status = Client::find(globals)?.get("/api/v1/status").await?;
            output::one(globals, &status, |status| {
                let schema = status
                    .schema_version
                    .map_or_else(|| "null".into(), |version| version.to_string());
                let version = format!(
                    "hookonce {}, schema {schema}\n",
                    output::printable(&status.version)
                );
                version + &output::fields(&status.database, &FIELDS)
            })?;
        }
        Command::Prune => {
            let pruned: Pruned = Client::find(globals)?.post("/api/v1/prune", None).await?;
            output::one(globals, &pruned, |pruned| output::fields(pruned, &PRUNED))?;
        }
    }
    Ok(Exit::Done)
}

const PRUNED: [Column<Pruned>; 6] = columns!(
    Pruned;
    "partitions dropped" => partitions,
    "partitions held" => held,
    "keys removed" => keys,
    "conflicts removed" => conflicts,
    "steps removed" => steps,
    "dedup keys removed" => dedup_keys,
);

/// Works beside a running node. If none runs, starts the managed server for as long as the
/// migration takes.
async fn migrate(globals: &Globals) -> anyhow::Result<()> {
    let settings = config::load(globals)?.settings;
    let running = if settings.database.url.is_none() {
        postgres::running_url(&globals.data_dir)
    } else {
        None
    };
    let Database { url, server } = match running {
        Some(url) => Database { url, server: None },
        None => open(&settings, globals).await?,
    };
    let migrated = migrate_at(&url, &settings).await;
    if let Some(server) = server {
        server
            .stop()
            .await
            .context("the managed PostgreSQL was not stopped")?;
    }
    migrated
}

async fn open(settings: &Settings, globals: &Globals) -> anyhow::Result<Database> {
    match &settings.database.url {
        Some(url) => {
            let url = url
                .read()
                .map_err(|error| anyhow::anyhow!("database.url: {error}"))?;
            Ok(Database {
                url: url.expose_secret().to_owned(),
                server: None,
            })
        }
        None => database::open(settings, &globals.data_dir, false).await,
    }
}

async fn migrate_at(url: &str, settings: &Settings) -> anyhow::Result<()> {
    let reached = tls::reach(url)
        .await
        .context("can't use the database (database.url)")?;
    let pool = schema::pool(&reached.options, 2);
    schema::check(&pool, settings.database.allow_fsync_off).await?;
    schema::migrate(&pool).await?;
    retention::prepare(&pool).await?;
    pool.close().await;
    Ok(())
}
