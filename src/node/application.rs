//! One node, built from settings. `start` binds and begins everything, `stop` ends it in an order
//! that loses nothing, and `reload` swaps settings. What runs is written elsewhere.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use hookonce_scheme::Catalog;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::Clock,
    delivery::{destination::http, relays::Relays},
    handoff::Handoff,
    intake::{
        keyring::{Fetch, HttpFetch, Keyring},
        receiver::Intake,
        recorder::{Recorder, RecorderOptions},
    },
    ledger::Ledger,
    meters::Meters,
    node::{
        schemes::{catalog_of, sources_of},
        server::{Servers, Serving, stop_gateways},
        shared::{Roles, Shared},
    },
    outbound::{Egress, Proxy, guard::Rules},
    readiness::Readiness,
    settings::{Network, Settings},
    store::{
        link::{Db, Dialer},
        retention, schema, tls,
    },
    tail::Tail,
};

/// What a node is built from.
pub struct Parts {
    pub settings: Settings,
    pub database_url: String,
    /// The bearer token of the admin API.
    pub token: String,
    pub clock: Clock,
    pub tail: Tail,
    /// How providers' keys are fetched. None fetches them over the network.
    pub fetch: Option<Arc<dyn Fetch>>,
    /// Called with the bound addresses, before the node says that it is ready.
    pub announce: Box<dyn FnOnce(Addresses) + Send>,
    /// False lets tests leave the background roles out and call them step by step.
    pub background: bool,
}

/// Where a node is bound, with the real ports if 0 was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub public: SocketAddr,
    pub admin: SocketAddr,
}

/// A running node.
pub struct Application {
    /// Where the public port is bound, with the real port if 0 was asked for.
    pub public: SocketAddr,
    pub admin: SocketAddr,
    /// Set if the ledger has a port of its own.
    pub ledger: Option<SocketAddr>,
    /// The gateways' addresses, by their names.
    pub gateways: BTreeMap<String, SocketAddr>,
    pub pool: Db,
    pub relays: Arc<Relays>,
    pub meters: Meters,
    settings: Arc<ArcSwap<Settings>>,
    catalog: Arc<ArcSwap<Catalog>>,
    intake: Arc<Intake>,
    readiness: Readiness,
    servers: Servers,
    ledger_calls: Arc<Ledger>,
    background: TaskTracker,
    stopping: CancellationToken,
    /// Ends the admin port's streams.
    closing: CancellationToken,
    /// A relay to the database, if one is needed; it ends with this.
    _reached: tls::Reached,
}

impl Application {
    pub async fn start(parts: Parts) -> anyhow::Result<Self> {
        raise_open_files();
        let settings = parts.settings;
        let (catalog, egress) = (catalog_of(&settings)?, egress(&settings)?);
        let (reached, pool) = open_pool(&parts.database_url, &settings).await?;
        let shared = Shared::new(pool, parts.clock, parts.tail);
        let handoff = handoff(&settings);
        let relays = shared.relays(&reached.options, &handoff, &egress, &settings)?;
        let writing = schema::for_few_statements(&reached.options);
        let recorder = recorder(&writing, handoff, &settings, &shared);
        let keyring = keyring(parts.fetch, &egress)?;
        let intake = shared
            .intake(&settings, &catalog, recorder, keyring)
            .await?;
        let readiness = Readiness::default();
        let (probe, is_well) = shared
            .probe(&writing, &intake.recorder, &readiness, &settings)
            .await;
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let catalog = Arc::new(ArcSwap::from_pointee(catalog));
        let ledger_calls = shared.ledger(&writing, &settings);
        let engines = (&relays, &*ledger_calls);
        let state = shared.admin_state(&parts.token, &settings, &catalog, &intake, engines);
        let servers = Serving {
            settings: &settings.load(),
            intake: &intake,
            state: &state,
            ledger: &ledger_calls,
            pool: &shared.pool,
            egress: &egress,
            readiness: &readiness,
        }
        .start()?;
        (parts.announce)(Addresses {
            public: servers.public.address,
            admin: servers.admin.address,
        });
        readiness.set(is_well);
        let background = TaskTracker::new();
        if parts.background {
            let roles = Roles {
                shared: &shared,
                relays: &relays,
                ledger: &ledger_calls,
                settings: &settings,
            };
            let learner = shared.learner(&settings, &catalog, &intake);
            roles.spawn_on(&background, probe.watch(shared.stopping.clone()), learner);
        }
        background.close();
        Ok(Self {
            public: servers.public.address,
            admin: servers.admin.address,
            ledger: servers.ledger.as_ref().map(|server| server.address),
            gateways: servers.gateway_addresses(),
            pool: shared.pool,
            relays,
            meters: shared.meters,
            settings,
            catalog,
            intake,
            readiness,
            servers,
            ledger_calls,
            _reached: reached,
            background,
            stopping: shared.stopping,
            closing: shared.closing,
        })
    }

    /// Takes new settings, all or nothing: everything is built before anything is swapped.
    /// Addresses, database and queue bounds stay as they are until a restart.
    ///
    /// # Errors
    ///
    /// What is wrong with the settings. Nothing has changed then.
    pub fn reload(&self, settings: Settings) -> anyhow::Result<()> {
        let catalog = catalog_of(&settings)?;
        let learnt = self.intake.learning.known.load();
        let sources = sources_of(&settings, &catalog, &learnt, self.intake.look_back)?;
        let targets = self.relays.prepare(&settings).map_err(anyhow::Error::msg)?;
        self.relays.apply(&settings, targets);
        self.intake.replace_sources(sources);
        self.catalog.store(Arc::new(catalog));
        self.settings.store(Arc::new(settings));
        self.intake.learning.changed.notify_one();
        Ok(())
    }

    /// How many claims of the ledger wait for a step that another executes.
    pub fn claims_waiting(&self) -> watch::Receiver<usize> {
        self.ledger_calls.waiting()
    }

    /// Stops in this order: not ready, accept nothing, flush and answer, stop claiming, drain or
    /// give back, close the pool.
    pub async fn stop(self) {
        let Servers {
            public,
            admin,
            ledger,
            gateways,
        } = self.servers;
        self.readiness.set(false);
        let drain = self.settings.load().relay.drain_timeout.0;
        let gateways = tokio::spawn(stop_gateways(gateways, drain));
        public.stop().await;
        self.intake.recorder.close().await;
        self.stopping.cancel();
        self.relays.drain(drain).await;
        self.background.wait().await;
        self.relays.close().await;
        let _ = gateways.await;
        self.closing.cancel();
        if let Some(ledger) = ledger {
            ledger.stop().await;
        }
        admin.stop().await;
        self.ledger_calls.close().await;
        self.pool.close().await;
    }
}

/// Raises the limit of open files as far as the system allows. A connection is an open file, and
/// shells start programs with a limit of 1,024.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files was not raised");
    }
}

fn keyring(fetch: Option<Arc<dyn Fetch>>, egress: &Egress) -> anyhow::Result<Keyring> {
    let fetch = match fetch {
        Some(fetch) => fetch,
        None => Arc::new(
            HttpFetch::new(egress.proxy.as_ref())
                .context("can't make a client for providers' keys")?,
        ),
    };
    Ok(Keyring::new(fetch))
}

fn egress(settings: &Settings) -> anyhow::Result<Egress> {
    let nets = |nets: &[Network]| nets.iter().map(|net| net.0).collect();
    let rules = Rules {
        allow: nets(&settings.egress.allow),
        deny: nets(&settings.egress.deny),
    };
    let Some(url) = &settings.egress.proxy else {
        return Ok(Egress { rules, proxy: None });
    };
    let authorization = settings
        .egress
        .proxy_basic
        .as_ref()
        .map(http::basic)
        .transpose()
        .map_err(anyhow::Error::msg);
    let uri = url.parse().context("egress.proxy is no URL")?;
    Ok(Egress {
        rules,
        proxy: Some(Proxy {
            uri,
            authorization: authorization.context("egress.proxy_basic")?,
        }),
    })
}

fn handoff(settings: &Settings) -> Arc<Handoff> {
    let relay = &settings.relay;
    let bytes_max = relay.handoff_bytes_max.bytes();
    Arc::new(Handoff::new(relay.handoff_rows_max, bytes_max))
}

fn recorder(
    dialer: &Dialer,
    handoff: Arc<Handoff>,
    settings: &Settings,
    shared: &Shared,
) -> Arc<Recorder> {
    let options = RecorderOptions {
        meters: shared.meters.clone(),
        node: shared.node,
        lease_seconds: settings.relay.lease.as_secs_f64(),
        rows_max: settings.ingress.queue_rows_max,
        bytes_max: settings.ingress.queue_bytes_max.bytes(),
        batch_rows_max: settings.database.batch_rows_max,
        recent_keys_max: settings.ingress.recent_keys_max,
        writers: settings.database.batch_connections,
        write_timeout: settings.database.write_timeout.0,
    };
    Recorder::new(dialer.clone(), handoff, options)
}

/// Connects, checks that the server keeps its promises, and brings the schema up to date.
async fn open_pool(url: &str, settings: &Settings) -> anyhow::Result<(tls::Reached, Db)> {
    const UNUSABLE: &str = "can't use the database (database.url)";
    let reached = tls::reach(url).await.context(UNUSABLE)?;
    let pool = schema::pool(&reached.options, settings.database.connections_max);
    schema::check(&pool, settings.database.allow_fsync_off)
        .await
        .context(UNUSABLE)?;
    schema::migrate(&pool).await?;
    retention::prepare(&pool).await?;
    Ok((reached, pool))
}
