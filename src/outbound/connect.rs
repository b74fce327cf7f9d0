//! Opens connections to the addresses that the guard lets through, and to no others: a name is looked up once for each connection, each of
//! its addresses is judged, and what is dialled is what was judged.

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
use http::Uri;
use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::Name},
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service;

use super::guard::Guard;

pub type Connection = TokioIo<TcpStream>;
type BoxError = Box<dyn Error + Send + Sync>;

/// The network; tests bring their own.
pub trait Network: Send + Sync {
    /// All addresses of a name.
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
    /// Connects to whichever of them answers.
    fn dial(&self, addresses: Vec<SocketAddr>) -> BoxFuture<'static, Result<Connection, BoxError>>;
}

/// This machine's resolver and sockets.
pub struct Machine {
    pub connect_timeout: Duration,
}

impl Network for Machine {
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect()) })
    }

    fn dial(&self, addresses: Vec<SocketAddr>) -> BoxFuture<'static, Result<Connection, BoxError>> {
        let mut connector = HttpConnector::new_with_resolver(Known(addresses));
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(self.connect_timeout));
        // The name stands for the addresses: IPv4 and IPv6 are tried side by side (RFC 8305), which is why this is no loop.
        Box::pin(async move { Ok(connector.call(Uri::from_static("http://known")).await?) })
    }
}

/// Addresses in place of a resolver.
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

#[derive(Clone)]
pub struct Guarded {
    guard: Arc<Guard>,
    network: Arc<dyn Network>,
}

impl Guarded {
    pub fn new(guard: Guard, network: Arc<dyn Network>) -> Self {
        Self { guard: Arc::new(guard), network }
    }

    async fn connect(self, uri: Uri) -> Result<Connection, BoxError> {
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let addresses = match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => self.network.resolve(host.to_owned()).await.map_err(|error| format!("{host:?} can't be resolved: {error}"))?,
        };
        // One address that may not be called is enough: who gives it beside others tries which one is taken.
        addresses.iter().try_for_each(|address| self.guard.check(*address))?;
        self.network.dial(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect()).await
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
