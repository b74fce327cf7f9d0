//! `serve`: reads the settings, runs one node until it is told to stop, reloads at SIGHUP.

use anyhow::Context as _;
use secrecy::ExposeSecret as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::Globals,
    clock::Clock,
    node::{
        application::{Addresses, Application, Parts},
        data_dir::DataDir,
        database::{self, Database},
    },
    postgres::Server,
    settings::{
        LogFormat,
        load::{self, Inputs, Loaded},
        without_password,
    },
    shutdown::Shutdown,
    tail::Tail,
    telemetry,
};

pub async fn run(globals: &Globals) -> anyhow::Result<()> {
    let inputs = Inputs {
        file: globals.config.clone(),
        environment: std::env::vars().collect(),
        overlay: None,
    };
    let loaded = read(&inputs)?;
    let log = &loaded.settings.log;
    let format = if log.format == LogFormat::Json {
        telemetry::Format::Json
    } else {
        telemetry::Format::Text
    };
    telemetry::init(&log.filter, format, None)?;
    say(&loaded);
    let data_dir = DataDir::new(globals.data_dir.clone());
    let node = Node::start(loaded, data_dir, Tail::new(1024), false).await?;
    tracing::info!(public = %node.application.public, admin = %node.application.admin, "ready");
    for (gateway, address) in &node.application.gateways {
        tracing::info!(gateway, %address, "ready");
    }
    node.run_until_stopped(Some(inputs)).await
}

/// Says which files were read, who sends and where it goes, and what looks wrong.
fn say(loaded: &Loaded) {
    match &loaded.file {
        Some(file) => tracing::info!(file = %file.display(), "the configuration was read"),
        None => tracing::info!("there is no configuration file: the defaults are in force"),
    }
    let settings = &loaded.settings;
    for (name, source) in &settings.sources {
        let routes: Vec<String> = settings
            .routes
            .iter()
            .filter(|route| route.source == *name)
            .map(|route| match &route.types[..] {
                [] => route.destination.clone(),
                types => format!("{} ({})", route.destination, types.join(", ")),
            })
            .collect();
        let (provider, routes) = (&source.provider, routes.join(", "));
        tracing::info!(source = name, provider, routes, "source");
    }
    for (name, destination) in &settings.destinations {
        let url = without_password(&destination.url);
        tracing::info!(destination = name, %url, "destination");
    }
    for warning in crate::cli::config::warnings(loaded) {
        tracing::warn!(key = warning.key, "{}", warning.message);
    }
}

/// The settings with everything in them checked, including providers and schemes.
pub fn read(inputs: &Inputs) -> anyhow::Result<Loaded> {
    let loaded = load::load(inputs)?;
    let problems = crate::cli::config::scheme_problems(&loaded);
    if problems.0.is_empty() {
        Ok(loaded)
    } else {
        Err(problems.into())
    }
}

/// A node with its database and what it left in the data folder.
pub struct Node {
    pub application: Application,
    pub shutdown: Shutdown,
    server: Option<Server>,
    data_dir: DataDir,
}

impl Node {
    /// `install` lets a missing PostgreSQL be downloaded.
    pub async fn start(
        loaded: Loaded,
        data_dir: DataDir,
        tail: Tail,
        install: bool,
    ) -> anyhow::Result<Self> {
        let Loaded { settings, file, .. } = loaded;
        // The signal handlers come first, so that a signal during the start is not lost.
        let shutdown = Shutdown::new();
        shutdown.on_signals().context("can't listen for signals")?;
        let Database { url, server } = database::open(&settings, data_dir.path(), install).await?;
        let token = match &settings.admin.token {
            Some(token) => token
                .read()
                .map_err(|error| anyhow::anyhow!("admin.token: {error}"))?,
            None => data_dir.admin_token()?,
        };
        let announced = data_dir.clone();
        let parts = Parts {
            settings,
            database_url: url,
            token: token.expose_secret().to_owned(),
            clock: Clock::System,
            tail,
            fetch: None,
            announce: Box::new(move |addresses| {
                announced.write_running(addresses, file.as_deref())
            }),
            background: true,
        };
        let application = match Application::start(parts).await {
            Ok(application) => application,
            Err(error) => {
                stop_server(server).await;
                return Err(error);
            }
        };
        Ok(Self {
            application,
            shutdown,
            server,
            data_dir,
        })
    }

    /// Runs until a signal or the end of the managed server, then stops everything in order. SIGHUP
    /// reads the settings from `inputs` anew.
    pub async fn run_until_stopped(self, inputs: Option<Inputs>) -> anyhow::Result<()> {
        let Self {
            application,
            shutdown,
            server,
            data_dir,
        } = self;
        let mut hang_up = signal(SignalKind::hangup())?;
        let ends = server.as_ref().map(Server::exited);
        let died = async {
            match ends {
                Some(ends) => ends.await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(died);
        let failure = loop {
            tokio::select! {
                () = shutdown.soft().cancelled() => break None,
                how = &mut died => break Some(anyhow::anyhow!("the managed PostgreSQL ended by itself: {how}")),
                Some(()) = hang_up.recv() => reload(&application, inputs.as_ref()),
            }
        };
        tracing::info!("stopping");
        let addresses = Addresses {
            public: application.public,
            admin: application.admin,
        };
        tokio::select! {
            () = application.stop() => {}
            () = shutdown.hard().cancelled() => tracing::warn!("stopped at once: leases end by themselves"),
        }
        data_dir.remove_running(addresses);
        if shutdown.hard().is_cancelled() {
            Err(anyhow::anyhow!("stopped at once"))
        } else {
            stop_server(server).await;
            failure.map_or(Ok(()), Err)
        }
    }
}

async fn stop_server(server: Option<Server>) {
    if let Some(server) = server
        && let Err(error) = server.stop().await
    {
        tracing::error!(%error, "the managed PostgreSQL was not stopped");
    }
}

fn reload(application: &Application, inputs: Option<&Inputs>) {
    let Some(inputs) = inputs else { return };
    let reloaded = read(inputs).and_then(|loaded| application.reload(loaded.settings));
    application.meters.reloaded(reloaded.is_ok());
    match reloaded {
        Ok(()) => tracing::info!("the configuration was read again and is in force"),
        Err(error) => tracing::error!(
            "the configuration was read again and is refused, the old one stays in force: {error:#}"
        ),
    }
}
