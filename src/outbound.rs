//! Connections to others' servers: HTTP/1.1, over TLS if the address says so, with this machine's
//! certificates. Only the proxy of the settings is used, redirects are not followed, and the guard
//! decides which addresses may be connected to.

mod connect;
pub mod guard;
#[cfg(test)]
mod guard_tests;

use std::{
    error::Error,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, pki_types::CertificateDer};
use rustls_platform_verifier::Verifier;

use connect::{Guarded, Machine, Network};
pub use connect::{Proxy, chain};
use guard::{Blocked, Guard, NamedBy, Rules};

pub type Client<B> = legacy::Client<HttpsConnector<Guarded>, B>;

/// Size of the buffer that an answer is read into, its head included.
const READ_BYTES_MAX: usize = 64 << 10;

/// Limits of connections.
pub struct Limits {
    pub connect_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_for: Duration,
    /// How many unused connections are kept to one server.
    pub idle_max: usize,
}

/// How connections leave this machine: by which rules, and through which proxy.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    pub rules: Rules,
    pub proxy: Option<Proxy>,
}

/// An HTTP client. `authorities`: certificates that are trusted besides those of this machine.
pub fn client<B>(
    limits: &Limits,
    named_by: NamedBy,
    egress: &Egress,
    authorities: Vec<CertificateDer<'static>>,
) -> Result<Client<B>, rustls::Error>
where
    B: Body<Data = Bytes> + Send,
{
    client_on(
        Arc::new(Machine {
            connect_timeout: limits.connect_timeout,
        }),
        limits,
        named_by,
        egress,
        authorities,
    )
}

fn client_on<B>(
    network: Arc<dyn Network>,
    limits: &Limits,
    named_by: NamedBy,
    egress: &Egress,
    authorities: Vec<CertificateDer<'static>>,
) -> Result<Client<B>, rustls::Error>
where
    B: Body<Data = Bytes> + Send,
{
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls(authorities)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(Guarded::new(
            Guard::new(named_by, egress.rules.clone()),
            egress.proxy.clone(),
            network,
        ));
    Ok(legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .http1_max_buf_size(READ_BYTES_MAX)
        .pool_idle_timeout(limits.idle_for)
        .pool_max_idle_per_host(limits.idle_max)
        .build(connector))
}

/// The TLS configuration. This machine's certificates are read only once, because that is slow.
fn tls(authorities: Vec<CertificateDer<'static>>) -> Result<ClientConfig, rustls::Error> {
    static MACHINES_OWN: OnceLock<ClientConfig> = OnceLock::new();
    if !authorities.is_empty() {
        return with_authorities(authorities);
    }
    if let Some(config) = MACHINES_OWN.get() {
        return Ok(config.clone());
    }
    let config = with_authorities(authorities)?;
    Ok(MACHINES_OWN.get_or_init(|| config).clone())
}

fn with_authorities(
    authorities: Vec<CertificateDer<'static>>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let verifier = Arc::new(Verifier::new_with_extra_roots(authorities, provider)?);
    // The same as `BuilderVerifierExt`, which takes no additional certificates.
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// The guard's reason, if that is why there is no connection.
pub fn blocked(error: &legacy::Error) -> Option<&Blocked> {
    // An `io::Error` gives the error in it only by `get_ref`; its `source` is the one after that.
    fn held<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Blocked> {
        error
            .downcast_ref()
            .or_else(|| error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref())
    }
    std::iter::successors(error.source(), |&error| error.source()).find_map(held)
}
