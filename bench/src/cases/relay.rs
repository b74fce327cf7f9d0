//! From the provider's request to the handler: sustained, with a backlog, with a hung neighbour,
//! under a long reader.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;

use crate::{
    Bench,
    flow::{Flow, Meter, Stretch, relaying},
    handler::{Behaviour, Handler},
    hookonce::{Hookonce, Options, Relay, free_port},
    load::{Order, Pace},
    processor,
    report::{Bound, Case, Series},
    round::{Latency, Sample},
    times::Keep,
};

const CONNECTIONS: usize = 64;
/// As many as it takes to keep both cores busy.
const SUSTAINING: usize = 256;
const WARM_UP: Duration = Duration::from_secs(1);
/// The numbers of the events that only probe latency begin here.
const PROBES: usize = 200_000;
/// Events a second under a reader.
const SNAPSHOT_RATE: f64 = 2_000.0;
const SETTLE: Duration = Duration::from_secs(30);
/// The numbers of the events that are relayed after a drain begin here.
const SUSTAINED: usize = 400_000;
const SUSTAINED_MAX: usize = 200_000;
/// Numbers for one probe.
const PROBE_MAX: usize = 10_000;
/// Acknowledgements a second while a backlog is probed.
const PROBE_RATE: f64 = 1_000.0;
const PROBE: Duration = Duration::from_millis(1500);

/// A stretch as a row of the report.
fn sample(stretch: &Stretch, used: &crate::processor::Used, relayed: bool) -> Sample {
    let rate = if relayed {
        stretch.relayed_per_second
    } else {
        stretch.acks_per_second
    };
    Sample::of_rate(rate, used, stretch.relay.clone())
}

/// What was relayed in one go.
struct Relayed {
    all: Stretch,
    thirds: Vec<Stretch>,
    sample: Sample,
    /// New events a second without delivery.
    first_seen: f64,
    again: u64,
}

impl Relayed {
    fn to_first_seen(&self) -> f64 {
        self.all.relayed_per_second / self.first_seen
    }
}

pub async fn run(bench: &Bench) -> anyhow::Result<Case> {
    let (seconds, short) = if bench.quick { (4.0, 1.0) } else { (60.0, 5.0) };
    let mut case = Case::new(
        "End to end",
        &format!(
            "{seconds:.0} s without a pause at {SUSTAINING} connections, to a handler that answers at once, with checkpoints and autovacuum as they \
             come; latency is from the answer's arrival at the client to the event's at the handler. Against the first-seen rate without \
             delivery at as many connections, measured before and after. The same for {short:.0} s at {CONNECTIONS} connections."
        ),
    );
    let few = relayed(bench, CONNECTIONS, short).await?;
    let many = relayed(bench, SUSTAINING, seconds).await?;
    for (connections, relayed) in [(CONNECTIONS, &few), (SUSTAINING, &many)] {
        let mut series = Series::new(&format!("relayed, {connections}"));
        series.samples.push(relayed.sample.clone());
        case.series.push(series);
    }
    let Relayed {
        all, thirds, again, ..
    } = &many;
    case.figure("relayed/s", "", vec![all.relayed_per_second], Bound::None);
    case.figure(
        "acknowledged/s while relaying",
        "",
        vec![all.acks_per_second],
        Bound::None,
    );
    case.figure(
        "relayed/s ÷ first-seen acks/s",
        "",
        vec![many.to_first_seen()],
        Bound::AtLeast {
            floor: 0.5,
            goal: 0.7,
        },
    );
    case.figure(
        &format!("relayed/s ÷ first-seen acks/s at {CONNECTIONS}"),
        "",
        vec![few.to_first_seen()],
        Bound::None,
    );
    let steady = thirds[2].relayed_per_second / thirds[0].relayed_per_second;
    case.figure(
        "relayed/s, last third ÷ first third",
        "",
        vec![steady],
        Bound::AtLeast {
            floor: 0.9,
            goal: 1.0,
        },
    );
    for (connections, relay) in [(CONNECTIONS, &few.all.relay), (SUSTAINING, &all.relay)] {
        for (name, micros) in [("p50", relay.p50), ("p99", relay.p99)] {
            case.figure(
                &format!("acknowledged to arrived at {connections}, {name}"),
                "ms",
                vec![micros as f64 / 1000.0],
                Bound::None,
            );
        }
    }
    case.figure(
        "delivered more than once",
        "events",
        vec![*again as f64],
        Bound::None,
    );
    Ok(case)
}

async fn relayed(bench: &Bench, connections: usize, seconds: f64) -> anyhow::Result<Relayed> {
    let before = baseline(bench, &format!("relay_baseline_{connections}"), connections).await?;
    bench.postgres.set("max_wal_size", Some("1GB")).await?;
    let flow = Flow::lasting(seconds + 5.0);
    let handler = flow.handler(0)?;
    let hookonce = relaying(bench, &format!("relay_{connections}"), handler.port(), "").await?;
    let load = flow.load(hookonce.address, connections, Pace::Closed, Order::From(0))?;
    tokio::time::sleep(WARM_UP).await;
    let (meter, from) = (Meter::start(bench, hookonce.pid()), flow.now());
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let (used, to) = (meter.stop(), flow.now());
    let memory_bytes = processor::peak_memory(hookonce.pid());
    load.stop().await?;
    let settled = flow.settle(SETTLE).await;
    ensure!(
        settled,
        "{} of {} events had not arrived {SETTLE:?} after the load",
        flow.answered.count() - flow.arrived.count(),
        flow.answered.count()
    );
    bench.postgres.set("max_wal_size", None).await?;
    hookonce.stop().await;
    let after = baseline(
        bench,
        &format!("relay_baseline_after_{connections}"),
        connections,
    )
    .await?;
    let third = (to - from) / 3;
    let thirds = (0..3)
        .map(|at| flow.stretch(from + third * at, from + third * (at + 1)))
        .collect();
    let all = flow.stretch(from, to);
    let sample = Sample {
        memory_bytes,
        ..sample(&all, &used, true)
    };
    Ok(Relayed {
        all,
        thirds,
        sample,
        first_seen: f64::midpoint(before, after),
        again: flow.arrived.again(),
    })
}

/// Acks a second at as many connections, with the deliveries paused.
async fn baseline(bench: &Bench, database: &str, connections: usize) -> anyhow::Result<f64> {
    bench
        .hookonce
        .create_database(&bench.postgres, database)
        .await?;
    let hookonce = bench
        .hookonce
        .start(&bench.postgres, &Options::paused(database))
        .await?;
    let seconds = bench.window().as_secs_f64();
    let flow = Flow::lasting(seconds + 2.0);
    let load = flow.load(hookonce.address, connections, Pace::Closed, Order::From(0))?;
    tokio::time::sleep(WARM_UP / 2).await;
    let from = flow.now();
    tokio::time::sleep(bench.window()).await;
    let rate = flow.stretch(from, flow.now()).acks_per_second;
    load.stop().await?;
    hookonce.stop().await;
    Ok(rate)
}

/// Acks at a fixed rate while the handler is down, with a backlog and without one, then the drain.
pub async fn run_backlog(bench: &Bench) -> anyhow::Result<Case> {
    let count = if bench.quick { 30_000 } else { 200_000 };
    let mut case = Case::new(
        "Backlog",
        &format!(
            "{count} events with the handler down (the breaker open, as by default), then the handler comes up. Acknowledgements at a fixed rate of \
             1,000/s under the backlog and, in turn, by another hookonce whose handler answers. End to end: when it is drained, new events without a pause \
             at 64 connections."
        ),
    );
    let flow = Flow::new(SUSTAINED + SUSTAINED_MAX, Keep::First);
    let port = free_port()?;
    let extra = "[relay.breaker]\nopen = \"1s\"\n";
    let hookonce = relaying(bench, "backlog", port, extra).await?;
    let client = bench.postgres.connect("backlog").await?;
    let load = flow.load(
        hookonce.address,
        CONNECTIONS,
        Pace::Closed,
        Order::Once(count),
    )?;
    load.join().await?;
    let (p50, ratios) = probed_in_turn(bench, &flow, &hookonce, extra).await?;
    let open: i64 = client
        .query_one("select count(*) from outbox", &[])
        .await?
        .get(0);
    let begin = flow.now();
    let handler = flow.handler(port)?;
    let drained = loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let arrived = flow.arrived.count();
        // Those that failed before wait for their next try; the drain is over with the rest.
        if arrived as f64 >= count as f64 * 0.99 {
            break true;
        }
        if flow.now() - begin > Duration::from_secs(if bench.quick { 20 } else { 90 }) {
            break false;
        }
    };
    let seconds = (flow.now() - begin).as_secs_f64();
    let rate = flow.arrived.count() as f64 / seconds;
    flow.settle(SETTLE).await;
    let load = flow.load(
        hookonce.address,
        CONNECTIONS,
        Pace::Closed,
        Order::From(SUSTAINED),
    )?;
    tokio::time::sleep(WARM_UP).await;
    let from = flow.now();
    tokio::time::sleep(3 * PROBE).await;
    let sustained = flow.stretch(from, flow.now()).relayed_per_second;
    load.stop().await?;
    drop(handler);
    hookonce.stop().await;
    if !drained {
        bench.missing(&format!(
            "backlog: only {} of {count} were drained in {seconds:.0} s",
            flow.arrived.count()
        ));
    }
    case.figure(
        "open deliveries when the handler came up",
        "",
        vec![open as f64],
        Bound::None,
    );
    case.figure(
        "drained/s, from the handler's start",
        "",
        vec![rate],
        Bound::None,
    );
    case.figure(
        "drained/s ÷ relayed/s end to end",
        "",
        vec![rate / sustained],
        Bound::AtLeast {
            floor: 1.0,
            goal: 1.0,
        },
    );
    case.figure("ack p50 under the backlog", "ms", p50, Bound::None);
    case.figure(
        "ack p99 under the backlog ÷ without",
        "",
        ratios,
        Bound::AtMost {
            floor: 1.5,
            goal: 1.1,
        },
    );
    Ok(case)
}

/// Ack p50 (ms) under the backlog, and p99 over that of a hookonce without one, round by round.
async fn probed_in_turn(
    bench: &Bench,
    flow: &Flow,
    hookonce: &Hookonce,
    extra: &str,
) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let (mut p50, mut ratios) = (Vec::new(), Vec::new());
    let free_flow = Flow::new(PROBES + bench.rounds() * PROBE_MAX, Keep::First);
    let handler = free_flow.handler(0)?;
    let free = relaying(bench, "backlog_free", handler.port(), extra).await?;
    bench.postgres.rest().await?;
    for round in 0..bench.rounds() {
        let first = PROBES + round * PROBE_MAX;
        let under = probe(flow, hookonce.address, PROBE_RATE, first).await?;
        let without = probe(&free_flow, free.address, PROBE_RATE, first).await?;
        eprintln!(
            "  p99 under the backlog {} µs, without {} µs",
            under.p99, without.p99
        );
        p50.push(under.p50 as f64 / 1000.0);
        ratios.push(under.p99 as f64 / without.p99 as f64);
    }
    free.stop().await;
    Ok((p50, ratios))
}

/// Ack latency at a fixed rate.
async fn probe(
    flow: &Flow,
    address: SocketAddr,
    rate: f64,
    first: usize,
) -> anyhow::Result<Latency> {
    let load = flow.load(address, CONNECTIONS, Pace::Open(rate), Order::From(first))?;
    tokio::time::sleep(WARM_UP / 2).await;
    load.measure(true);
    tokio::time::sleep(PROBE).await;
    load.measure(false);
    Ok(Latency::of(&load.stop().await?, 0))
}

/// Of several probes the one with the median p99, for one stall of the disk makes a p99.
async fn probed(
    flow: &Flow,
    address: SocketAddr,
    rate: f64,
    first: usize,
    count: usize,
) -> anyhow::Result<Latency> {
    let mut probes = Vec::new();
    for at in 0..count {
        probes.push(probe(flow, address, rate, first + at * PROBE_MAX).await?);
    }
    probes.sort_by_key(|latency| latency.p99);
    Ok(probes.swap_remove(count / 2))
}

/// A hundred destinations of one source, with and without one that hangs.
pub async fn run_destinations(bench: &Bench) -> anyhow::Result<Case> {
    const DESTINATIONS: usize = 100;
    const RATE: f64 = 40.0;
    let mut case = Case::new(
        "A hundred destinations",
        "Each event goes to 100 destinations, 40 events a second; one of the handlers hangs in every second round. Latency is from the answer to \
         the event's last arrival at the handlers that answer.",
    );
    let mut sides = [Series::new("all answer"), Series::new("one hangs")];
    let mut acks = [Vec::new(), Vec::new()];
    for round in 0..bench.rounds() {
        for (hung, series) in sides.iter_mut().enumerate() {
            let flow = Flow::new(10_000, Keep::Last);
            let handler = flow.handler(0)?;
            let hanging = Handler::start(0, Behaviour::Hang)?;
            let port = |at: usize| {
                if hung == 1 && at == 0 {
                    hanging.port()
                } else {
                    handler.port()
                }
            };
            let relay = Relay::To(
                (0..DESTINATIONS)
                    .map(|at| ("stripe".to_owned(), port(at)))
                    .collect(),
            );
            let database = format!("destinations_{round}_{hung}");
            bench
                .hookonce
                .create_database(&bench.postgres, &database)
                .await?;
            let extra = "[relay]\ndrain_timeout = \"1s\"\n";
            let hookonce = bench
                .hookonce
                .start(
                    &bench.postgres,
                    &Options {
                        relay,
                        extra,
                        ..Options::paused(&database)
                    },
                )
                .await?;
            let load = flow.load(hookonce.address, 8, Pace::Open(RATE), Order::From(0))?;
            tokio::time::sleep(WARM_UP / 2).await;
            load.measure(true);
            let (meter, from) = (Meter::start(bench, hookonce.pid()), flow.now());
            tokio::time::sleep(bench.window()).await;
            let (used, to) = (meter.stop(), flow.now());
            acks[hung].push(Latency::of(&load.stop().await?, 0).p99 as f64);
            flow.settle(Duration::from_secs(3)).await;
            series
                .samples
                .push(sample(&flow.stretch(from, to), &used, true));
            hookonce.stop().await;
        }
    }
    let ratios = |with: &[f64], without: &[f64]| {
        with.iter()
            .zip(without)
            .map(|(with, without)| with / without)
            .collect::<Vec<f64>>()
    };
    case.figure(
        "ack p99 with a hung destination ÷ without",
        "",
        ratios(&acks[1], &acks[0]),
        Bound::AtMost {
            floor: 1.5,
            goal: 1.1,
        },
    );
    let p99 = |series: &Series| series.values(|sample| sample.latency.p99 as f64);
    case.figure(
        "arrival p99 with a hung destination ÷ without",
        "",
        ratios(&p99(&sides[1]), &p99(&sides[0])),
        Bound::None,
    );
    case.series = sides.into();
    Ok(case)
}

/// A transaction that holds a snapshot: autovacuum can remove nothing that was dead after it began.
pub async fn run_snapshot(bench: &Bench) -> anyhow::Result<Case> {
    let seconds = if bench.quick { 5.0 } else { 60.0 };
    let mut case = Case::new(
        "A reader that holds a snapshot",
        &format!(
            "Relaying {SNAPSHOT_RATE} events a second; the end of {seconds:.0} s after a transaction took its snapshot, against before, in probes \
             of 1.5 s."
        ),
    );
    let flow = Flow::lasting(seconds * 1.5 + 10.0);
    let handler = flow.handler(0)?;
    let hookonce = relaying(bench, "snapshot", handler.port(), "").await?;
    let reader = bench.postgres.connect("snapshot").await?;
    let probes = if bench.quick { 1 } else { 6 };
    let ahead =
        Duration::from_secs_f64(seconds - (probes as f64) * (PROBE + WARM_UP / 2).as_secs_f64());
    let mut first = 0;
    // For so long, then the probes.
    let mut steady = async |ahead: Duration| -> anyhow::Result<(Latency, Stretch)> {
        let load = flow.load(
            hookonce.address,
            CONNECTIONS,
            Pace::Open(SNAPSHOT_RATE),
            Order::From(first),
        )?;
        tokio::time::sleep(ahead).await;
        load.stop().await?;
        first += (SNAPSHOT_RATE * (ahead + WARM_UP).as_secs_f64()) as usize;
        let from = flow.now();
        let acks = probed(&flow, hookonce.address, SNAPSHOT_RATE, first, probes).await?;
        let to = flow.now();
        first += probes * PROBE_MAX;
        flow.settle(SETTLE).await;
        Ok((acks, flow.stretch(from, to)))
    };
    let (acks_free, free) = steady(WARM_UP).await?;
    reader
        .batch_execute("begin isolation level repeatable read; select count(*) from outbox")
        .await?;
    let (acks_held, held) = steady(ahead).await?;
    reader.batch_execute("commit").await?;
    hookonce.stop().await;
    let relayed = held.relayed_per_second / free.relayed_per_second;
    case.figure(
        "relayed/s at the end ÷ before",
        "",
        vec![relayed],
        Bound::AtLeast {
            floor: 0.9,
            goal: 1.0,
        },
    );
    let arrival = held.relay.p99 as f64 / free.relay.p99 as f64;
    case.figure(
        "arrival p99 at the end ÷ before",
        "",
        vec![arrival],
        Bound::None,
    );
    let acks = acks_held.p99 as f64 / acks_free.p99 as f64;
    case.figure(
        "ack p99 with a pinned snapshot ÷ without",
        "",
        vec![acks],
        Bound::AtMost {
            floor: 1.5,
            goal: 1.1,
        },
    );
    Ok(case)
}
