//! Genuine events among unsigned bodies that hardly come, or stop a little short of their end.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::{
    Bench,
    events::Provider,
    hookonce::Options,
    load::Pace,
    report::{Bound, Case, Series},
    round::{Http, Sample},
    side::undisturbed,
};

const DATABASE: &str = "stalled";
const RATE: f64 = 1_000.0;
const CONNECTIONS: usize = 64;
const SLOW: usize = 5_000;
const LARGE: usize = 3;
/// A little less than what bodies may take together.
const LARGE_BYTES: usize = 21 << 20;
/// The large ones share a line of 1 Gbit/s. At loopback's speed they fill both processors while
/// they come, and the figure is the scheduler's.
const LINE_PIECE: usize = 128 << 10;
const LINE_EVERY: Duration = Duration::from_millis(LARGE as u64);
const PIECE: [u8; 100] = [b'x'; 100];
const PIECE_EVERY: Duration = Duration::from_secs(1);
/// The time after which a slow body is given up.
const SPREAD: Duration = Duration::from_secs(5);
const READY_WITHIN: Duration = Duration::from_secs(30);

pub async fn run(bench: &Bench) -> anyhow::Result<Case> {
    let mut case = Case::new(
        "Among stalled bodies",
        &format!(
            "{RATE} events a second of 2 KiB, alone and among {SLOW} connections whose bodies bring 100 bytes a second, and {LARGE} that have sent \
             21 MiB, together at 1 Gbit/s, and stop; whoever is given up comes again, after 1 s and after 5 s. Client and attacker run on the same processors."
        ),
    );
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    bench
        .hookonce
        .create_database(&bench.postgres, DATABASE)
        .await?;
    let hookonce = bench
        .hookonce
        .start(&bench.postgres, &Options::paused(DATABASE))
        .await?;
    let events = Http {
        pace: Pace::Open(RATE),
        ..Http::new_events(
            &hookonce,
            Some(DATABASE),
            (Provider::Stripe, 2048),
            CONNECTIONS,
        )
    };
    let window = 8 * bench.window();
    let mut series = ["alone", "among stalled bodies"].map(Series::new);
    for _ in 0..bench.rounds() {
        let [alone, among] = &mut series;
        alone.samples.push(
            undisturbed(bench, &alone.name, async || {
                events.measure(bench, window).await
            })
            .await?,
        );
        let attack = Attack::start(hookonce.address).await?;
        among.samples.push(
            undisturbed(bench, &among.name, async || {
                events.measure(bench, window).await
            })
            .await?,
        );
        attack.stop()?;
    }
    hookonce.stop().await;
    let [alone, among] = &series;
    let failed = |sample: &Sample| sample.failed as f64;
    case.figure(
        "ack p99 among stalled bodies ÷ alone",
        "",
        among.ratios(alone, |sample| sample.latency.p99 as f64),
        Bound::AtMost {
            floor: 2.0,
            goal: 1.5,
        },
    );
    case.figure(
        "not answered among stalled bodies",
        "",
        among.values(failed),
        Bound::AtMost {
            floor: 0.0,
            goal: 0.0,
        },
    );
    case.series = series.into();
    Ok(case)
}

/// Those who send them, on a thread of their own.
struct Attack {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<std::io::Result<()>>,
}

impl Attack {
    /// Returns once all of them are there.
    async fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let (stop, open) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (theirs, opened) = (stop.clone(), open.clone());
        let thread = std::thread::Builder::new()
            .name("attack".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                let large: Rc<[u8]> = vec![b'x'; LARGE_BYTES].into();
                let all = (0..SLOW + LARGE).map(|number| {
                    let (large, opened) = (large.clone(), opened.clone());
                    tokio::task::spawn_local(async move {
                        let begin = if number < LARGE { &large[..] } else { &PIECE };
                        // Of several addresses, as one may have half of the connections.
                        let from = SocketAddr::from(([127, 0, 1, 1 + (number % 4) as u8], 0));
                        let mut is_first = true;
                        // As they would be after a while: each is given up and comes again at
                        // another moment.
                        tokio::time::sleep(SPREAD.mul_f64(number as f64 / (SLOW + LARGE) as f64))
                            .await;
                        loop {
                            let ended = stall(address, from, begin, || {
                                if std::mem::take(&mut is_first) {
                                    opened.fetch_add(1, Ordering::Relaxed);
                                }
                            });
                            let _ = ended.await;
                            tokio::time::sleep(if number < LARGE { SPREAD } else { PIECE_EVERY })
                                .await;
                        }
                    })
                });
                let tasks = tokio::task::LocalSet::new();
                tasks.block_on(&runtime, async {
                    let all: Vec<_> = all.collect();
                    while !theirs.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    drop(all);
                });
                Ok(())
            })?;
        let began = Instant::now();
        while open.load(Ordering::Relaxed) < SLOW + LARGE {
            anyhow::ensure!(
                began.elapsed() < READY_WITHIN,
                "{} of the stalled bodies were begun",
                open.load(Ordering::Relaxed)
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { stop, thread })
    }

    fn stop(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self
            .thread
            .join()
            .map_err(|_| anyhow::anyhow!("the attack's thread panicked"))??)
    }
}

/// One body, until it is given up.
async fn stall(
    address: SocketAddr,
    from: SocketAddr,
    begin: &[u8],
    mut is_begun: impl FnMut(),
) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(from)?;
    let mut stream: TcpStream = socket.connect(address).await?;
    let length = begin.len() + (16 << 10);
    let head = format!(
        "POST /hooks/stripe HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    for piece in begin.chunks(LINE_PIECE) {
        stream.write_all(piece).await?;
        if piece.len() == LINE_PIECE {
            tokio::time::sleep(LINE_EVERY).await;
        }
    }
    is_begun();
    let (mut reader, mut writer) = stream.split();
    let answered = async {
        let _ = reader.read(&mut [0; 512]).await;
    };
    let trickle = async {
        loop {
            tokio::time::sleep(PIECE_EVERY).await;
            if writer.write_all(&PIECE).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = answered => {}
        () = trickle => {}
    }
    Ok(())
}
