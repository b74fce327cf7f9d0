//! One node, built from settings: `start` binds and begins everything, `stop` ends it in the order
//! that loses nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    clock::Clock,
    delivery::{
        destination::http,
        finisher::Finisher,
        worker::{Context, Relays},
    },
    handoff::Handoff,
    http::{auth, state::AdminState, tokens::Tokens},
    ids,
    intake::{
        keyring::{Fetch, HttpFetch, Keyring},
        learning::Learning,
        receiver::Intake,
        recorder::{Recorder, RecorderOptions},
        rejections::Rejections,
    },
    ledger::Ledger,
    maintenance::{pruner, rescuer},
    node::{
        learner::{self, Learner},
        probe::Probe,
        schemes::{catalog_of, sources_of},
        server::{Servers, Serving, stop_gateways},
    },
    outbound::{Egress, Proxy, guard::Rules},
    provider::Catalog,
    readiness::Readiness,
    settings::{Network, Settings},
    store::{
        inbox,
        link::{Db, Dialer},
        retention, schema, tls,
    },
    tail::Tail,
    telemetry::tell_malformed,
};

/// What a node is built from.
pub struct Parts {
    pub settings: Settings,
    pub database_url: String,
    /// The bearer token of the admin API.
    pub token: String,
    pub clock: Clock,
    pub tail: Tail,
    /// How providers' keys are fetched; None for as the world is.
    pub fetch: Option<Arc<dyn Fetch>>,
    /// Told where the admin port is bound before the node says that it is ready.
    pub announce: Box<dyn FnOnce(SocketAddr) + Send>,
    /// Lets tests leave the background roles out and call them step by step.
    pub background: bool,
}

/// A running node.
pub struct Application {
    /// Where the public port is bound; the port is the real one where 0 was asked for.
    pub public: SocketAddr,
    pub admin: SocketAddr,
    /// Where the ledger has a port of its own.
    pub ledger: Option<SocketAddr>,
    /// By their names.
    pub gateways: BTreeMap<String, SocketAddr>,
    pub pool: Db,
    pub relays: Arc<Relays>,
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
    /// What stands between here and the database, where something does.
    _reached: tls::Reached,
}

impl Application {
    pub async fn start(parts: Parts) -> anyhow::Result<Self> {
        raise_open_files();
        let Parts {
            settings,
            database_url,
            token,
            clock,
            tail,
            fetch,
            announce,
            background: run_background,
        } = parts;
        let (catalog, egress) = (catalog_of(&settings)?, egress(&settings)?);
        let (reached, pool) = open_pool(&database_url, &settings).await?;
        let shared = Shared::new(pool, clock, tail);
        let relay = &settings.relay;
        let handoff = Arc::new(Handoff::new(
            relay.handoff_rows_max,
            relay.handoff_bytes_max.bytes(),
        ));
        let relays = shared.relays(&reached.options, &handoff, &egress, &settings)?;
        let writing = schema::for_few_statements(&reached.options);
        let recorder = Recorder::new(
            writing.clone(),
            handoff,
            recorder_options(&settings, shared.node),
        );
        let intake = shared
            .intake(&settings, &catalog, recorder, keyring(fetch, &egress)?)
            .await?;
        let readiness = Readiness::default();
        let (probe, is_well) = shared
            .probe(&writing, &intake.recorder, &readiness, &settings)
            .await;
        let (settings, catalog) = (
            Arc::new(ArcSwap::from_pointee(settings)),
            Arc::new(ArcSwap::from_pointee(catalog)),
        );
        let state = shared.admin_state(&token, &settings, &catalog, &intake);
        let ledger_calls = shared.ledger(&writing, &settings);
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
        announce(servers.admin.address);
        readiness.set(is_well);
        let background = TaskTracker::new();
        if run_background {
            let roles = Roles {
                shared: &shared,
                relays: &relays,
                ledger: &ledger_calls,
                settings: &settings,
            };
            roles.spawn_on(&background, probe.watch(shared.stopping.clone()));
            background.spawn(shared.learner(&settings, &catalog, &intake).run());
        }
        background.close();
        let Shared {
            pool,
            stopping,
            closing,
            ..
        } = shared;
        Ok(Self {
            public: servers.public.address,
            admin: servers.admin.address,
            ledger: servers.ledger.as_ref().map(|server| server.address),
            gateways: servers
                .gateways
                .iter()
                .map(|(name, of)| (name.clone(), of.server.address))
                .collect(),
            pool,
            relays,
            settings,
            catalog,
            intake,
            readiness,
            servers,
            ledger_calls,
            _reached: reached,
            background,
            stopping,
            closing,
        })
    }

    /// Takes new settings, all or nothing: everything is built before anything is swapped. What is
    /// bound stays bound: addresses, database and queue bounds need a restart.
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

    /// Not ready, stop accepting, flush and answer, stop claiming, drain or give back, close the
    /// pool.
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

/// A connection is an open file, and shells start programs with 1,024: as many as the system allows
/// are taken.
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

fn recorder_options(settings: &Settings, node: Uuid) -> RecorderOptions {
    RecorderOptions {
        node,
        lease_seconds: settings.relay.lease.as_secs_f64(),
        rows_max: settings.ingress.queue_rows_max,
        bytes_max: settings.ingress.queue_bytes_max.bytes(),
        batch_rows_max: settings.database.batch_rows_max,
        recent_keys_max: settings.ingress.recent_keys_max,
        writers: settings.database.batch_connections,
        write_timeout: settings.database.write_timeout.0,
    }
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

/// What the parts of a node have in common.
struct Shared {
    node: Uuid,
    pool: Db,
    clock: Clock,
    tail: Tail,
    hint: Arc<Notify>,
    paused: Arc<ArcSwap<BTreeSet<String>>>,
    stopping: CancellationToken,
    closing: CancellationToken,
}

impl Shared {
    fn new(pool: Db, clock: Clock, tail: Tail) -> Self {
        let (stopping, closing) = (CancellationToken::new(), CancellationToken::new());
        Self {
            node: ids::new(),
            pool,
            clock,
            tail,
            hint: Arc::default(),
            paused: Arc::default(),
            stopping,
            closing,
        }
    }

    fn relays(
        &self,
        options: &PgConnectOptions,
        handoff: &Arc<Handoff>,
        egress: &Egress,
        settings: &Settings,
    ) -> anyhow::Result<Arc<Relays>> {
        let context = Context {
            node: self.node,
            pool: self.pool.clone(),
            claiming: schema::claiming_pool(options),
            handoff: handoff.clone(),
            clock: self.clock.clone(),
            tail: self.tail.clone(),
            clients: http::Clients::new(egress)?,
            finisher: Finisher::new(
                schema::for_finishing(options),
                settings.relay.finish_rows_max,
                settings.relay.finish_linger.0,
                settings.database.write_timeout.0,
            ),
            hint: self.hint.clone(),
            paused: self.paused.clone(),
            stopping: self.stopping.clone(),
            cut: CancellationToken::new(),
        };
        let relays = Relays::new(context, settings.relay.clone());
        let targets = relays.prepare(settings).map_err(anyhow::Error::msg)?;
        relays.apply(settings, targets);
        Ok(relays)
    }

    /// With what earlier runs left: the learnt secrets, and whether keys of an earlier version
    /// still count.
    async fn intake(
        &self,
        settings: &Settings,
        catalog: &Catalog,
        recorder: Arc<Recorder>,
        keyring: Keyring,
    ) -> anyhow::Result<Arc<Intake>> {
        let learnt = learner::learnt(&self.pool, settings)
            .await
            .context("can't read the learnt secrets")?;
        let older = inbox::keys_before_until(&self.pool)
            .await
            .context("can't read until when older keys count")?;
        let look_back = older.is_some();
        let sources = sources_of(settings, catalog, &learnt, look_back)?;
        Ok(Arc::new(Intake {
            sources: ArcSwap::from_pointee(sources),
            recorder,
            learning: Learning::new(self.pool.clone(), learnt),
            look_back,
            keyring,
            clock: self.clock.clone(),
            tail: self.tail.clone(),
            public_url: settings.ingress.public_url.as_deref().map(str::to_owned),
            rejections: Arc::new(Rejections::new(settings.rejections.clone())),
            retired: ArcSwap::default(),
        }))
    }

    /// The probe, and what it found at the first look.
    async fn probe(
        &self,
        dialer: &Dialer,
        recorder: &Arc<Recorder>,
        readiness: &Readiness,
        settings: &Settings,
    ) -> (Probe, bool) {
        let (clock, skew_max) = (self.clock.clone(), settings.database.clock_skew_max.0);
        let mut probe = Probe::new(
            self.pool.clone(),
            dialer.clone(),
            recorder.clone(),
            clock,
            readiness.clone(),
            skew_max,
        );
        let is_well = probe.is_well().await;
        (probe, is_well)
    }

    fn ledger(&self, dialer: &Dialer, settings: &Arc<ArcSwap<Settings>>) -> Arc<Ledger> {
        let (pool, hint, stopping) = (self.pool.clone(), self.hint.clone(), self.stopping.clone());
        Arc::new(Ledger::new(dialer, pool, settings, hint, stopping))
    }

    fn learner(
        &self,
        settings: &Arc<ArcSwap<Settings>>,
        catalog: &Arc<ArcSwap<Catalog>>,
        intake: &Arc<Intake>,
    ) -> Learner {
        Learner {
            pool: self.pool.clone(),
            settings: settings.clone(),
            catalog: catalog.clone(),
            intake: intake.clone(),
            stopping: self.stopping.clone(),
        }
    }

    fn admin_state(
        &self,
        token: &str,
        settings: &Arc<ArcSwap<Settings>>,
        catalog: &Arc<ArcSwap<Catalog>>,
        intake: &Arc<Intake>,
    ) -> Arc<AdminState> {
        Arc::new(AdminState {
            pool: self.pool.clone(),
            tokens: Tokens::new(self.pool.clone(), token),
            settings: settings.clone(),
            catalog: catalog.clone(),
            intake: intake.clone(),
            tail: self.tail.clone(),
            paused: self.paused.clone(),
            hint: self.hint.clone(),
            clock: self.clock.clone(),
            own_names: auth::own_names(),
            closing: self.closing.clone(),
        })
    }
}

/// What runs behind the requests.
struct Roles<'a> {
    shared: &'a Shared,
    relays: &'a Arc<Relays>,
    ledger: &'a Arc<Ledger>,
    settings: &'a Arc<ArcSwap<Settings>>,
}

impl Roles<'_> {
    fn spawn_on(&self, tracker: &TaskTracker, probing: impl Future<Output = ()> + Send + 'static) {
        let Shared { pool, stopping, .. } = self.shared;
        let current = self.settings.clone();
        tracker.spawn(probing);
        tracker.spawn(self.relays.clone().claim_until_stopped());
        tracker.spawn(tell_malformed(stopping.clone()));
        tracker.spawn(rescuer::run(pool.clone(), stopping.clone()));
        tracker.spawn(pruner::run(
            pool.clone(),
            move || current.load_full(),
            stopping.clone(),
        ));
        let poll_interval = self.settings.load().ledger.wait_poll_interval.0;
        tracker.spawn(self.ledger.waiters.clone().poll_until_stopped(
            pool.clone(),
            poll_interval,
            stopping.clone(),
        ));
    }
}
