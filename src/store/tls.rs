//! Finds out whether a server with TLS can be reached as its URL says. What is wrong with its
//! certificate is said in words, with the cure. sqlx can't read certificates of X.509 version 1, as
//! PostgreSQL's manual makes them. If `sslmode=require` allows such a one, TLS is made here
//! instead. The connections that statements use are made elsewhere.

use std::{io, time::Duration};

use rustls::{CertificateError, pki_types::ServerName};
use sqlx::{
    ConnectOptions as _, Connection as _,
    postgres::{PgConnectOptions, PgSslMode},
};

use super::link;

#[cfg(target_os = "linux")]
mod relay;
#[cfg(target_os = "linux")]
mod trust;

const CONNECT_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    #[error("it is not a postgres:// URL")]
    Url(#[source] sqlx::Error),
    #[error("the database's certificate is refused: {0}")]
    Certificate(String),
    #[error("sslrootcert can't be read")]
    Root(#[source] io::Error),
    #[error(
        "the certificate of the database can't be read by this hookonce, and there is no way around it"
    )]
    Relay(#[source] io::Error),
}

/// How to connect. A relay, if one is needed, ends when this is dropped.
pub struct Reached {
    pub options: PgConnectOptions,
    #[cfg(target_os = "linux")]
    pub between: Option<relay::Relay>,
}

impl Reached {
    fn directly(options: PgConnectOptions) -> Self {
        Self {
            options,
            #[cfg(target_os = "linux")]
            between: None,
        }
    }
}

/// Tries the URL once. Problems other than the certificate are left to whoever connects next.
///
/// # Errors
///
/// The URL, the certificate or `sslrootcert` is wrong, or the relay could not be started.
pub async fn reach(url: &str) -> Result<Reached, ReachError> {
    let options = link::options(url).map_err(ReachError::Url)?;
    let mode = options.get_ssl_mode();
    if matches!(mode, PgSslMode::Disable | PgSslMode::Allow)
        || options.get_socket().is_some()
        || options.get_host().starts_with('/')
    {
        return Ok(Reached::directly(options));
    }
    let is_strict = matches!(mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull);
    let root = if matches!(mode, PgSslMode::Require) {
        root(&options).await?
    } else {
        None
    };
    if !is_strict && root.is_none() && parameter(&options, "sslrootcert").is_some() {
        tracing::warn!(
            "sslrootcert is given, but no certificate is checked: it is not there, or sslmode is not require, verify-ca or verify-full"
        );
    }
    // As in libpq, `require` checks who signed the certificate if it is given the authority's.
    let options = if root.is_some() {
        options.ssl_mode(PgSslMode::VerifyCa)
    } else {
        options
    };
    let fault = match link::within(CONNECT_WITHIN, options.connect()).await {
        Ok(connection) => {
            let _ = connection.close().await;
            None
        }
        Err(error) => fault(&error),
    };
    match fault {
        None => Ok(Reached::directly(options)),
        Some(fault)
            if is_strict
                || !cfg!(target_os = "linux")
                || parameter(&options, "sslcert").is_some() =>
        {
            refused(&fault, &options)
        }
        Some(fault) if root.is_some() && !is_old(&fault) => refused(&fault, &options),
        Some(_) => around(options, root).await,
    }
}

fn refused(fault: &CertificateError, options: &PgConnectOptions) -> Result<Reached, ReachError> {
    Err(ReachError::Certificate(in_words(fault, options.get_host())))
}

fn parameter(options: &PgConnectOptions, wanted: &str) -> Option<String> {
    options
        .to_url_lossy()
        .query_pairs()
        .find(|(name, _)| name == wanted)
        .map(|(_, value)| value.into_owned())
}

/// The certificates of `sslrootcert`: the content of a file, or the text itself.
async fn root(options: &PgConnectOptions) -> Result<Option<Vec<u8>>, ReachError> {
    let Some(given) = parameter(options, "sslrootcert") else {
        return Ok(None);
    };
    let Some(path) = given.strip_prefix("file: ") else {
        return Ok(Some(given.into_bytes()));
    };
    match tokio::fs::read(path).await {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ReachError::Root(error)),
    }
}

/// Connects by a relay. `root`: the certificate must be one of these or signed by one; None checks
/// nothing.
#[cfg(target_os = "linux")]
async fn around(options: PgConnectOptions, root: Option<Vec<u8>>) -> Result<Reached, ReachError> {
    let host = options.get_host().to_owned();
    let is_checked = root.is_some();
    let started =
        relay::Relay::start(options, root)
            .await
            .map_err(|error| match fault_of(&error) {
                Some(fault) => ReachError::Certificate(in_words(&fault, &host)),
                None => ReachError::Relay(error),
            });
    let (between, options) = started?;
    tracing::info!(
        is_checked,
        "the database's certificate is of an old form: hookonce makes TLS to it by itself"
    );
    Ok(Reached {
        options,
        between: Some(between),
    })
}

#[cfg(not(target_os = "linux"))]
async fn around(_: PgConnectOptions, _: Option<Vec<u8>>) -> Result<Reached, ReachError> {
    Err(ReachError::Relay(io::ErrorKind::Unsupported.into()))
}

/// The fault of the certificate, if that is why there is no connection.
fn fault(error: &sqlx::Error) -> Option<CertificateError> {
    match error {
        sqlx::Error::Io(error) => fault_of(error),
        sqlx::Error::Tls(error) => of_certificate(error.downcast_ref()?),
        _ => None,
    }
}

fn fault_of(error: &io::Error) -> Option<CertificateError> {
    of_certificate(error.get_ref()?.downcast_ref()?)
}

fn of_certificate(error: &rustls::Error) -> Option<CertificateError> {
    match error {
        rustls::Error::InvalidCertificate(fault) => Some(fault.clone()),
        _ => None,
    }
}

/// Whether the certificate has a form that rustls refuses to check at all.
fn is_old(fault: &CertificateError) -> bool {
    is_version_1(fault) || is_authoritys(fault)
}

fn is_version_1(fault: &CertificateError) -> bool {
    matches!(fault, CertificateError::Other(other) if format!("{other:?}").contains("UnsupportedCertVersion"))
}

fn is_authoritys(fault: &CertificateError) -> bool {
    matches!(fault, CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity"))
}

/// The fault's cause and cure.
fn in_words(fault: &CertificateError, host: &str) -> String {
    match fault {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "who signed it is not known here. Give the certificate of the authority that did, or its own where it signed \
             itself: sslrootcert=/path/to/root.crt in the URL"
                .into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "it is not for {host:?}{}. Connect by a name that it has, or have it made anew with subjectAltName={} (a common name alone \
             does not count); sslmode=verify-ca looks at no name",
            presented(fault),
            alternative_name(host)
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("its time is over{}. Have it made anew; where it has not, set this machine's clock", since(fault))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its time has not begun. Set the clocks of this machine and of the one where it was made".into()
        }
        fault if is_version_1(fault) => format!(
            "it is X.509 version 1, as `openssl x509 -req` makes it without -extfile. Have it made anew as version 3: put \
             subjectAltName={} into a file and give that as -extfile; or encrypt without a check, sslmode=require and no sslrootcert",
            alternative_name(host)
        ),
        fault if is_authoritys(fault) => format!(
            "it is an authority's (CA:TRUE), as `openssl req -x509` makes it. Have it made anew with -addext basicConstraints=critical,CA:FALSE \
             -addext subjectAltName={}, and give it as sslrootcert; or encrypt without a check, sslmode=require and no sslrootcert",
            alternative_name(host)
        ),
        other => format!("{other}. sslmode=require without sslrootcert encrypts without a check"),
    }
}

fn presented(fault: &CertificateError) -> String {
    match fault {
        CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            format!(" but for {}", presented.join(", "))
        }
        CertificateError::NotValidForNameContext { .. } => " nor any other name".into(),
        _ => String::new(),
    }
}

fn since(fault: &CertificateError) -> String {
    let CertificateError::ExpiredContext { not_after, .. } = fault else {
        return String::new();
    };
    let at = i64::try_from(not_after.as_secs())
        .ok()
        .and_then(|at| time::OffsetDateTime::from_unix_timestamp(at).ok());
    at.map(|at| format!(" since {}", at.date()))
        .unwrap_or_default()
}

/// A host as openssl takes it in subjectAltName.
fn alternative_name(host: &str) -> String {
    match ServerName::try_from(host) {
        Ok(ServerName::IpAddress(_)) => format!("IP:{host}"),
        _ => format!("DNS:{host}"),
    }
}
