//! The ports of a node: what is served where, and within which limits. Handlers and binding are
//! elsewhere.

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use actix_service::fn_service;
use actix_web::{
    App,
    web::{Data, ServiceConfig},
};
use anyhow::Context as _;
use futures_util::future::join_all;

use super::listener::bind;
use crate::{
    gateway::{self, Gateway},
    http::{self, public::ingress::Ingress, state::AdminState},
    intake::receiver::Intake,
    ledger::Ledger,
    outbound::Egress,
    port::{self, Answering, Bounds, Rates, Server, reading::Reading},
    readiness::Readiness,
    settings::Settings,
    store::link::Db,
};

/// How long the HTTP servers may take for the requests under way, once they are stopped.
const STOP_SECONDS: u64 = 5;
/// The same for the admin port, which is shorter because its requests can be sent again.
const ADMIN_STOP_SECONDS: u64 = 1;

/// All that listens.
pub struct Servers {
    pub public: Server,
    pub admin: Server,
    /// Set if the ledger has a port of its own.
    pub ledger: Option<Server>,
    /// The gateways, by their names.
    pub gateways: BTreeMap<String, GatewayServer>,
}

impl Servers {
    /// Where the gateways are bound, by their names.
    pub fn gateway_addresses(&self) -> BTreeMap<String, SocketAddr> {
        let of = self.gateways.iter();
        of.map(|(name, of)| (name.clone(), of.server.address))
            .collect()
    }
}

/// A gateway with its port.
pub struct GatewayServer {
    gateway: Arc<Gateway>,
    pub server: Server,
}

impl GatewayServer {
    /// Stops taking calls. Those that have begun may end within `drain`, whether or not their
    /// caller is still there.
    async fn stop(self, drain: Duration) {
        tokio::join!(self.server.stop(), self.gateway.drain(drain));
    }
}

/// Stops all gateways at once.
pub async fn stop_gateways(gateways: BTreeMap<String, GatewayServer>, drain: Duration) {
    join_all(gateways.into_values().map(|gateway| gateway.stop(drain))).await;
}

/// What the ports are served with.
pub struct Serving<'a> {
    pub settings: &'a Settings,
    pub intake: &'a Arc<Intake>,
    pub state: &'a Arc<AdminState>,
    pub ledger: &'a Arc<Ledger>,
    pub pool: &'a Db,
    pub egress: &'a Egress,
    pub readiness: &'a Readiness,
}

impl Serving<'_> {
    /// Binds all ports and serves them.
    pub fn start(&self) -> anyhow::Result<Servers> {
        Ok(Servers {
            public: self.public()?,
            admin: self.admin()?,
            ledger: self
                .settings
                .ledger
                .bind
                .map(|address| self.ledger(address))
                .transpose()?,
            gateways: self.gateways()?,
        })
    }

    fn public(&self) -> anyhow::Result<Server> {
        let ingress = &self.settings.ingress;
        let listener = bind(ingress.bind, "ingress.bind")?;
        let ingress = Arc::new(Ingress {
            intake: self.intake.clone(),
            body_timeout: ingress.body_timeout.0,
            rates: Rates::new(ingress.rate_per_address),
            reading: Reading::new(ingress.queue_bytes_max.bytes()),
        });
        let readiness = self.readiness.clone();
        let service = move || {
            let (ingress, readiness) = (ingress.clone(), readiness.clone());
            fn_service(move |request| {
                let (ingress, readiness) = (ingress.clone(), readiness.clone());
                async move {
                    let answering = Answering::begin(&request);
                    let mut response = http::public::answer(request, &ingress, &readiness).await;
                    // The answer is short and sent at once, so its end need not be awaited.
                    drop(answering.end(response.head_mut()));
                    Ok::<_, Infallible>(response)
                }
            })
        };
        Ok(port::serve(listener, &self.bounds(), service)?)
    }

    fn admin(&self) -> anyhow::Result<Server> {
        let call_bytes_max = self.settings.ledger.call_max.bytes();
        let configure = move |config: &mut ServiceConfig| http::admin_port(config, call_bytes_max);
        let bounds = Bounds {
            stop_seconds: ADMIN_STOP_SECONDS,
            ..self.bounds_of_tokens()
        };
        self.tokens(self.settings.admin.bind, "admin.bind", &bounds, configure)
    }

    fn ledger(&self, address: SocketAddr) -> anyhow::Result<Server> {
        let call_bytes_max = self.settings.ledger.call_max.bytes();
        let configure = move |config: &mut ServiceConfig| http::ledger_port(config, call_bytes_max);
        self.tokens(address, "ledger.bind", &self.bounds_of_tokens(), configure)
    }

    /// Serves a port whose requests carry bearer tokens.
    fn tokens(
        &self,
        address: SocketAddr,
        key: &str,
        bounds: &Bounds,
        configure: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
    ) -> anyhow::Result<Server> {
        let (state, ledger) = (
            Data::from(self.state.clone()),
            Data::from(self.ledger.clone()),
        );
        let readiness = Data::new(self.readiness.clone());
        let service = move || {
            let (state, ledger, readiness) = (state.clone(), ledger.clone(), readiness.clone());
            let app = App::new()
                .app_data(state)
                .app_data(ledger)
                .app_data(readiness);
            port::web(app.configure(|config| configure(config)))
        };
        Ok(port::serve(bind(address, key)?, bounds, service)?)
    }

    /// Serves the gateways' ports, on which every path is the upstream's.
    fn gateways(&self) -> anyhow::Result<BTreeMap<String, GatewayServer>> {
        let of = self.settings.gateways.iter();
        of.map(|(name, settings)| Ok((name.clone(), self.gateway(name, settings)?)))
            .collect()
    }

    fn gateway(
        &self,
        name: &str,
        settings: &crate::settings::Gateway,
    ) -> anyhow::Result<GatewayServer> {
        let listener = bind(settings.bind, &format!("gateways.{name}.bind"))?;
        let gateway = Gateway::new(
            name,
            settings,
            self.egress,
            self.ledger.clone(),
            self.pool.clone(),
            self.state.clock.clone(),
        );
        let gateway = Arc::new(gateway.with_context(|| format!("gateways.{name}"))?);
        let data = Data::from(gateway.clone());
        let service = move || {
            port::web(
                App::new()
                    .app_data(data.clone())
                    .configure(gateway::configure),
            )
        };
        Ok(GatewayServer {
            gateway,
            server: port::serve(listener, &self.bounds(), service)?,
        })
    }

    fn bounds(&self) -> Bounds {
        let ingress = &self.settings.ingress;
        Bounds {
            workers: ingress.workers.max(1),
            connections_max: ingress.connections_max,
            connections_per_address_max: ingress.connections_per_address_max,
            head_timeout: ingress.head_timeout.0,
            body_timeout: None,
            keep_alive: ingress.keep_alive.0,
            stop_seconds: STOP_SECONDS,
        }
    }

    fn bounds_of_tokens(&self) -> Bounds {
        let body_timeout = Some(self.settings.ingress.body_timeout.0);
        Bounds {
            workers: 1,
            body_timeout,
            ..self.bounds()
        }
    }
}
