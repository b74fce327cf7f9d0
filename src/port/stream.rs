//! A connection as the server sees it: the socket, and the times and bounds that end it. The
//! server's parser and timers watch the first head and the time between requests. This watches what
//! they leave open.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use crate::port::{
    connections::{Phase, Seat},
    framing::{Framing, Offence},
};

/// How many bytes of an unwanted body are still read after its answer, so that a small one need not
/// cost its connection.
pub const LEFT_MAX: usize = 8 << 10;
/// How long a sender may go on sending after an early answer, so that it can read the answer.
const LEFT_FOR: Duration = Duration::from_secs(1);
/// Bytes that the parser refuses anywhere: in a head, and as a chunk's size, extension or trailer.
const POISON: &[u8] = b"\r\0";

/// How long the parts of a request may take to come.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub head: Duration,
    /// None if the code that reads the body bounds its time.
    pub body: Option<Duration>,
    /// A client that takes nothing of an answer for this long counts as gone.
    pub stalled: Duration,
}

/// What the socket and the code that answers tell each other. A connection belongs to one thread.
pub struct Exchange {
    seat: Seat,
    /// How many heads came, and how many of them are being answered or were.
    heads: Cell<u64>,
    taken: Cell<u64>,
    /// How many answers have been sent whole, with their bodies.
    answered: Cell<u64>,
    /// The client sends no more. If it waits for nothing else, it has gone.
    is_ended: Cell<bool>,
    is_in_body: Cell<bool>,
    is_between: Cell<bool>,
    /// After an early answer, how many bytes of the request may still be read.
    left: Cell<Option<usize>>,
}

impl Exchange {
    fn new(seat: Seat) -> Self {
        Self {
            seat,
            heads: Cell::new(0),
            taken: Cell::new(0),
            answered: Cell::new(0),
            is_ended: Cell::new(false),
            is_in_body: Cell::new(false),
            is_between: Cell::new(true),
            left: Cell::new(None),
        }
    }

    /// Notes that the next request is being answered.
    pub fn take(&self) {
        self.taken.set(self.taken.get() + 1);
    }

    /// Notes that its answer is ready. True if the request has not come whole, and then no other
    /// may follow on this connection.
    pub fn answer(&self) -> bool {
        let is_early = self.taken.get() == self.heads.get() && self.is_in_body.get();
        if is_early {
            self.left.set(Some(LEFT_MAX));
        }
        is_early
    }

    /// Notes that its answer has ended.
    pub fn finish(&self) {
        self.answered.set(self.answered.get() + 1);
        if !self.is_answering() {
            self.seat.set(if self.is_between.get() {
                Phase::Idle
            } else {
                Phase::Incomplete
            });
        }
    }

    fn is_answering(&self) -> bool {
        self.heads.get() > self.answered.get()
    }

    pub fn is_ended(&self) -> bool {
        self.is_ended.get()
    }
}

/// A point in time whose timer is made only when nothing else happens.
#[derive(Default)]
struct Deadline {
    at: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    fn set(&mut self, within: Option<Duration>) {
        *self = Self {
            at: within.map(|within| Instant::now() + within),
            sleep: None,
        };
    }

    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(at) = self.at else { return false };
        self.sleep
            .get_or_insert_with(|| Box::pin(sleep_until(at)))
            .as_mut()
            .poll(cx)
            .is_ready()
    }
}

/// The socket, watched.
pub struct Watched {
    exchange: Rc<Exchange>,
    stream: TcpStream,
    framing: Framing,
    times: Times,
    reading: Deadline,
    writing: Deadline,
    /// Whether an early answer was noticed.
    is_left: bool,
    poison: Option<&'static [u8]>,
    is_ended: bool,
}

impl Watched {
    pub fn new(stream: TcpStream, seat: Seat, times: Times) -> Self {
        Self {
            exchange: Rc::new(Exchange::new(seat)),
            stream,
            framing: Framing::default(),
            times,
            reading: Deadline::default(),
            writing: Deadline::default(),
            is_left: false,
            poison: None,
            is_ended: false,
        }
    }

    pub fn exchange(&self) -> Rc<Exchange> {
        self.exchange.clone()
    }

    /// Nothing has come: ends the connection if its time is over.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_ended = self.reading.is_over(cx);
        if self.is_ended {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// Starts the time after an early answer. It runs whether or not anything is read.
    fn notice_left(&mut self, cx: &mut Context<'_>) {
        if self.exchange.left.get().is_some() && !self.is_left {
            self.is_left = true;
            self.reading.set(Some(LEFT_FOR));
            let _ = self.reading.is_over(cx);
        }
    }

    /// Takes what was read into the buffer, from `from` on.
    fn note(&mut self, buf: &mut ReadBuf<'_>, from: usize) {
        let before = (
            self.framing.heads(),
            self.framing.is_in_body(),
            self.framing.is_between(),
        );
        if let Err(Offence(at)) = self.framing.take(&buf.filled()[from..]) {
            buf.set_filled(from + at);
            self.poison = Some(POISON);
        }
        buf.set_filled(buf.filled().len() - self.framing.blank().min(buf.filled().len() - from));
        let after = (
            self.framing.heads(),
            self.framing.is_in_body(),
            self.framing.is_between(),
        );
        let exchange = &*self.exchange;
        exchange.heads.set(after.0);
        exchange.is_in_body.set(after.1);
        exchange.is_between.set(after.2);
        if self.is_left {
            exchange.left.set(
                exchange
                    .left
                    .get()
                    .map(|left| left.saturating_sub(buf.filled().len() - from)),
            );
            return;
        }
        if after.2 {
            if before.0 < after.0 || before.1 {
                exchange.seat.set(Phase::Busy);
                self.reading = Deadline::default();
            }
            // Otherwise only pieces of empty lines came, and the time for a head goes on.
        } else if before != after {
            if !exchange.is_answering() || after.1 {
                exchange.seat.set(Phase::Incomplete);
            }
            self.reading.set(if after.1 {
                self.times.body
            } else {
                Some(self.times.head)
            });
        }
    }

    fn give_poison(&mut self, buf: &mut ReadBuf<'_>) {
        let rest = self.poison.unwrap_or_default();
        let (now, later) = rest.split_at(rest.len().min(buf.remaining()));
        buf.put_slice(now);
        self.poison = Some(later).filter(|later| !later.is_empty());
        self.is_ended = self.poison.is_none();
    }
}

/// Gives the place back while the socket is open, although others may still hold the exchange.
/// After the close its number may belong to another file.
impl Drop for Watched {
    fn drop(&mut self) {
        self.exchange.seat.leave();
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.notice_left(cx);
        if this.is_ended {
            return Poll::Ready(Ok(()));
        }
        let from = buf.filled().len();
        while this.poison.is_none() && buf.filled().len() == from {
            // A client that takes no answers may ask no more, because the answers would pile up.
            if this.exchange.left.get() == Some(0) || this.writing.at.is_some() {
                return this.wait(cx);
            }
            match Pin::new(&mut this.stream).poll_read(cx, buf) {
                Poll::Pending => return this.wait(cx),
                Poll::Ready(read) => read?,
            }
            if buf.filled().len() == from {
                this.exchange.is_ended.set(true);
                return Poll::Ready(Ok(()));
            }
            this.note(buf, from);
        }
        if this.poison.is_some() {
            this.give_poison(buf);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        if written.is_ready() {
            if this.writing.at.is_some() {
                this.writing = Deadline::default();
                // Reading was put off while the write was blocked, so look whether something came.
                cx.waker().wake_by_ref();
            }
            return written;
        }
        if this.writing.at.is_none() {
            this.writing.set(Some(this.times.stalled));
        }
        if this.writing.is_over(cx) {
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        } else {
            Poll::Pending
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        this.notice_left(cx);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::{super::connections::Connections, *};

    const BUFFER: usize = 4096;

    async fn pair(times: Times) -> (Watched, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let seat = Connections::new(1, 0)
            .enter(stream.as_raw_fd(), peer.ip())
            .unwrap();
        (Watched::new(stream, seat, times), far)
    }

    const TIMES: Times = Times {
        head: Duration::from_secs(30),
        body: None,
        stalled: Duration::from_millis(100),
    };

    #[tokio::test]
    async fn after_an_early_answer_a_few_kilobytes_are_read_and_no_more() {
        let (mut watched, mut far) = pair(TIMES).await;
        far.write_all(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n")
            .await
            .unwrap();
        let mut buffer = [0; BUFFER];
        assert!(watched.read(&mut buffer).await.unwrap() > 0);
        let exchange = watched.exchange();
        exchange.take();
        assert!(exchange.answer());
        let endless =
            tokio::spawn(async move { while far.write_all(&[b'x'; 1 << 16]).await.is_ok() {} });
        let began = Instant::now();
        let mut bytes = 0;
        loop {
            match watched.read(&mut buffer).await.unwrap() {
                0 => break,
                more => bytes += more,
            }
        }
        assert!((LEFT_MAX..LEFT_MAX + BUFFER).contains(&bytes), "{bytes}");
        assert!(
            began.elapsed() >= LEFT_FOR,
            "so long the answer may be read"
        );
        drop(watched);
        endless.await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_after_the_whole_request_ends_nothing() {
        let (mut watched, mut far) = pair(TIMES).await;
        far.write_all(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nxPOST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nx").await.unwrap();
        assert!(watched.read(&mut [0; BUFFER]).await.unwrap() > 0);
        let exchange = watched.exchange();
        exchange.take();
        assert!(!exchange.answer(), "what has begun is the next");
        exchange.take();
        assert!(exchange.answer());
    }

    #[tokio::test]
    async fn who_takes_nothing_has_gone() {
        let (mut watched, _far) = pair(TIMES).await;
        let error = async {
            loop {
                if let Err(error) = watched.write_all(&[0; 1 << 16]).await {
                    return error;
                }
            }
        };
        assert_eq!(error.await.kind(), io::ErrorKind::TimedOut);
    }
}
