//! What stands between service and server, in tests of what may happen there.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixStream},
};

/// Where the server listens.
#[derive(Clone)]
pub enum Upstream {
    Socket(PathBuf),
    Port(String),
}

pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}
pub type Stream = Box<dyn Duplex>;

impl Upstream {
    pub fn of(url: &str) -> Self {
        let url: url::Url = url.parse().expect("a URL");
        let port = url.port().unwrap_or(5432);
        match url.query_pairs().find(|(name, _)| name == "host") {
            Some((_, folder)) => Self::Socket(Path::new(&*folder).join(format!(".s.PGSQL.{port}"))),
            None => Self::Port(format!("{}:{port}", url.host_str().expect("a host"))),
        }
    }

    pub async fn connect(&self) -> std::io::Result<Stream> {
        Ok(match self {
            Self::Socket(path) => Box::new(UnixStream::connect(path).await?),
            Self::Port(address) => Box::new(TcpStream::connect(address).await?),
        })
    }
}

/// A port, and the same database through whoever listens there.
pub async fn listen(url: &str) -> (TcpListener, SocketAddr, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut url: url::Url = url.parse().expect("a URL");
    url.set_query(Some("sslmode=disable"));
    url.set_host(Some("127.0.0.1")).expect("a host");
    url.set_port(Some(address.port())).expect("a port");
    (listener, address, url.into())
}
