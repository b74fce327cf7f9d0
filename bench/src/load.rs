//! The client: keep-alive HTTP/1.1 connections on one thread of its own, closed loop or at a fixed
//! rate.
//!
//! At a fixed rate each request has a time at which it should go; its latency counts from then,
//! whether a connection was free or not, so a server that stalls can't hide it (coordinated
//! omission).

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use nix::sys::{time::TimeSpec, timerfd};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, unix::AsyncFd},
    net::TcpStream,
    sync::Notify,
};

use crate::{events::Events, times::Times};

/// No answer within this is an error.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// A connection that failed so often in a row gives up.
const FAILURES_MAX: u32 = 20;

#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Each connection sends as soon as it was answered.
    Closed,
    /// So many requests a second, whatever the answers.
    Open(f64),
}

/// Which numbers are sent.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// From this one on, each once.
    From(usize),
    /// From 0, each once, up to this one; then the load ends by itself.
    Once(usize),
    /// These over and over.
    Among(usize),
}

#[derive(Clone)]
pub struct Load {
    pub address: SocketAddr,
    pub connections: usize,
    pub events: Arc<Events>,
    pub pace: Pace,
    pub order: Order,
    /// When each event was answered.
    pub answered: Option<Arc<Times>>,
}

/// What the answers said.
#[derive(Default)]
pub struct Counts {
    pub accepted: AtomicU64,
    pub duplicate: AtomicU64,
    pub conflict: AtomicU64,
    /// 4xx.
    pub refused: AtomicU64,
    /// 5xx, no answer, or a broken connection.
    pub failed: AtomicU64,
}

impl Counts {
    pub fn all(&self) -> [u64; 5] {
        [
            &self.accepted,
            &self.duplicate,
            &self.conflict,
            &self.refused,
            &self.failed,
        ]
        .map(|count| count.load(Ordering::Relaxed))
    }
}

#[derive(Default)]
struct Shared {
    counts: Counts,
    measuring: AtomicBool,
    stop: AtomicBool,
}

/// A load under way.
pub struct Running {
    shared: Arc<Shared>,
    thread: std::thread::JoinHandle<anyhow::Result<Histogram<u64>>>,
}

impl Running {
    pub fn counts(&self) -> [u64; 5] {
        self.shared.counts.all()
    }

    /// Whether latencies are recorded from now on.
    pub fn measure(&self, on: bool) {
        self.shared.measuring.store(on, Ordering::Relaxed);
    }

    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends the load after the answers to come, and gives the latencies (µs).
    pub async fn stop(self) -> anyhow::Result<Histogram<u64>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.join().await
    }

    /// Waits for a load that ends by itself.
    pub async fn join(self) -> anyhow::Result<Histogram<u64>> {
        tokio::task::spawn_blocking(move || self.thread.join())
            .await?
            .map_err(|_| anyhow::anyhow!("the load's thread panicked"))?
    }
}

pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 120_000_000, 3).expect("the bounds are valid")
}

impl Load {
    pub fn start(self) -> anyhow::Result<Running> {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("load".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                tokio::task::LocalSet::new().block_on(&runtime, self.run(theirs))
            })?;
        Ok(Running { shared, thread })
    }

    async fn run(self, shared: Arc<Shared>) -> anyhow::Result<Histogram<u64>> {
        let mut streams = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            streams.push(
                connect(self.address)
                    .await
                    .with_context(|| format!("can't connect to {}", self.address))?,
            );
        }
        let driver = Rc::new(Driver {
            shared,
            next: Cell::new(match self.order {
                Order::From(first) => first,
                _ => 0,
            }),
            sent: Cell::new(0),
            latencies: RefCell::new(histogram()),
            alarm: Alarm::new()?,
            begin: Instant::now(),
            load: self,
        });
        let ticking = matches!(driver.load.pace, Pace::Open(_))
            .then(|| tokio::task::spawn_local(Driver::tick(driver.clone())));
        let tasks: Vec<_> = streams
            .into_iter()
            .map(|stream| tokio::task::spawn_local(Driver::connection(driver.clone(), stream)))
            .collect();
        for task in tasks {
            task.await??;
        }
        if let Some(ticking) = ticking {
            ticking.abort();
        }
        Ok(driver.latencies.replace(histogram()))
    }
}

/// Sends each of the first `count` once; an error where one is not accepted.
pub async fn send_each(
    address: SocketAddr,
    events: &Arc<Events>,
    count: usize,
) -> anyhow::Result<()> {
    let load = Load {
        address,
        connections: 16,
        events: events.clone(),
        pace: Pace::Closed,
        order: Order::Once(count),
        answered: None,
    };
    let running = load.start()?;
    while !running.is_finished() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let [accepted, rest @ ..] = running.counts();
    running.join().await?;
    anyhow::ensure!(
        accepted == count as u64,
        "of {count} requests {accepted} were accepted, others {rest:?}"
    );
    Ok(())
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What the connections of one load share; all are on one thread.
struct Driver {
    load: Load,
    shared: Arc<Shared>,
    next: Cell<usize>,
    sent: Cell<u64>,
    latencies: RefCell<Histogram<u64>>,
    alarm: Alarm,
    begin: Instant,
}

impl Driver {
    async fn connection(self: Rc<Self>, mut stream: TcpStream) -> anyhow::Result<()> {
        let (mut request, mut answer) = (Vec::new(), Vec::with_capacity(4096));
        let mut failures = 0;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let Some(number) = self.take_number() else {
                break;
            };
            self.load.events.write(number, &mut request);
            let due = self.wait_for_turn().await;
            let exchanged =
                tokio::time::timeout(ANSWER_WITHIN, exchange(&mut stream, &request, &mut answer))
                    .await;
            match exchanged.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(answered) => {
                    failures = 0;
                    self.record(number, due, &answered);
                    if answered.last {
                        stream = connect(self.load.address).await?;
                    }
                }
                Err(error) => {
                    self.shared.counts.failed.fetch_add(1, Ordering::Relaxed);
                    failures += 1;
                    if failures >= FAILURES_MAX {
                        return Err(error)
                            .context("a connection of the load failed again and again");
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    if let Ok(fresh) = connect(self.load.address).await {
                        stream = fresh;
                    }
                }
            }
        }
        Ok(())
    }

    fn take_number(&self) -> Option<usize> {
        let number = self.next.get();
        self.next.set(number + 1);
        match self.load.order {
            Order::From(_) => Some(number),
            Order::Once(end) => (number < end).then_some(number),
            Order::Among(count) => Some(number % count),
        }
    }

    /// When this request counts as sent.
    async fn wait_for_turn(&self) -> Instant {
        let Pace::Open(per_second) = self.load.pace else {
            return Instant::now();
        };
        let turn = self.sent.get();
        self.sent.set(turn + 1);
        let due = self.begin + Duration::from_secs_f64(turn as f64 / per_second);
        if due > Instant::now() {
            self.alarm.wait(due).await;
        }
        due
    }

    /// Wakes whose turn it is.
    async fn tick(self: Rc<Self>) {
        while self.alarm.ring().await.is_ok() {}
    }

    fn record(&self, number: usize, due: Instant, answer: &Answer<'_>) {
        let now = Instant::now();
        let counts = &self.shared.counts;
        let counter = match answer.status {
            200..=299 if memchr::memmem::find(answer.body, br#""duplicate""#).is_some() => {
                &counts.duplicate
            }
            200..=299 if memchr::memmem::find(answer.body, br#""conflict""#).is_some() => {
                &counts.conflict
            }
            200..=299 => &counts.accepted,
            400..=499 => &counts.refused,
            _ => &counts.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(times) = &self.load.answered {
            times.set(number, now);
        }
        if self.shared.measuring.load(Ordering::Relaxed) {
            let micros = u64::try_from(now.duration_since(due).as_micros()).unwrap_or(u64::MAX);
            self.latencies.borrow_mut().saturating_record(micros.max(1));
        }
    }
}

/// The kernel's timer as tokio wants it.
struct Timer(timerfd::TimerFd);

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Wakes tasks at exact times: a runtime's own timers are a millisecond coarse. Times are asked for
/// in ascending order.
struct Alarm {
    timer: AsyncFd<Timer>,
    waiting: RefCell<VecDeque<(Instant, Rc<Notify>)>>,
    changed: Notify,
}

impl Alarm {
    fn new() -> anyhow::Result<Self> {
        let flags = timerfd::TimerFlags::TFD_NONBLOCK | timerfd::TimerFlags::TFD_CLOEXEC;
        let timer = timerfd::TimerFd::new(timerfd::ClockId::CLOCK_MONOTONIC, flags)?;
        // SAFETY: the timer owns its descriptor, which stays the same and open until the AsyncFd
        // drops it.
        let timer = unsafe { AsyncFd::register(Timer(timer))? };
        Ok(Self {
            timer,
            waiting: RefCell::default(),
            changed: Notify::new(),
        })
    }

    async fn wait(&self, due: Instant) {
        let wake = Rc::new(Notify::new());
        let first = {
            let mut waiting = self.waiting.borrow_mut();
            waiting.push_back((due, wake.clone()));
            waiting.len() == 1
        };
        if first {
            self.changed.notify_one();
        }
        wake.notified().await;
    }

    /// Waits for the next time and wakes all that are due.
    async fn ring(&self) -> io::Result<()> {
        let next = self.waiting.borrow().front().map(|(due, _)| *due);
        let Some(next) = next else {
            self.changed.notified().await;
            return Ok(());
        };
        let left = next
            .saturating_duration_since(Instant::now())
            .max(Duration::from_nanos(1));
        self.timer.get_ref().0.set(
            timerfd::Expiration::OneShot(TimeSpec::from_duration(left)),
            timerfd::TimerSetTimeFlags::empty(),
        )?;
        let mut guard = self.timer.readable().await?;
        let _ = self.timer.get_ref().0.wait();
        guard.clear_ready();
        let now = Instant::now();
        let mut waiting = self.waiting.borrow_mut();
        while waiting.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, wake)) = waiting.pop_front() {
                wake.notify_one();
            }
        }
        Ok(())
    }
}

pub struct Answer<'a> {
    pub status: u16,
    pub body: &'a [u8],
    /// The server ends the connection.
    pub last: bool,
}

/// Sends a request and reads the whole answer.
pub async fn exchange<'a>(
    stream: &mut TcpStream,
    request: &[u8],
    answer: &'a mut Vec<u8>,
) -> io::Result<Answer<'a>> {
    stream.write_all(request).await?;
    answer.clear();
    loop {
        if stream.read_buf(answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some((status, body)) = whole(answer) {
            let last = header(&answer[..body], b"connection:")
                .is_some_and(|value| value.trim().eq_ignore_ascii_case("close"));
            return Ok(Answer {
                status,
                body: &answer[body..],
                last,
            });
        }
    }
}

/// The status and where the body begins, once all of the answer is there.
fn whole(answer: &[u8]) -> Option<(u16, usize)> {
    let body = memchr::memmem::find(answer, b"\r\n\r\n")? + 4;
    let head = &answer[..body];
    let status = std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()?;
    let complete = match header(head, b"content-length:") {
        Some(length) => answer.len() >= body + length.trim().parse::<usize>().ok()?,
        None if header(head, b"transfer-encoding:").is_some() => answer.ends_with(b"0\r\n\r\n"),
        None => true,
    };
    complete.then_some((status, body))
}

fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let line = head
        .split(|byte| *byte == b'\n')
        .find(|line| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name))?;
    std::str::from_utf8(&line[name.len()..]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_all_of_its_body_is_there() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(whole(text), Some((200, text.len() - 2)));
        assert_eq!(whole(&text[..text.len() - 1]), None);
        assert_eq!(whole(&text[..20]), None);
        assert!(
            whole(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n").is_none()
        );
        assert!(
            whole(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
                .is_some()
        );
    }
}
