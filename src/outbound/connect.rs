//! Opens connections to the addresses that the guard allows, and to no others. A name is looked up
//! once for each connection, all its addresses are judged, and only judged addresses are dialled.
//! Which addresses are allowed is not decided here.

use std::{
    error::Error,
    future, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use futures_util::future::BoxFuture;
use http::{HeaderValue, Uri};
use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::Name, proxy::Tunnel},
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service;

use super::guard::{Guard, NamedBy, is_public};

pub type Connection = TokioIo<TcpStream>;
type BoxError = Box<dyn Error + Send + Sync>;

/// An HTTP proxy that opens tunnels (CONNECT; RFC 9110, 9.3.6).
#[derive(Clone, Debug)]
pub struct Proxy {
    pub uri: Uri,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<HeaderValue>,
}

/// The text of an error with all its causes.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// The network. Tests have their own.
pub trait Network: Send + Sync {
    /// All addresses of a name.
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
    /// Connects to whichever of the addresses answers.
    fn dial(&self, addresses: Vec<SocketAddr>) -> BoxFuture<'static, Result<Connection, BoxError>>;
}

/// This machine's resolver and sockets.
pub struct Machine {
    pub connect_timeout: Duration,
}

impl Network for Machine {
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            Ok(tokio::net::lookup_host((name, 0))
                .await?
                .map(|address| address.ip())
                .collect())
        })
    }

    fn dial(&self, addresses: Vec<SocketAddr>) -> BoxFuture<'static, Result<Connection, BoxError>> {
        let mut connector = HttpConnector::new_with_resolver(Known(addresses));
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(self.connect_timeout));
        // The name stands for all addresses, so the connector tries IPv4 and IPv6 side by side (RFC
        // 8305). A loop could not.
        Box::pin(async move { Ok(connector.call(Uri::from_static("http://known")).await?) })
    }
}

/// A resolver that returns these addresses for any name.
#[derive(Clone)]
struct Known(Vec<SocketAddr>);

impl Service<Name> for Known {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = future::Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        future::ready(Ok(std::mem::take(&mut self.0).into_iter()))
    }
}

/// Connects to a name or address without asking the guard.
#[derive(Clone)]
struct Direct(Arc<dyn Network>);

impl Direct {
    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, BoxError> {
        match host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
        {
            Ok(address) => Ok(vec![address]),
            Err(_) => match self.0.resolve(host.to_owned()).await {
                Ok(addresses) if addresses.is_empty() => {
                    Err(format!("{host:?} has no address").into())
                }
                Ok(addresses) => Ok(addresses),
                Err(error) => Err(format!("{host:?} can't be resolved: {error}").into()),
            },
        }
    }

    async fn dial(&self, addresses: Vec<IpAddr>, port: u16) -> Result<Connection, BoxError> {
        self.0
            .dial(
                addresses
                    .into_iter()
                    .map(|address| SocketAddr::new(address, port))
                    .collect(),
            )
            .await
    }
}

impl Service<Uri> for Direct {
    type Response = Connection;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Connection, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let addresses = this.resolve(uri.host().unwrap_or_default()).await?;
            this.dial(addresses, port(&uri)).await
        })
    }
}

fn port(uri: &Uri) -> u16 {
    uri.port_u16()
        .unwrap_or(if uri.scheme_str() == Some("https") {
            443
        } else {
            80
        })
}

/// Connects to what the guard allows, to public addresses through the proxy if there is one.
#[derive(Clone)]
pub struct Guarded {
    guard: Arc<Guard>,
    proxy: Option<Proxy>,
    network: Direct,
}

impl Guarded {
    pub fn new(guard: Guard, proxy: Option<Proxy>, network: Arc<dyn Network>) -> Self {
        Self {
            guard: Arc::new(guard),
            proxy,
            network: Direct(network),
        }
    }

    async fn connect(self, uri: Uri) -> Result<Connection, BoxError> {
        let (host, port) = (uri.host().unwrap_or_default(), port(&uri));
        let is_callers = self.guard.named_by() == NamedBy::Caller;
        let addresses = match (self.network.resolve(host).await, &self.proxy) {
            (Ok(addresses), _) => addresses,
            // The proxy may judge a name of the settings that only it knows, but not a name that a
            // caller gave.
            (Err(_), Some(proxy)) if !is_callers => {
                return self.tunnel(proxy, &format!("{host}:{port}")).await;
            }
            (Err(error), _) => return Err(error),
        };
        // One forbidden address is enough to refuse: whoever mixes it with others tries which one
        // is dialled.
        addresses
            .iter()
            .try_for_each(|address| self.guard.check(*address))?;
        match (&self.proxy, addresses.first()) {
            // For a caller's name the proxy is given the judged address, so that it looks up no
            // name.
            (Some(proxy), Some(address)) if addresses.iter().all(|address| is_public(*address)) => {
                let target = if is_callers {
                    SocketAddr::new(*address, port).to_string()
                } else {
                    format!("{host}:{port}")
                };
                self.tunnel(proxy, &target).await
            }
            _ => self.network.dial(addresses, port).await,
        }
    }

    async fn tunnel(&self, proxy: &Proxy, target: &str) -> Result<Connection, BoxError> {
        let mut tunnel = Tunnel::new(proxy.uri.clone(), self.network.clone());
        if let Some(authorization) = &proxy.authorization {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        let opened = tunnel.call(format!("http://{target}").parse()?).await;
        opened.map_err(|error| format!("egress.proxy {}: {}", proxy.uri, chain(&error)).into())
    }
}

impl Service<Uri> for Guarded {
    type Response = Connection;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Connection, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}
