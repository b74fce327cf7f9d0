//! One node, built from settings: `start` binds and begins everything, `stop` ends it in the order that loses nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actix_service::fn_service;
use actix_web::{
    App,
    web::{self, ServiceConfig},
};
use anyhow::Context as _;
use arc_swap::ArcSwap;
use sqlx::postgres::PgConnectOptions;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    learner::{self, Learner},
    listener::bind,
};
use crate::{
    clock::Clock,
    delivery::{
        destination::http,
        finisher::Finisher,
        worker::{Context, Relays},
    },
    gateway::{self, Gateway},
    http::{
        auth,
        health::Readiness,
        ingress::Ingress,
        keyring::{Fetch, HttpFetch, Keyring},
        learning::Learning,
        ledger::Ledger,
        port::{self, Answering, Bounds, Rates, Running},
        probe::Probe,
        reading::Reading,
        recorder::{Recorder, RecorderOptions},
        rejections::Rejections,
        sources::Sources,
        state::AdminState,
        tokens::Tokens,
    },
    maintenance::{pruner, rescuer},
    outbound::{Egress, Proxy, guard::Rules},
    provider::{Catalog, SchemeError},
    settings::{Network, Settings},
    store::{
        handoff::Handoff,
        inbox,
        learnt::LearntSecret,
        link::{Db, Dialer},
        retention, schema, tls,
    },
    tail::Tail,
    telemetry::tell_malformed,
};

/// How long the HTTP servers may take for the requests they have begun.
const SERVER_STOP_SECONDS: u64 = 5;

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
    ingress: web::Data<Ingress>,
    recorder: Arc<Recorder>,
    readiness: Readiness,
    servers: [Running; 2],
    ledger_server: Option<Running>,
    ledger_calls: web::Data<Ledger>,
    gateway_servers: Vec<(web::Data<Gateway>, Running)>,
    ledger_writers: Vec<JoinHandle<()>>,
    finisher: JoinHandle<()>,
    background: TaskTracker,
    stopping: CancellationToken,
    /// Ends the admin port's streams.
    closing: CancellationToken,
    /// What stands between here and the database, where something does.
    _reached: tls::Reached,
}

/// What is wrong with a source or provider, as one text.
pub fn scheme_errors(errors: &[(String, SchemeError)]) -> String {
    errors.iter().map(|(source, error)| format!("sources.{source}: {error}")).collect::<Vec<_>>().join("\n")
}

pub fn catalog_of(settings: &Settings) -> anyhow::Result<Catalog> {
    Catalog::new(&settings.providers)
        .map_err(|errors| anyhow::anyhow!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

fn sources_of(settings: &Settings, catalog: &Catalog, learnt: &[LearntSecret], look_back: bool) -> anyhow::Result<Sources> {
    Sources::build(settings, catalog, learnt, look_back).map_err(|errors| anyhow::anyhow!(scheme_errors(&errors)))
}

impl Application {
    pub async fn start(parts: Parts) -> anyhow::Result<Self> {
        raise_open_files();
        let Parts { settings, database_url, token, clock, tail, fetch, announce, background: run_background } = parts;
        let catalog = catalog_of(&settings)?;
        let (reached, pool) = open_pool(&database_url, &settings).await?;
        let (learnt, look_back) = left_before(&pool, &settings).await?;
        let sources = ArcSwap::from_pointee(sources_of(&settings, &catalog, &learnt, look_back)?);
        let (learning, shared) = (Learning::new(pool.clone(), learnt), Shared::new(pool, clock, tail));
        let handoff = Arc::new(Handoff::new(settings.relay.handoff_rows_max, settings.relay.handoff_bytes_max.bytes()));
        let (relays, finisher) = shared.start_relays(&reached.options, &handoff, &settings)?;
        let writing = schema::for_few_statements(&reached.options);
        let recorder = Recorder::new(writing.clone(), handoff, recorder_options(&settings, shared.node));
        let ingress = web::Data::new(Ingress {
            sources,
            recorder: recorder.clone(),
            learning,
            look_back,
            keyring: keyring(fetch, &egress(&settings)?)?,
            clock: shared.clock.clone(),
            tail: shared.tail.clone(),
            public_url: settings.ingress.public_url.as_deref().map(str::to_owned),
            body_timeout: settings.ingress.body_timeout.0,
            rates: Rates::new(settings.ingress.rate_per_address),
            reading: Reading::new(settings.ingress.queue_bytes_max.bytes()),
            rejections: Arc::new(Rejections::new(settings.rejections.clone())),
            retired: ArcSwap::default(),
        });
        let readiness = Readiness::default();
        let (probe, is_well) = shared.probe(&writing, &recorder, &readiness, &settings).await;
        let (settings, catalog) = (Arc::new(ArcSwap::from_pointee(settings)), Arc::new(ArcSwap::from_pointee(catalog)));
        let state = shared.admin_state(&token, &settings, &catalog, &ingress);
        let (ledger_calls, ledger_writers) = shared.start_ledger(&writing, &settings);
        let (public, public_server) = serve_public(&settings.load(), &ingress, &readiness)?;
        let (admin, admin_server) = serve_admin(&settings.load(), &state, &ledger_calls, &readiness)?;
        let (ledger, ledger_server) = serve_ledger(&settings.load(), &state, &ledger_calls, &readiness)?.unzip();
        let (gateways, gateway_servers) = serve_gateways(&settings.load(), &shared.pool, &ledger_calls)?;
        announce(admin);
        readiness.set(is_well);
        let background = TaskTracker::new();
        if run_background {
            let roles = Roles { shared: &shared, relays: &relays, ledger: &ledger_calls, settings: &settings };
            roles.spawn_on(&background, probe.watch(shared.stopping.clone()));
            background.spawn(shared.learner(&settings, &catalog, &ingress).run());
        }
        background.close();
        let Shared { pool, stopping, closing, .. } = shared;
        Ok(Self {
            public,
            admin,
            ledger,
            gateways,
            pool,
            relays,
            settings,
            catalog,
            ingress,
            recorder,
            readiness,
            servers: [public_server, admin_server],
            ledger_server,
            ledger_calls,
            gateway_servers,
            ledger_writers,
            _reached: reached,
            finisher,
            background,
            stopping,
            closing,
        })
    }

    /// Takes new settings, all or nothing. What is bound stays bound: addresses, database and queue bounds need a restart.
    pub fn reload(&self, settings: Settings) -> anyhow::Result<()> {
        let catalog = catalog_of(&settings)?;
        let learnt = self.ingress.learning.known.load();
        let sources = sources_of(&settings, &catalog, &learnt, self.ingress.look_back)?;
        self.relays.apply(&settings).map_err(anyhow::Error::msg)?;
        self.ingress.replace_sources(sources);
        self.catalog.store(Arc::new(catalog));
        self.settings.store(Arc::new(settings));
        self.ingress.learning.changed.notify_one();
        Ok(())
    }

    /// Not ready, stop accepting, flush and answer, stop claiming, drain or give back, close the pool.
    pub async fn stop(self) {
        let [public, admin] = self.servers;
        self.readiness.set(false);
        let drain = self.settings.load().relay.drain_timeout.0;
        let gateways = tokio::spawn(stop_gateways(self.gateway_servers, drain));
        public.0.stop(true).await;
        self.recorder.close().await;
        self.stopping.cancel();
        self.relays.drain(drain).await;
        self.background.wait().await;
        drop(self.relays);
        let _ = self.finisher.await;
        let _ = gateways.await;
        self.closing.cancel();
        if let Some(ledger) = self.ledger_server {
            ledger.0.stop(true).await;
            let _ = ledger.1.await;
        }
        admin.0.stop(true).await;
        self.ledger_calls.close();
        for writer in self.ledger_writers {
            let _ = writer.await;
        }
        let _ = tokio::join!(public.1, admin.1);
        self.pool.close().await;
    }
}

/// A connection is an open file, and shells start programs with 1,024: as many as the system allows are taken.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files was not raised");
    }
}

fn keyring(fetch: Option<Arc<dyn Fetch>>, egress: &Egress) -> anyhow::Result<Keyring> {
    let fetch = match fetch {
        Some(fetch) => fetch,
        None => Arc::new(HttpFetch::new(egress.proxy.as_ref()).context("can't make a client for providers' keys")?),
    };
    Ok(Keyring::new(fetch))
}

fn egress(settings: &Settings) -> anyhow::Result<Egress> {
    let nets = |nets: &[Network]| nets.iter().map(|net| net.0).collect();
    let rules = Rules { allow: nets(&settings.egress.allow), deny: nets(&settings.egress.deny) };
    let Some(url) = &settings.egress.proxy else { return Ok(Egress { rules, proxy: None }) };
    let authorization = settings.egress.proxy_basic.as_ref().map(http::basic).transpose().map_err(anyhow::Error::msg);
    let uri = url.parse().context("egress.proxy is no URL")?;
    Ok(Egress { rules, proxy: Some(Proxy { uri, authorization: authorization.context("egress.proxy_basic")? }) })
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
    schema::check(&pool, settings.database.allow_fsync_off).await.context(UNUSABLE)?;
    schema::migrate(&pool).await?;
    retention::prepare(&pool).await?;
    Ok((reached, pool))
}

/// What earlier runs left: the learnt secrets, and whether keys of an earlier version still count.
async fn left_before(pool: &Db, settings: &Settings) -> anyhow::Result<(Vec<LearntSecret>, bool)> {
    let learnt = learner::learnt(pool, settings).await.context("can't read the learnt secrets")?;
    let older = inbox::keys_before_until(pool).await.context("can't read until when older keys count")?;
    Ok((learnt, older.is_some()))
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
        Self { node: Uuid::now_v7(), pool, clock, tail, hint: Arc::default(), paused: Arc::default(), stopping, closing }
    }

    fn start_relays(
        &self,
        options: &PgConnectOptions,
        handoff: &Arc<Handoff>,
        settings: &Settings,
    ) -> anyhow::Result<(Arc<Relays>, JoinHandle<()>)> {
        let (finisher, task) =
            Finisher::start(schema::finishing_pool(options), settings.relay.finish_rows_max, settings.relay.finish_linger.0);
        let context = Context {
            node: self.node,
            pool: self.pool.clone(),
            claiming: schema::claiming_pool(options),
            handoff: handoff.clone(),
            clock: self.clock.clone(),
            tail: self.tail.clone(),
            clients: http::Clients::new(&egress(settings)?)?,
            finisher,
            hint: self.hint.clone(),
            paused: self.paused.clone(),
            stopping: self.stopping.clone(),
            cut: CancellationToken::new(),
        };
        let relays = Relays::new(context, settings.relay.clone());
        relays.apply(settings).map_err(anyhow::Error::msg)?;
        Ok((relays, task))
    }

    /// The probe, and what it found at the first look.
    async fn probe(&self, dialer: &Dialer, recorder: &Arc<Recorder>, readiness: &Readiness, settings: &Settings) -> (Probe, bool) {
        let (clock, skew_max) = (self.clock.clone(), settings.database.clock_skew_max.0);
        let mut probe = Probe::new(self.pool.clone(), dialer.clone(), recorder.clone(), clock, readiness.clone(), skew_max);
        let is_well = probe.is_well().await;
        (probe, is_well)
    }

    fn start_ledger(&self, dialer: &Dialer, settings: &Arc<ArcSwap<Settings>>) -> (web::Data<Ledger>, Vec<JoinHandle<()>>) {
        let (ledger, writers) = Ledger::start(dialer, self.pool.clone(), settings, self.hint.clone(), self.stopping.clone());
        (web::Data::new(ledger), writers)
    }

    fn learner(&self, settings: &Arc<ArcSwap<Settings>>, catalog: &Arc<ArcSwap<Catalog>>, ingress: &web::Data<Ingress>) -> Learner {
        Learner {
            pool: self.pool.clone(),
            settings: settings.clone(),
            catalog: catalog.clone(),
            ingress: ingress.clone(),
            stopping: self.stopping.clone(),
        }
    }

    fn admin_state(
        &self,
        token: &str,
        settings: &Arc<ArcSwap<Settings>>,
        catalog: &Arc<ArcSwap<Catalog>>,
        ingress: &web::Data<Ingress>,
    ) -> web::Data<AdminState> {
        web::Data::new(AdminState {
            pool: self.pool.clone(),
            tokens: Tokens::new(self.pool.clone(), token),
            settings: settings.clone(),
            catalog: catalog.clone(),
            ingress: ingress.clone(),
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
    ledger: &'a web::Data<Ledger>,
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
        tracker.spawn(pruner::run(pool.clone(), move || current.load_full(), stopping.clone()));
        let poll_interval = self.settings.load().ledger.wait_poll_interval.0;
        tracker.spawn(self.ledger.waiters.clone().poll_until_stopped(pool.clone(), poll_interval, stopping.clone()));
    }
}

type Served = (SocketAddr, Running);

fn bounds(settings: &Settings) -> Bounds {
    let ingress = &settings.ingress;
    Bounds {
        workers: ingress.workers.max(1),
        connections_max: ingress.connections_max,
        connections_per_address_max: ingress.connections_per_address_max,
        head_timeout: ingress.head_timeout.0,
        body_timeout: None,
        keep_alive: ingress.keep_alive.0,
        stop_seconds: SERVER_STOP_SECONDS,
    }
}

fn serve_public(settings: &Settings, ingress: &web::Data<Ingress>, readiness: &Readiness) -> anyhow::Result<Served> {
    let (ingress, readiness) = (ingress.clone(), readiness.clone());
    let service = move || {
        let (ingress, readiness) = (ingress.clone(), readiness.clone());
        fn_service(move |request| {
            let (ingress, readiness) = (ingress.clone(), readiness.clone());
            async move {
                let answering = Answering::begin(&request);
                let mut response = crate::http::public(request, &ingress, &readiness).await;
                // It is short, and sent at once.
                drop(answering.end(response.head_mut()));
                Ok::<_, Infallible>(response)
            }
        })
    };
    Ok(port::serve(bind(settings.ingress.bind, "ingress.bind")?, &bounds(settings), service)?)
}

fn serve_admin(
    settings: &Settings,
    state: &web::Data<AdminState>,
    ledger: &web::Data<Ledger>,
    readiness: &Readiness,
) -> anyhow::Result<Served> {
    let call_bytes_max = settings.ledger.call_max.bytes();
    let configure = move |config: &mut ServiceConfig| crate::http::admin(config, call_bytes_max);
    let bounds = Bounds { stop_seconds: 1, ..bounds_of_tokens(settings) };
    serve_tokens(bind(settings.admin.bind, "admin.bind")?, state, ledger, readiness, &bounds, configure)
}

/// The ledger's own port, where it has one.
fn serve_ledger(
    settings: &Settings,
    state: &web::Data<AdminState>,
    ledger: &web::Data<Ledger>,
    readiness: &Readiness,
) -> anyhow::Result<Option<Served>> {
    let Some(address) = settings.ledger.bind else { return Ok(None) };
    let call_bytes_max = settings.ledger.call_max.bytes();
    let configure = move |config: &mut ServiceConfig| crate::http::ledger_alone(config, call_bytes_max);
    serve_tokens(bind(address, "ledger.bind")?, state, ledger, readiness, &bounds_of_tokens(settings), configure).map(Some)
}

fn bounds_of_tokens(settings: &Settings) -> Bounds {
    Bounds { workers: 1, body_timeout: Some(settings.ingress.body_timeout.0), ..bounds(settings) }
}

/// A port that answers to bearer tokens.
fn serve_tokens(
    listener: TcpListener,
    state: &web::Data<AdminState>,
    ledger: &web::Data<Ledger>,
    readiness: &Readiness,
    bounds: &Bounds,
    configure: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
) -> anyhow::Result<Served> {
    let (state, ledger, readiness) = (state.clone(), ledger.clone(), web::Data::new(readiness.clone()));
    let service = move || {
        let app = App::new().app_data(state.clone()).app_data(ledger.clone()).app_data(readiness.clone());
        port::web(app.configure(|config| configure(config)))
    };
    Ok(port::serve(listener, bounds, service)?)
}

/// The gateways' ports: every path is the upstream's.
#[expect(clippy::type_complexity, reason = "two lists, taken apart at once")]
fn serve_gateways(
    settings: &Settings,
    pool: &Db,
    ledger: &web::Data<Ledger>,
) -> anyhow::Result<(BTreeMap<String, SocketAddr>, Vec<(web::Data<Gateway>, Running)>)> {
    let (mut addresses, mut servers, egress) = (BTreeMap::new(), Vec::new(), egress(settings)?);
    for (name, own) in &settings.gateways {
        let listener = bind(own.bind, &format!("gateways.{name}.bind"))?;
        let gateway = Gateway::new(name, own, &egress, ledger.clone(), pool.clone()).with_context(|| format!("gateways.{name}"))?;
        let data = web::Data::new(gateway);
        let gateway = data.clone();
        let service = move || port::web(App::new().app_data(gateway.clone()).configure(gateway::configure));
        let (address, running) = port::serve(listener, &bounds(settings), service)?;
        addresses.insert(name.clone(), address);
        servers.push((data, running));
    }
    Ok((addresses, servers))
}

/// Calls that have begun may end, whether or not who sent them is still there.
async fn stop_gateways(gateways: Vec<(web::Data<Gateway>, Running)>, drain: Duration) {
    let stops = gateways.into_iter().map(|(gateway, (handle, server))| async move {
        tokio::join!(handle.stop(true), gateway.drain(drain));
        let _ = server.await;
    });
    futures_util::future::join_all(stops).await;
}
