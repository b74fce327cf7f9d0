//! New events: acknowledged after their commit, against pgbench that commits one row at a time.

use std::time::Duration;

use crate::{
    Bench,
    events::Provider,
    hookonce::{Hookonce, Options},
    load::Pace,
    pgbench,
    report::{Bound, Case},
    round::{Http, SingleRow},
    side::{Kind, Side, interleave},
};

pub const CONNECTIONS: [usize; 4] = [1, 8, 64, 256];
const DATABASE: &str = "first_seen";

fn http(hookonce: &Hookonce, events: (Provider, usize), connections: usize) -> Http {
    Http::new_events(hookonce, Some(DATABASE), events, connections)
}

pub async fn run(bench: &Bench) -> anyhow::Result<Case> {
    let mut case = Case::new(
        "First seen",
        "Stripe's events of 2 KiB, each new, the event with one delivery committed before the answer; pgbench commits the same rows one event a \
         transaction. Closed loop.",
    );
    bench
        .hookonce
        .create_database(&bench.postgres, DATABASE)
        .await?;
    bench
        .hookonce
        .create_database(&bench.postgres, "single_row")
        .await?;
    let hookonce = bench
        .hookonce
        .start(&bench.postgres, &Options::paused(DATABASE))
        .await?;
    let with_pgbench = pgbench::is_installed(&bench.postgres);
    if !with_pgbench {
        bench.missing("pgbench is not beside PostgreSQL: no yardstick for first-seen events");
    }
    for connections in CONNECTIONS {
        let mut sides = vec![Side::http(
            format!("hookonce, {connections}"),
            http(&hookonce, (Provider::Stripe, 2048), connections),
        )];
        if with_pgbench {
            let single_row = SingleRow {
                database: "single_row",
                connections,
                size: 2048,
                known: None,
            };
            sides.push(Side {
                name: format!("pgbench, {connections}"),
                kind: Kind::SingleRow(single_row),
            });
        }
        case.series
            .extend(interleave(bench, &sides, bench.rounds(), window(bench, connections)).await?);
    }
    if with_pgbench {
        figures(&mut case);
    }
    costs(&mut case);
    hookonce.stop().await;
    Ok(case)
}

/// Many connections need longer to be answered all.
pub fn window(bench: &Bench, connections: usize) -> Duration {
    if connections < 64 {
        bench.short_window()
    } else {
        bench.window()
    }
}

fn figures(case: &mut Case) {
    let mut found = Vec::new();
    let mut ratio =
        |name: &str, own: &str, other: &str, of: fn(&crate::round::Sample) -> f64, bound| {
            if let (Some(own), Some(other)) = (case.find(own), case.find(other)) {
                found.push((name.to_owned(), own.ratios(other, of), bound));
            }
        };
    let rate = |sample: &crate::round::Sample| sample.per_second;
    let p50 = |sample: &crate::round::Sample| sample.latency.p50 as f64;
    let p99 = |sample: &crate::round::Sample| sample.latency.p99 as f64;
    ratio(
        "first-seen/s at 64 ÷ pgbench at 64",
        "hookonce, 64",
        "pgbench, 64",
        rate,
        Bound::AtLeast {
            floor: 2.0,
            goal: 3.0,
        },
    );
    ratio(
        "first-seen/s at 256 ÷ pgbench at 64",
        "hookonce, 256",
        "pgbench, 64",
        rate,
        Bound::AtLeast {
            floor: 2.5,
            goal: 3.5,
        },
    );
    ratio(
        "first-seen p50 at 64 ÷ pgbench's",
        "hookonce, 64",
        "pgbench, 64",
        p50,
        Bound::AtMost {
            floor: 0.6,
            goal: 0.35,
        },
    );
    ratio(
        "first-seen p99 at 64 ÷ pgbench's",
        "hookonce, 64",
        "pgbench, 64",
        p99,
        Bound::AtMost {
            floor: 0.6,
            goal: 0.35,
        },
    );
    ratio(
        "first-seen p50 at 1 ÷ pgbench's",
        "hookonce, 1",
        "pgbench, 1",
        p50,
        Bound::AtMost {
            floor: 1.6,
            goal: 1.2,
        },
    );
    for (name, values, bound) in found {
        case.figure(&name, "", values, bound);
    }
}

fn costs(case: &mut Case) {
    let Some(series) = case.find("hookonce, 256").cloned() else {
        return;
    };
    let bound = Bound::AtMost {
        floor: 55.0,
        goal: 40.0,
    };
    case.figure(
        "hookonce's CPU a first-seen event at 256",
        "µs",
        series.values(|sample| sample.server_us),
        bound,
    );
    let bound = Bound::AtMost {
        floor: 60.0,
        goal: 34.0,
    };
    case.figure(
        "Postgres' CPU a first-seen event at 256",
        "µs",
        series.values(|sample| sample.postgres_us),
        bound,
    );
    case.figure(
        "WAL an event at 256",
        "bytes",
        series.values(|sample| sample.wal_bytes),
        Bound::None,
    );
}

/// Other sizes and providers, and a fixed rate, at 64 connections.
pub async fn run_variants(bench: &Bench) -> anyhow::Result<Case> {
    let mut case = Case::new(
        "First seen: sizes, providers, a fixed rate",
        "64 connections. GitHub's ids are not signed, so that its bodies must be new as well: two keys an event. At a fixed rate (open loop) a \
         latency counts from when its request was due.",
    );
    bench
        .hookonce
        .create_database(&bench.postgres, DATABASE)
        .await?;
    let hookonce = bench
        .hookonce
        .start(&bench.postgres, &Options::paused(DATABASE))
        .await?;
    let (rounds, window) = (bench.rounds(), bench.short_window());
    let mut sides: Vec<Side<'_>> = Vec::new();
    for (provider, size) in [
        (Provider::Stripe, 2048),
        (Provider::Github, 2048),
        (Provider::Stripe, 16384),
        (Provider::Github, 16384),
    ] {
        sides.push(Side::http(
            format!("{} {} KiB", provider.name(), size / 1024),
            http(&hookonce, (provider, size), 64),
        ));
    }
    let closed = interleave(bench, &sides, rounds, window).await?;
    let most = closed
        .first()
        .map_or(0.0, |series| series.median(|sample| sample.per_second));
    case.series.extend(closed);
    let mut paced: Vec<Side<'_>> = Vec::new();
    for share in [0.25, 0.5, 0.8] {
        let pace = Pace::Open((most * share).max(100.0));
        paced.push(Side::http(
            format!("open loop at {:.0} %", share * 100.0),
            Http {
                pace,
                ..http(&hookonce, (Provider::Stripe, 2048), 256)
            },
        ));
    }
    case.series
        .extend(interleave(bench, &paced, rounds, window).await?);
    let loaded = http(&hookonce, (Provider::Stripe, 16384), 256);
    let loaded = interleave(
        bench,
        &[Side::http("stripe 16 KiB, 256", loaded)],
        1,
        window,
    )
    .await?;
    let memory: Vec<f64> = loaded
        .iter()
        .flat_map(|series| series.values(|sample| sample.memory_bytes as f64 / 1_048_576.0))
        .collect();
    case.series.extend(loaded);
    case.figure(
        "peak memory, 16 KiB bodies at 256",
        "MiB",
        memory,
        Bound::AtMost {
            floor: 128.0,
            goal: 128.0,
        },
    );
    hookonce.stop().await;
    Ok(case)
}
