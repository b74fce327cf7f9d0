//! Makes TLS to a server whose certificate has an old form. sqlx would have to read that
//! certificate, so it is given a Unix socket of this process instead, and the connection is
//! encrypted behind it. That the server has the certificate's key is still checked. PostgreSQL's
//! own protocol is passed on unread.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key},
    pki_types::{
        CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime, pem::PemObject as _,
    },
};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpStream, UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::trust;

const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Limit for closing TLS to the server once the other side is gone.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// Pause after a connection could not be accepted, because no files can be opened.
const PAUSE: Duration = Duration::from_millis(100);

/// Ends the connections that go through it when it is dropped.
pub struct Relay(JoinHandle<()>);

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Relay {
    /// Starts a relay after trying it, and returns the options to connect with instead. `root`: the
    /// server's certificate must be one of these or signed by one.
    pub async fn start(
        options: PgConnectOptions,
        root: Option<Vec<u8>>,
    ) -> io::Result<(Self, PgConnectOptions)> {
        let server = Arc::new(Server::of(&options, root)?);
        server.connect().await?;
        // An abstract socket has no file, and ends with the process.
        let folder = format!(
            "\0hookonce-{:032x}",
            u128::from_ne_bytes(crate::chance::bytes())
        );
        let listener = UnixListener::bind(format!("{folder}/.s.PGSQL.{}", options.get_port()))?;
        let relaying = tokio::spawn(take(listener, server));
        Ok((
            Self(relaying),
            options.socket(folder).ssl_mode(PgSslMode::Disable),
        ))
    }
}

async fn take(listener: UnixListener, server: Arc<Server>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            taken = listener.accept() => match taken {
                Ok((client, _)) if is_own(&client) => {
                    let server = server.clone();
                    open.spawn(async move {
                        if let Err(error) = server.relay(client).await {
                            tracing::debug!(%error, "a connection to the database, encrypted here, ended");
                        }
                    });
                }
                Ok(_) => {}
                Err(_) => sleep(PAUSE).await,
            },
            Some(_) = open.join_next() => {}
        }
    }
}

/// Whether the client is this process. Nobody else is let through, because the server may trust
/// this machine.
fn is_own(client: &UnixStream) -> bool {
    let peer = client
        .peer_cred()
        .ok()
        .and_then(|peer| u32::try_from(peer.pid()?).ok());
    peer == Some(std::process::id())
}

struct Server {
    host: String,
    port: u16,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Server {
    fn of(options: &PgConnectOptions, root: Option<Vec<u8>>) -> io::Result<Self> {
        let trusted = root
            .map(|root| CertificateDer::pem_slice_iter(&root).collect())
            .transpose()
            .map_err(io::Error::other)?;
        let (host, port) = (options.get_host().to_owned(), options.get_port());
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(HasKey { provider, trusted }))
            .with_no_client_auth();
        Ok(Self {
            host,
            port,
            name,
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    async fn relay(&self, client: UnixStream) -> io::Result<()> {
        let server = self.connect().await?;
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = tokio::io::split(server);
        let ended = tokio::select! {
            ended = copy(&mut from_client, &mut to_server) => ended,
            ended = copy(&mut from_server, &mut to_client) => ended,
        };
        let _ = timeout(CLOSE_WITHIN, to_server.shutdown()).await;
        ended.map(drop)
    }

    async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        timeout(CONNECT_WITHIN, self.encrypted())
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn encrypted(&self) -> io::Result<TlsStream<TcpStream>> {
        /// The protocol's SSLRequest: its length, and its code 80877103.
        const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
        let mut server = TcpStream::connect((self.host.as_str(), self.port)).await?;
        server.set_nodelay(true)?;
        server.write_all(&SSL_REQUEST).await?;
        if server.read_u8().await? != b'S' {
            return Err(io::Error::other("the server has no TLS any more"));
        }
        self.tls.connect(self.name.clone(), server).await
    }
}

/// Accepts a certificate if the server has its key and the certificate is trusted. If `trusted` is
/// None, any certificate will do.
#[derive(Debug)]
struct HasKey {
    provider: Arc<CryptoProvider>,
    trusted: Option<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for HasKey {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(trusted) = &self.trusted {
            trust::check(certificate, trusted, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 alone was offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let (_, read) = X509Certificate::from_der(certificate)
            .map_err(|_| rustls::CertificateError::BadEncoding)?;
        let key = SubjectPublicKeyInfoDer::from(read.public_key().raw);
        verify_tls13_signature_with_raw_key(
            message,
            &key,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
