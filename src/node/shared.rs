//! What the parts of a node share, and how each part is built from it. The order in which they
//! start and stop is the application's, and it binds no port.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use hookonce_scheme::Catalog;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    clock::Clock,
    delivery::{destination::http, finisher::Finisher, relays::Relays, worker::Context},
    handoff::Handoff,
    http::{auth, gauged::Gauged, state::AdminState, tokens::Tokens},
    ids,
    intake::{
        keyring::Keyring, learning::Learning, receiver::Intake, recorder::Recorder,
        rejections::Rejections,
    },
    ledger::Ledger,
    maintenance::{counting, emitter::Emitter, pruner, rescuer},
    meters::Meters,
    node::{
        learner::{self, Learner},
        probe::Probe,
        schemes::sources_of,
    },
    notices::Notices,
    outbound::Egress,
    readiness::Readiness,
    settings::Settings,
    store::{
        inbox,
        link::{Db, Dialer},
        schema,
    },
    tail::Tail,
    telemetry::tell_malformed,
};

/// What the parts of a node have in common.
pub struct Shared {
    pub node: Uuid,
    pub pool: Db,
    pub clock: Clock,
    pub tail: Tail,
    pub meters: Meters,
    pub notices: Notices,
    pub hint: Arc<Notify>,
    pub paused: Arc<ArcSwap<BTreeSet<String>>>,
    pub stopping: CancellationToken,
    pub closing: CancellationToken,
}

impl Shared {
    pub fn new(pool: Db, clock: Clock, tail: Tail) -> Self {
        let (stopping, closing) = (CancellationToken::new(), CancellationToken::new());
        Self {
            node: ids::new(),
            pool,
            clock,
            tail,
            meters: Meters::default(),
            notices: Notices::default(),
            hint: Arc::default(),
            paused: Arc::default(),
            stopping,
            closing,
        }
    }

    pub fn relays(
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
            meters: self.meters.clone(),
            notices: self.notices.clone(),
            clients: http::Clients::new(egress)?,
            finisher: Finisher::new(
                self.meters.clone(),
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

    /// Builds the intake with what earlier runs left: the learnt secrets, and whether keys of an
    /// earlier version still count.
    pub async fn intake(
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
            meters: self.meters.clone(),
            notices: self.notices.clone(),
            public_url: settings.ingress.public_url.as_deref().map(str::to_owned),
            rejections: Arc::new(Rejections::new(settings.rejections.clone())),
            retired: ArcSwap::default(),
        }))
    }

    /// The probe, and whether the node was well at its first look.
    pub async fn probe(
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

    pub fn ledger(&self, dialer: &Dialer, settings: &Arc<ArcSwap<Settings>>) -> Arc<Ledger> {
        let (pool, hint, stopping) = (self.pool.clone(), self.hint.clone(), self.stopping.clone());
        let meters = self.meters.clone();
        Arc::new(Ledger::new(dialer, pool, settings, meters, hint, stopping))
    }

    pub fn learner(
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

    pub fn admin_state(
        &self,
        token: &str,
        settings: &Arc<ArcSwap<Settings>>,
        catalog: &Arc<ArcSwap<Catalog>>,
        intake: &Arc<Intake>,
        (relays, ledger): (&Arc<Relays>, &Ledger),
    ) -> Arc<AdminState> {
        Arc::new(AdminState {
            pool: self.pool.clone(),
            tokens: Tokens::new(self.pool.clone(), token),
            settings: settings.clone(),
            catalog: catalog.clone(),
            intake: intake.clone(),
            tail: self.tail.clone(),
            relays: relays.clone(),
            claims_waiting: ledger.waiting(),
            gauged: Gauged::default(),
            paused: self.paused.clone(),
            hint: self.hint.clone(),
            clock: self.clock.clone(),
            own_names: auth::own_names(),
            closing: self.closing.clone(),
        })
    }
}

/// What the background roles of a node work on.
pub struct Roles<'a> {
    pub shared: &'a Shared,
    pub relays: &'a Arc<Relays>,
    pub ledger: &'a Arc<Ledger>,
    pub settings: &'a Arc<ArcSwap<Settings>>,
}

impl Roles<'_> {
    /// Spawns all roles. `probing` is the probe's loop.
    pub fn spawn_on(
        &self,
        tracker: &TaskTracker,
        probing: impl Future<Output = ()> + Send + 'static,
        learner: Learner,
    ) {
        let Shared {
            pool,
            meters,
            stopping,
            hint,
            ..
        } = self.shared;
        let current = self.settings.clone();
        let for_emitter = self.settings.clone();
        let emitter = Emitter {
            pool: pool.clone(),
            current: move || for_emitter.load_full(),
            hint: hint.clone(),
        };
        tracker.spawn(probing);
        tracker.spawn(self.relays.clone().claim_until_stopped());
        tracker.spawn(tell_malformed(stopping.clone()));
        tracker.spawn(
            self.shared
                .notices
                .clone()
                .tell_until_stopped(stopping.clone()),
        );
        tracker.spawn(rescuer::run(pool.clone(), meters.clone(), stopping.clone()));
        tracker.spawn(counting::run(
            pool.clone(),
            meters.clone(),
            stopping.clone(),
        ));
        tracker.spawn(emitter.run_until_stopped(stopping.clone()));
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
        tracker.spawn(self.ledger.clone().sweep_until_stopped());
        tracker.spawn(learner.run());
    }
}
