//! Handlers that hookonce delivers to: raw HTTP/1.1 on a thread of their own, so that they cost
//! next to nothing.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{events::Events, times::Times};

/// How often a handler looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

const MADE: &[u8] =
    b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: 37\r\n\r\n{\"id\":\"ch_3PQx\",\"status\":\"succeeded\"}";

#[derive(Clone)]
pub enum Behaviour {
    /// Answers at once, and notes when each event arrived.
    Answer(Arc<Times>),
    /// Answers at once that something was made, and counts.
    Make(Arc<AtomicU64>),
    /// Reads and never answers.
    Hang,
}

/// A handler under way; it ends when this is dropped.
pub struct Handler {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Handler {
    pub fn start(port: u16, behaviour: Behaviour) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let theirs = stop.clone();
        let thread = std::thread::Builder::new()
            .name("handler".into())
            .spawn(move || {
                let served = tokio::task::LocalSet::new()
                    .block_on(&runtime, serve(listener, behaviour, theirs));
                if let Err(error) = served {
                    eprintln!("bench: a handler broke: {error}");
                }
            })?;
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(
    listener: TcpListener,
    behaviour: Behaviour,
    stop: Arc<AtomicBool>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    while !stop.load(Ordering::Relaxed) {
        if let Ok(accepted) = tokio::time::timeout(LOOK, listener.accept()).await {
            let (stream, _) = accepted?;
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(connection(stream, behaviour.clone()));
        }
    }
    Ok(())
}

async fn connection(mut stream: TcpStream, behaviour: Behaviour) -> io::Result<()> {
    let mut request = Vec::with_capacity(32 << 10);
    loop {
        request.clear();
        let (number, end) = loop {
            if let Some(found) = whole(&request) {
                break found;
            }
            if stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        };
        debug_assert_eq!(end, request.len(), "requests are not pipelined");
        match &behaviour {
            Behaviour::Answer(times) => {
                if let Some(number) = number {
                    times.set(number, Instant::now());
                }
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .await?;
            }
            Behaviour::Make(count) => {
                count.fetch_add(1, Ordering::Relaxed);
                stream.write_all(MADE).await?;
            }
            Behaviour::Hang => std::future::pending().await,
        }
    }
}

/// The event's number and the request's length, once all of it is there.
fn whole(request: &[u8]) -> Option<(Option<usize>, usize)> {
    let body = memchr::memmem::find(request, b"\r\n\r\n")? + 4;
    let head = &request[..body];
    let length: usize = std::str::from_utf8(header(head, b"content-length: ")?)
        .ok()?
        .parse()
        .ok()?;
    let number = header(head, b"hookonce-event-key: ").and_then(Events::number);
    (request.len() >= body + length).then_some((number, body + length))
}

fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let start = memchr::memmem::find(head, name)? + name.len();
    let length = memchr::memchr(b'\r', &head[start..])?;
    Some(&head[start..start + length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_whole_with_its_body() {
        let text = b"POST / HTTP/1.1\r\nhookonce-event-key: evt_0000000000000abc000000000007\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(whole(text), Some((Some(7), text.len())));
        assert_eq!(whole(&text[..text.len() - 1]), None);
        assert_eq!(whole(b"POST /"), None);
    }
}
