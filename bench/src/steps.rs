//! The ledger's load: connections that claim and complete new steps, or claim steps that have
//! ended, in a closed loop on a thread of their own.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use tokio::net::TcpStream;

use crate::{
    Bench,
    hookonce::{Hookonce, TOKEN},
    load::{exchange, histogram},
    postgres,
    processor::{self, Party, Snapshot},
    round::{Latency, Sample, next_run},
};

const WARM_UP: Duration = Duration::from_millis(400);
/// As an agent's plan may have.
const STEPS_A_RUN: usize = 20;

#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// A new step is claimed, then completed.
    Pairs,
    /// So many steps of this set, which have ended, are claimed over and over.
    Ended { set: u64, count: usize },
}

/// One side: a hookonce whose ledger is called.
#[derive(Clone)]
pub struct Steps {
    pub address: SocketAddr,
    pub pid: i32,
    /// Emptied before each round of new steps.
    pub database: String,
    pub connections: usize,
    pub work: Work,
}

impl Steps {
    pub fn of(hookonce: &Hookonce, database: &str, connections: usize, work: Work) -> Self {
        Self {
            address: hookonce.admin,
            pid: hookonce.pid(),
            database: database.to_owned(),
            connections,
            work,
        }
    }

    pub async fn measure(&self, bench: &Bench, window: Duration) -> anyhow::Result<Sample> {
        let client = bench.postgres.connect(&self.database).await?;
        if matches!(self.work, Work::Pairs) {
            postgres::empty(&client).await?;
        }
        let parties = bench.parties(&[Party {
            name: "server",
            pid: self.pid,
        }]);
        let set = next_run();
        let running = Running::start(self, set, None)?;
        tokio::time::sleep(WARM_UP).await;
        processor::reset_peak_memory(self.pid);
        let (wal_before, before, count) = (
            postgres::wal_bytes(&client).await?,
            Snapshot::take(&parties),
            running.count(),
        );
        running.shared.measuring.store(true, Ordering::Relaxed);
        tokio::time::sleep(window).await;
        running.shared.measuring.store(false, Ordering::Relaxed);
        let (after, events) = (Snapshot::take(&parties), running.count() - count);
        let wal = postgres::wal_bytes(&client).await? - wal_before;
        let memory_bytes = processor::peak_memory(self.pid);
        let latencies = running.stop().await?;
        ensure!(events > 0, "no step was answered");
        let used = before.until(&after);
        let interval = (used.seconds * 1e6 * self.connections as f64 / events as f64) as u64;
        let sample = Sample::of_rate(
            events as f64 / used.seconds,
            &used,
            Latency::of(&latencies, interval),
        );
        Ok(Sample {
            events,
            memory_bytes,
            wal_bytes: wal as f64 / events as f64,
            ..sample
        })
    }
}

/// Claims and completes so many steps, and gives their set.
pub async fn finish(hookonce: &Hookonce, database: &str, count: usize) -> anyhow::Result<u64> {
    let set = next_run();
    let running = Running::start(
        &Steps::of(hookonce, database, 16, Work::Pairs),
        set,
        Some(count),
    )?;
    running.join().await?;
    Ok(set)
}

#[derive(Default)]
struct Shared {
    count: AtomicU64,
    measuring: AtomicBool,
    stop: AtomicBool,
}

struct Running {
    shared: Arc<Shared>,
    thread: JoinHandle<anyhow::Result<Histogram<u64>>>,
}

impl Running {
    /// `most`: ends by itself after so many.
    fn start(steps: &Steps, set: u64, most: Option<usize>) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (steps, theirs) = (steps.clone(), shared.clone());
        let thread = std::thread::Builder::new()
            .name("steps".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                tokio::task::LocalSet::new().block_on(
                    &runtime,
                    run(steps, theirs, set, most.unwrap_or(usize::MAX)),
                )
            })?;
        Ok(Self { shared, thread })
    }

    fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }

    async fn stop(self) -> anyhow::Result<Histogram<u64>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.join().await
    }

    async fn join(self) -> anyhow::Result<Histogram<u64>> {
        tokio::task::spawn_blocking(move || self.thread.join())
            .await?
            .map_err(|_| anyhow::anyhow!("the load's thread panicked"))?
    }
}

/// What the connections of one load share; all are on one thread.
struct Driver {
    steps: Steps,
    shared: Arc<Shared>,
    set: u64,
    most: usize,
    next: Cell<usize>,
    latencies: RefCell<Histogram<u64>>,
}

async fn run(
    steps: Steps,
    shared: Arc<Shared>,
    set: u64,
    most: usize,
) -> anyhow::Result<Histogram<u64>> {
    let connections = steps.connections;
    let driver = Rc::new(Driver {
        steps,
        shared,
        set,
        most,
        next: Cell::new(0),
        latencies: RefCell::new(histogram()),
    });
    let tasks: Vec<_> = (0..connections)
        .map(|_| tokio::task::spawn_local(driver.clone().connection()))
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(driver.latencies.replace(histogram()))
}

impl Driver {
    async fn connection(self: Rc<Self>) -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(self.steps.address)
            .await
            .context("can't connect to the ledger")?;
        stream.set_nodelay(true)?;
        let mut answer = Vec::new();
        while !self.shared.stop.load(Ordering::Relaxed) {
            let number = self.next.get();
            if number >= self.most {
                break;
            }
            self.next.set(number + 1);
            let begin = Instant::now();
            match self.steps.work {
                Work::Pairs => {
                    self.call(&mut stream, &mut answer, &self.claim(self.set, number), 201)
                        .await?;
                    self.call(
                        &mut stream,
                        &mut answer,
                        &self.complete(self.set, number),
                        200,
                    )
                    .await?;
                }
                Work::Ended { set, count } => {
                    self.call(
                        &mut stream,
                        &mut answer,
                        &self.claim(set, number % count),
                        200,
                    )
                    .await?
                }
            }
            self.shared.count.fetch_add(1, Ordering::Relaxed);
            if self.shared.measuring.load(Ordering::Relaxed) {
                let micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.latencies.borrow_mut().saturating_record(micros.max(1));
            }
        }
        Ok(())
    }

    /// A round with another answer is no measurement.
    async fn call(
        &self,
        stream: &mut TcpStream,
        answer: &mut Vec<u8>,
        request: &str,
        expected: u16,
    ) -> anyhow::Result<()> {
        let said = exchange(stream, request.as_bytes(), answer).await?;
        ensure!(
            said.status == expected,
            "{expected} was expected: {} {}",
            said.status,
            String::from_utf8_lossy(said.body)
        );
        Ok(())
    }

    fn claim(&self, set: u64, number: usize) -> String {
        self.request(
            set,
            number,
            "claim",
            &format!(r#"{{"claim_id":"{set:x}-{number}","owner":"bench","lease_ms":30000,"on_lost":"hold"}}"#),
        )
    }

    fn complete(&self, set: u64, number: usize) -> String {
        self.request(
            set,
            number,
            "complete",
            &format!(
                r#"{{"fence":1,"result":{{"id":"ch_{set:x}{number:012}","status":"succeeded"}}}}"#
            ),
        )
    }

    fn request(&self, set: u64, number: usize, action: &str, body: &str) -> String {
        let (host, run, length) = (self.steps.address, number / STEPS_A_RUN, body.len());
        format!(
            "POST /v1/runs/run-{set:x}-{run}/steps/step-{number}/{action} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {TOKEN}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    }
}
