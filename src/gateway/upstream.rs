//! The upstream: its address, and the client that speaks to it. Bytes of a path go on as they came, which is why this is no `url::Url`.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use rustls_platform_verifier::Verifier;

use crate::settings;

pub type Body = UnsyncBoxBody<Bytes, io::Error>;
pub type Client = legacy::Client<HttpsConnector<HttpConnector>, Body>;

#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("upstream {0:?} is no address")]
    Address(String),
    #[error("the certificates of this machine can't be used")]
    Tls(#[from] rustls::Error),
    #[error("upstream_ca {0}: no certificates in PEM can be read")]
    Authority(PathBuf, #[source] rustls::pki_types::pem::Error),
    #[error("upstream_ca {0}: has no certificate")]
    NoAuthority(PathBuf),
}

/// What hyper sets aside to read an answer from a connection, its head with it.
const READ_BYTES_MAX: usize = 64 << 10;

/// Scheme, host and the path before all others.
#[derive(Clone, Debug)]
pub struct Upstream {
    start: String,
}

impl Upstream {
    pub fn parse(text: &str) -> Result<Self, UpstreamError> {
        let start = text.trim_end_matches('/').to_owned();
        match start.parse::<Uri>() {
            Ok(uri) if uri.scheme().is_some() && uri.authority().is_some() => Ok(Self { start }),
            _ => Err(UpstreamError::Address(text.into())),
        }
    }

    /// A target begins with `/`.
    pub fn uri(&self, target: &str) -> Option<Uri> {
        format!("{}{target}", self.start).parse().ok()
    }
}

pub fn client(settings: &settings::Gateway) -> Result<Client, UpstreamError> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(settings.connect_timeout.0));
    let connector =
        hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls(settings)?).https_or_http().enable_http1().wrap_connector(connector);
    Ok(legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .http1_max_buf_size(READ_BYTES_MAX)
        .pool_idle_timeout(settings.connection_idle_max.0)
        .pool_max_idle_per_host(if settings.connection_idle_max.is_zero() { 0 } else { settings.calls_max })
        .build(connector))
}

fn tls(settings: &settings::Gateway) -> Result<rustls::ClientConfig, UpstreamError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let own = match &settings.upstream_ca {
        Some(path) => authorities(path)?,
        None => Vec::new(),
    };
    let verifier = Arc::new(Verifier::new_with_extra_roots(own, provider)?);
    // As `BuilderVerifierExt` does it, which takes no certificates of one's own.
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn authorities(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, UpstreamError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let own = read.map_err(|error| UpstreamError::Authority(path.clone(), error))?;
    if own.is_empty() { Err(UpstreamError::NoAuthority(path.clone())) } else { Ok(own) }
}

pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub fn full(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// Not a byte of it went out.
    NeverSent(String),
    Late(Duration),
    Broken(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NeverSent(why) => write!(f, "no connection to the upstream: {why}"),
            Self::Late(time) => write!(f, "no answer from the upstream within {time:?}"),
            Self::Broken(why) => write!(f, "the exchange with the upstream broke off: {why}"),
        }
    }
}

/// Sends a request and waits for the answer's head.
pub async fn send(client: &Client, request: Request<Body>, timeout: Duration) -> Result<Response<Incoming>, Failure> {
    match tokio::time::timeout(timeout, client.request(request)).await {
        Ok(Ok(response)) => Ok(response),
        // A connection that was made before and is gone is no such error: bytes may have arrived.
        Ok(Err(error)) if error.is_connect() => Err(Failure::NeverSent(chain(&error))),
        Ok(Err(error)) => Err(Failure::Broken(chain(&error))),
        Err(_) => Err(Failure::Late(timeout)),
    }
}

/// The next piece of a body; None at its end. Trailers are passed over: nobody here has a place for them.
pub async fn piece(body: &mut Incoming, timeout: Duration) -> Result<Option<Bytes>, Failure> {
    loop {
        match tokio::time::timeout(timeout, body.frame()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Ok(Some(Err(error))) => return Err(Failure::Broken(chain(&error))),
            Err(_) => return Err(Failure::Late(timeout)),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
