//! Requests that write nothing: duplicates and refusals, against a bare handler that reads,
//! verifies and answers.

use std::{process::Command, sync::Arc, time::Duration};

use nix::sys::signal::Signal;

use crate::{
    Bench,
    child::Running,
    events::{Events, Provider, Recipe},
    hookonce::{Options, free_port},
    load::Pace,
    pgbench,
    report::{Bound, Case, Series},
    round::{Expect, Http, Requests, Sample, SingleRow, fresh, measure_all, next_run},
    side::{Side, interleave, undisturbed},
};

const DATABASE: &str = "repeats";
const NEW_DATABASE: &str = "repeats_new";
const COLD_DATABASE: &str = "repeats_cold";
const SINGLE_ROW: &str = "repeats_single_row";
const HOT: usize = 1_000;
const COLD: usize = 100_000;
const COLD_QUICK: usize = 30_000;
const CONNECTIONS: usize = 64;

/// The bare handler's process.
struct Bare {
    running: Running,
    address: std::net::SocketAddr,
}

impl Bare {
    async fn start(bench: &Bench) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bare-handler", "--port", &port.to_string()]);
        let running = Running::start(
            command,
            "the bare handler",
            Signal::SIGTERM,
            &bench.folder.join("bare.log"),
        )?;
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return Ok(Self { running, address });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("the bare handler did not get ready")
    }
}

fn recipe(source: &'static str, spoiled: bool) -> Recipe<'static> {
    Recipe {
        provider: Provider::Stripe,
        size: 2048,
        source,
        run: next_run(),
        signed: HOT,
        spoiled,
    }
}

pub async fn run(bench: &Bench) -> anyhow::Result<Case> {
    let mut case = Case::new(
        "Hot duplicates and refusals",
        "64 connections, Stripe's events of 2 KiB. Hot: 1,000 keys over and over, known in memory. The bare handler is an actix-web handler in a \
         process of its own that reads the body, verifies the signature and answers. First seen: another hookonce.",
    );
    bench
        .hookonce
        .create_database(&bench.postgres, DATABASE)
        .await?;
    let hookonce = bench
        .hookonce
        .start(&bench.postgres, &Options::paused(DATABASE))
        .await?;
    bench
        .hookonce
        .create_database(&bench.postgres, NEW_DATABASE)
        .await?;
    let new = bench
        .hookonce
        .start(&bench.postgres, &Options::paused(NEW_DATABASE))
        .await?;
    let bare = Bare::start(bench).await?;
    // Short rounds that differ by the processor's clock: more of them.
    let rounds = bench.rounds() * 6 / 5;
    let hot = fresh(Provider::Stripe, 2048, HOT);
    let client = bench.postgres.connect(DATABASE).await?;
    measure_all(bench, &hookonce, &client, &hot, HOT, Expect::Accepted).await?;
    let side = |address, pid, events: Arc<Events>, expect| Http {
        address,
        pids: vec![pid],
        database: None,
        connections: CONNECTIONS,
        pace: Pace::Closed,
        requests: Requests::Fixed(events, HOT),
        expect,
    };
    let (address, pid) = (hookonce.address, hookonce.pid());
    let sides = [
        Side::http(
            "hot duplicates",
            side(address, pid, hot.clone(), Expect::Duplicate),
        ),
        Side::http(
            "bare handler",
            side(bare.address, bare.running.pid(), hot, Expect::Accepted),
        ),
        Side::http(
            "bad signature",
            side(
                address,
                pid,
                Arc::new(Events::new(&recipe("stripe", true))),
                Expect::Refused,
            ),
        ),
        Side::http(
            "unknown source",
            side(
                address,
                pid,
                Arc::new(Events::new(&recipe("nobody", false))),
                Expect::Refused,
            ),
        ),
        Side::http(
            "first seen",
            Http::new_events(
                &new,
                Some(NEW_DATABASE),
                (Provider::Stripe, 2048),
                CONNECTIONS,
            ),
        ),
    ];
    case.series = interleave(bench, &sides, rounds, bench.short_window()).await?;
    if let [hot, bare, bad, unknown, new] = &case.series[..] {
        let ratios = |series: &Series| series.ratios(bare, |sample| sample.per_second);
        let to_new = |series: &Series| series.ratios(new, |sample| sample.per_second);
        let (bad_to_new, unknown_to_new) = (to_new(bad), to_new(unknown));
        let (hot, bad, unknown) = (ratios(hot), ratios(bad), ratios(unknown));
        let own = bare.values(|sample| sample.server_us);
        case.figure(
            "hot duplicates/s ÷ bare handler",
            "",
            hot,
            Bound::AtLeast {
                floor: 0.8,
                goal: 0.95,
            },
        );
        case.figure(
            "refused/s (bad signature) ÷ bare handler",
            "",
            bad,
            Bound::AtLeast {
                floor: 0.8,
                goal: 1.0,
            },
        );
        case.figure(
            "refused/s (unknown source) ÷ bare handler",
            "",
            unknown,
            Bound::AtLeast {
                floor: 0.8,
                goal: 1.0,
            },
        );
        case.figure(
            "refused/s (bad signature) ÷ first-seen/s",
            "",
            bad_to_new,
            Bound::None,
        );
        case.figure(
            "refused/s (unknown source) ÷ first-seen/s",
            "",
            unknown_to_new,
            Bound::None,
        );
        case.figure("the bare handler's CPU a request", "µs", own, Bound::None);
    }
    drop(bare.running);
    hookonce.stop().await;
    new.stop().await;
    Ok(case)
}

/// Keys that are in the database and not in memory: hookonce is started anew before each round.
pub async fn run_cold(bench: &Bench) -> anyhow::Result<Case> {
    let count = if bench.quick { COLD_QUICK } else { COLD };
    let mut case = Case::new(
        "Cold duplicates",
        &format!(
            "{count} keys, each sent once more to a hookonce that was started anew, at 64 connections, against new events. pgbench and Express know as many, \
             Restate those that it took in a while; they get some of them again."
        ),
    );
    bench
        .hookonce
        .create_database(&bench.postgres, COLD_DATABASE)
        .await?;
    bench
        .hookonce
        .create_database(&bench.postgres, DATABASE)
        .await?;
    let hookonce = bench
        .hookonce
        .start(&bench.postgres, &Options::paused(DATABASE))
        .await?;
    let new = Http::new_events(
        &hookonce,
        Some(DATABASE),
        (Provider::Stripe, 2048),
        CONNECTIONS,
    );
    let events = fresh(Provider::Stripe, 2048, count);
    let client = bench.postgres.connect(COLD_DATABASE).await?;
    let send_all = async |expect| {
        let anew = bench
            .hookonce
            .start(&bench.postgres, &Options::paused(COLD_DATABASE))
            .await?;
        let sample = measure_all(bench, &anew, &client, &events, count, expect).await?;
        anew.stop().await;
        anyhow::Ok(sample)
    };
    send_all(Expect::Accepted).await?;
    let with_pgbench = pgbench::is_installed(&bench.postgres);
    if with_pgbench {
        bench
            .hookonce
            .create_database(&bench.postgres, SINGLE_ROW)
            .await?;
    }
    let single_row = SingleRow {
        database: SINGLE_ROW,
        connections: CONNECTIONS,
        size: 2048,
        known: Some(count),
    };
    let (peers, peer_sides) = super::peers::knowing(bench, count).await;
    let mut of_peers: Vec<Series> = peer_sides
        .iter()
        .map(|side| Series::new(&side.name))
        .collect();
    let mut series = ["first seen", "cold duplicates", "pgbench, duplicates"].map(Series::new);
    for _ in 0..bench.rounds() {
        let [seen, cold, single] = &mut series;
        seen.samples.push(
            undisturbed(bench, &seen.name, async || {
                new.measure(bench, bench.short_window()).await
            })
            .await?,
        );
        cold.samples.push(
            undisturbed(bench, &cold.name, async || {
                send_all(Expect::Duplicate).await
            })
            .await?,
        );
        if with_pgbench {
            let measure = async || single_row.measure(bench, bench.short_window()).await;
            single
                .samples
                .push(undisturbed(bench, &single.name, measure).await?);
        }
        for (side, series) in peer_sides.iter().zip(&mut of_peers) {
            series.samples.push(
                undisturbed(bench, &side.name, async || {
                    side.once(bench, bench.short_window()).await
                })
                .await?,
            );
        }
    }
    drop(peers);
    hookonce.stop().await;
    let [new, cold, single] = &series;
    let rate = |sample: &Sample| sample.per_second;
    case.figure(
        "cold duplicates/s ÷ first-seen/s at 64",
        "",
        cold.ratios(new, rate),
        Bound::AtLeast {
            floor: 1.7,
            goal: 2.5,
        },
    );
    for other in std::iter::once(single)
        .chain(&of_peers)
        .filter(|series| !series.samples.is_empty())
    {
        case.figure(
            &format!("cold duplicates/s ÷ {}", other.name),
            "",
            cold.ratios(other, rate),
            Bound::None,
        );
    }
    case.series = series
        .into_iter()
        .chain(of_peers)
        .filter(|series| !series.samples.is_empty())
        .collect();
    Ok(case)
}
