//! An API without idempotency: raw TCP, so that it can say and leave unsaid what no HTTP library
//! would. It counts what it executes.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

use crate::app::LONG;

/// What it does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Says these bytes and stays connected.
    Say(String),
    /// Says these bytes, of which there may be none, and closes.
    SayAndClose(String),
    /// Says each part but the first when it is let to.
    Parts(Vec<String>),
    /// The usual answer when it is let to.
    Hang,
}

impl Act {
    pub fn status(status: u16, head: &str, body: &str) -> Self {
        Self::Say(format!(
            "HTTP/1.1 {status} Some Reason\r\n{head}content-length: {}\r\n\r\n{body}",
            body.len()
        ))
    }
}

#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

struct State {
    acts: Mutex<VecDeque<Act>>,
    seen: watch::Sender<Vec<Seen>>,
    let_go: Semaphore,
}

#[derive(Clone)]
pub struct FakeApi {
    pub address: SocketAddr,
    state: Arc<State>,
}

impl FakeApi {
    /// Does these in turn, then answers as usual for ever: 201 and the number of the execution.
    pub async fn start(acts: Vec<Act>) -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address"), acts).await
    }

    pub async fn start_at(address: SocketAddr, acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            acts: Mutex::new(acts.into()),
            seen: watch::channel(Vec::new()).0,
            let_go: Semaphore::new(0),
        });
        let api = Self {
            address,
            state: state.clone(),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = state.clone();
                tokio::spawn(async move { serve(stream, &state).await });
            }
        });
        api
    }

    pub fn count(&self) -> usize {
        self.state.seen.borrow().len()
    }

    /// Waits for so many requests and returns them all.
    pub async fn seen(&self, count: usize) -> Vec<Seen> {
        let mut receiver = self.state.seen.subscribe();
        let seen = tokio::time::timeout(LONG, receiver.wait_for(|seen| seen.len() >= count)).await;
        seen.unwrap_or_else(|_| panic!("{count} requests did not come in time"))
            .expect("the upstream")
            .clone()
    }

    /// Lets so many parts or answers go that wait, or will.
    pub fn let_go(&self, count: usize) {
        self.state.let_go.add_permits(count);
    }

    pub fn gateway(&self, more: &str) -> String {
        gateway_config(self.address, more)
    }
}

pub fn gateway_config(upstream: SocketAddr, more: &str) -> String {
    format!("[gateways.pay]\nbind = \"127.0.0.1:0\"\nupstream = \"http://{upstream}\"\n{more}\n")
}

async fn serve(mut stream: TcpStream, state: &State) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let seen = request(&mut stream, &mut buffer).await?;
        let act = state.acts.lock().expect("acts").pop_front();
        let is_head = seen.method == "HEAD";
        let mut number = 0;
        state.seen.send_modify(|all| {
            all.push(seen);
            number = all.len();
        });
        let body = if is_head {
            String::new()
        } else {
            format!("{{\"n\":{number:03}}}")
        };
        let usual = format!(
            "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: 9\r\nx-number: {number}\r\n\r\n{body}"
        );
        match act.unwrap_or(Act::Say(usual.clone())) {
            Act::Say(text) => stream.write_all(text.as_bytes()).await.ok()?,
            Act::SayAndClose(text) => {
                stream.write_all(text.as_bytes()).await.ok()?;
                return stream.shutdown().await.ok();
            }
            Act::Parts(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    if index > 0 {
                        state.let_go.acquire().await.ok()?.forget();
                    }
                    stream.write_all(part.as_bytes()).await.ok()?;
                }
            }
            Act::Hang => {
                state.let_go.acquire().await.ok()?.forget();
                stream.write_all(usual.as_bytes()).await.ok()?;
            }
        }
    }
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    (stream.read_buf(buffer).await.ok()? > 0).then_some(())
}

async fn line(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = buffer.windows(2).position(|pair| pair == b"\r\n") {
            let line = buffer.drain(..end + 2).collect::<Vec<u8>>();
            return Some(String::from_utf8_lossy(&line[..end]).into_owned());
        }
        more(stream, buffer).await?;
    }
}

async fn take(stream: &mut TcpStream, buffer: &mut Vec<u8>, bytes: usize) -> Option<Vec<u8>> {
    while buffer.len() < bytes {
        more(stream, buffer).await?;
    }
    Some(buffer.drain(..bytes).collect())
}

async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let first = line(stream, buffer).await?;
    let mut words = first.split(' ').map(str::to_owned);
    let mut seen = Seen {
        method: words.next()?,
        target: words.next()?,
        headers: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let header = line(stream, buffer).await?;
        let Some((name, value)) = header.split_once(':') else {
            break;
        };
        seen.headers
            .push((name.to_owned(), value.trim().to_owned()));
    }
    if seen.header("transfer-encoding").is_some() {
        loop {
            let bytes = usize::from_str_radix(line(stream, buffer).await?.trim(), 16).ok()?;
            let chunk = take(stream, buffer, bytes + 2).await?;
            seen.body.extend_from_slice(&chunk[..bytes]);
            if bytes == 0 {
                break;
            }
        }
    } else if let Some(length) = seen
        .header("content-length")
        .and_then(|length| length.parse().ok())
    {
        seen.body = take(stream, buffer, length).await?;
    }
    Some(seen)
}
