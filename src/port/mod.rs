//! A port: a listener, and how many connections and how much time it allows. Which paths exist is
//! the concern of others.

mod addresses;
pub mod body;
mod connections;
mod framing;
pub mod reading;
mod stream;

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    os::fd::AsRawFd as _,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_http::{
    ConnectionType, HttpService, Request, Response, ResponseHead,
    body::{BodySize, BoxBody, MessageBody},
    error::DispatchError,
    header::HeaderMap,
};
use actix_server::ServerHandle;
use actix_service::{
    IntoServiceFactory as _, Service as _, ServiceFactory, ServiceFactoryExt as _,
    apply_fn_factory, fn_service, map_config,
};
use actix_web::{
    App, Error, HttpRequest,
    dev::{AppConfig, ServiceRequest, ServiceResponse},
    http::header,
};
use bytes::Bytes;
use tokio::{net::TcpStream, task::JoinHandle};

pub use self::addresses::{Rates, guest};
use crate::port::{
    connections::Connections,
    stream::{Exchange, Times, Watched},
};

/// How long a sender may take to close a connection that was closed here.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A client that takes nothing of an answer for this long counts as gone.
const STALLED_FOR: Duration = Duration::from_secs(60);

/// Every bound of a port.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub workers: usize,
    pub connections_max: usize,
    /// 0 allows as many as there may be in all.
    pub connections_per_address_max: usize,
    pub head_timeout: Duration,
    /// None if the code that reads a body bounds it.
    pub body_timeout: Option<Duration>,
    pub keep_alive: Duration,
    /// How long a stop waits for the requests that have begun.
    pub stop_seconds: u64,
}

/// A running server.
pub struct Server {
    /// The address where it listens, with the real port if 0 was asked for.
    pub address: SocketAddr,
    handle: ServerHandle,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Stops accepting, and returns when the requests that have begun are answered or
    /// `stop_seconds` are over.
    pub async fn stop(self) {
        self.handle.stop(true).await;
        let _ = self.task.await;
    }
}

/// Serves the service that `factory` makes for each worker.
pub fn serve<F, S, B>(listener: TcpListener, bounds: &Bounds, factory: F) -> io::Result<Server>
where
    F: Fn() -> S + Clone + Send + 'static,
    S: ServiceFactory<Request, Config = ()> + 'static,
    S::Response: Into<Response<B>>,
    S::Error: Into<Response<BoxBody>>,
    S::InitError: fmt::Debug,
    B: MessageBody + 'static,
{
    let address = listener.local_addr()?;
    let connections = Connections::new(bounds.connections_max, bounds.connections_per_address_max);
    let builder = actix_server::Server::build()
        .workers(bounds.workers)
        // The server has to accept a new connection before another one is closed for it, and a
        // closed one stays open a moment longer than it has its place.
        .max_concurrent_connections(
            bounds
                .connections_max
                .saturating_add(bounds.connections_max / 8 + 64),
        )
        .shutdown_timeout(bounds.stop_seconds)
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    let (head_timeout, keep_alive) = (bounds.head_timeout, bounds.keep_alive);
    let times = Times {
        head: head_timeout,
        body: bounds.body_timeout,
        stalled: STALLED_FOR,
    };
    let service = move || {
        let (connections, stopping) = (connections.clone(), stopping.clone());
        let stopping = move || {
            let stopping = stopping.clone();
            async move { stopping.notified().await }
        };
        let http = HttpService::build()
            .client_request_timeout(head_timeout)
            .keep_alive(keep_alive)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .graceful_shutdown_signal(stopping)
            .on_connect_ext(|connection: &Watched, data| {
                data.insert(connection.exchange());
            })
            .h1(factory());
        fn_service(move |stream: TcpStream| std::future::ready(enter(&connections, stream, times)))
            .and_then(http)
    };
    let server = builder.listen("port", listener, service)?.run();
    Ok(Server {
        address,
        handle: server.handle(),
        task: tokio::spawn(server),
    })
}

fn enter(
    connections: &Arc<Connections>,
    stream: TcpStream,
    times: Times,
) -> Result<(Watched, Option<SocketAddr>), DispatchError> {
    let peer = stream.peer_addr()?;
    let seat = connections
        .enter(stream.as_raw_fd(), peer.ip())
        .map_err(|connections::Full| io::Error::from(io::ErrorKind::ConnectionRefused))?;
    Ok((Watched::new(stream, seat, times), Some(peer)))
}

/// One request while it is answered. Each service of a port makes one, and reports when the answer
/// is ready.
pub struct Answering(Option<Rc<Exchange>>);

impl Answering {
    pub fn begin(request: &Request) -> Self {
        let exchange = request.conn_data::<Rc<Exchange>>().cloned();
        exchange.iter().for_each(|exchange| exchange.take());
        Self(exchange)
    }

    /// Reports that the answer is ready. If the request has not come whole, the answer says that
    /// the connection closes after it. Drop what is returned when the answer's body has ended.
    pub fn end(self, answer: &mut ResponseHead) -> Sending {
        if self.0.as_ref().is_some_and(|exchange| exchange.answer()) {
            answer.set_connection_type(ConnectionType::Close);
        }
        Sending(self.0)
    }
}

/// An answer on its way. Until it has ended, its connection is not closed to make room.
pub struct Sending(Option<Rc<Exchange>>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.iter().for_each(|exchange| exchange.finish());
    }
}

/// Whether the client has closed its side, which means that it waits for nothing any more.
pub fn is_gone(request: &HttpRequest) -> bool {
    request
        .conn_data::<Rc<Exchange>>()
        .is_some_and(|exchange| exchange.is_ended())
}

/// A body of an answer that may go on for long.
pub struct Streamed {
    body: BoxBody,
    _sending: Sending,
}

impl MessageBody for Streamed {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(cx)
    }
}

/// Wraps an application as a port serves it.
pub fn web<T, B>(
    app: App<T>,
) -> impl ServiceFactory<
    Request,
    Config = (),
    Response = Response<Streamed>,
    Error = Response<BoxBody>,
    InitError = (),
>
where
    T: ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse<B>,
            Error = Error,
            InitError = (),
        > + 'static,
    B: MessageBody + 'static,
{
    let app = map_config(
        app.into_factory()
            .map_err(|error: Error| error.error_response().into()),
        |()| AppConfig::default(),
    );
    apply_fn_factory(app, |request: Request, service| {
        let answering = Answering::begin(&request);
        let answer = service.call(request);
        async move {
            let mut response: Response<B> = answer.await?.into();
            let sending = answering.end(response.head_mut());
            Ok(response.map_body(|_, body| Streamed {
                body: body.boxed(),
                _sending: sending,
            }))
        }
    })
}

/// Headers that may come only once. Choosing one of two would be wrong, because a proxy in front
/// may have looked at the other.
const ONCE: [header::HeaderName; 2] = [header::AUTHORIZATION, header::CONTENT_ENCODING];

/// A header of `ONCE` that comes twice, if there is one.
pub fn ambiguous(headers: &HeaderMap) -> Option<header::HeaderName> {
    // Nearly always every name comes once, and then nothing has to be looked up.
    if headers.len() == headers.len_keys() {
        return None;
    }
    ONCE.into_iter()
        .find(|name| headers.get_all(name).nth(1).is_some())
}
