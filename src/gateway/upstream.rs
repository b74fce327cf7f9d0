//! The upstream: its address, and the client that speaks to it. It is no `url::Url`, because the
//! bytes of a path are passed on as they came.

use std::{io, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::{
    outbound::{self, Egress, chain, guard::NamedBy},
    settings,
};

pub type Body = UnsyncBoxBody<Bytes, io::Error>;
pub type Client = outbound::Client<Body>;

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

/// The upstream's scheme, host and path prefix.
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

    /// The URI of a target, which begins with `/`.
    pub fn uri(&self, target: &str) -> Option<Uri> {
        format!("{}{target}", self.start).parse().ok()
    }
}

pub fn client(settings: &settings::Gateway, egress: &Egress) -> Result<Client, UpstreamError> {
    let own = match &settings.upstream_ca {
        Some(path) => authorities(path)?,
        None => Vec::new(),
    };
    let idle_for = settings.connection_idle_max.0;
    let idle_max = if idle_for.is_zero() {
        0
    } else {
        settings.calls_max
    };
    let limits = outbound::Limits {
        connect_timeout: settings.connect_timeout.0,
        idle_for,
        idle_max,
    };
    Ok(outbound::client(&limits, NamedBy::Settings, egress, own)?)
}

fn authorities(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, UpstreamError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let own = read.map_err(|error| UpstreamError::Authority(path.clone(), error))?;
    if own.is_empty() {
        Err(UpstreamError::NoAuthority(path.clone()))
    } else {
        Ok(own)
    }
}

pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub fn full(body: Bytes) -> Body {
    Full::new(body)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Why there is no answer, none to its end, or none that says what was done.
#[derive(Debug)]
pub enum Failure {
    /// Not a byte of the request went out.
    NeverSent(String),
    Late(Duration),
    Broken(String),
    /// The answer's status leaves it open.
    Undecided(u16),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NeverSent(why) => write!(f, "no connection to the upstream: {why}"),
            Self::Late(time) => write!(f, "no answer from the upstream within {time:?}"),
            Self::Broken(why) => write!(f, "the exchange with the upstream broke off: {why}"),
            Self::Undecided(status) => write!(
                f,
                "the upstream answered {status}, which does not say whether something was done"
            ),
        }
    }
}

/// Sends a request and waits for the answer's head.
pub async fn send(
    client: &Client,
    request: Request<Body>,
    timeout: Duration,
) -> Result<Response<Incoming>, Failure> {
    match tokio::time::timeout(timeout, client.request(request)).await {
        // What follows on that connection is no HTTP, so there will be no answer.
        Ok(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => Err(
            Failure::Broken("the upstream switches protocols (101), which it was not asked".into()),
        ),
        Ok(Ok(response)) => Ok(response),
        // Only for connections that were never made. If an older one breaks, bytes may have
        // arrived.
        Ok(Err(error)) if error.is_connect() => Err(Failure::NeverSent(chain(&error))),
        Ok(Err(error)) => Err(Failure::Broken(chain(&error))),
        Err(_) => Err(Failure::Late(timeout)),
    }
}

/// The next piece of a body, or None at its end. Trailers are dropped, because answers have no
/// place for them here.
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
