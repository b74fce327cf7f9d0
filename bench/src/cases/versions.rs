//! This version against another (`--against`), each with a database of its own: new events, and
//! repeats that are known by memory and by the database. Sides in turn; the figure is this
//! version's rate over the other's.

use std::{sync::Arc, time::Duration};

use crate::{
    Bench,
    events::{Events, Provider},
    hookonce::{Hookonce, Installed, Options},
    load::Pace,
    report::{Bound, Case, Series},
    round::{Expect, Http, Requests, Sample, fresh, measure_all},
    side::{Side, interleave, undisturbed},
};

const HOT: usize = 1_000;
const COLD: usize = 100_000;
const COLD_QUICK: usize = 30_000;
/// Of what the other version reaches.
const NEAR: Bound = Bound::AtLeast {
    floor: 0.97,
    goal: 1.0,
};

struct Version<'a> {
    name: &'static str,
    installed: &'a Installed,
    /// New events, and hot repeats.
    database: &'static str,
    cold: &'static str,
}

pub async fn run(bench: &Bench) -> anyhow::Result<Case> {
    let mut case = Case::new(
        "This version and another",
        "New events of Stripe's (whose keys are signed) and GitHub's (whose bodies are looked at as well), and repeats of Stripe's: hot ones, known in \
         memory, at 64 connections, and cold ones, to a process that was started anew.",
    );
    let Some(other) = &bench.against else {
        bench.missing("versions: give another version's release binary with --against");
        return Ok(case);
    };
    let versions = [
        Version {
            name: "this",
            installed: &bench.hookonce,
            database: "versions_this",
            cold: "versions_this_cold",
        },
        Version {
            name: "other",
            installed: other,
            database: "versions_other",
            cold: "versions_other_cold",
        },
    ];
    let mut running = Vec::new();
    for version in &versions {
        version
            .installed
            .create_database(&bench.postgres, version.database)
            .await?;
        version
            .installed
            .create_database(&bench.postgres, version.cold)
            .await?;
        running.push(
            version
                .installed
                .start(&bench.postgres, &Options::paused(version.database))
                .await?,
        );
    }
    for (provider, connections) in [
        (Provider::Stripe, 1),
        (Provider::Stripe, 64),
        (Provider::Stripe, 256),
        (Provider::Github, 64),
    ] {
        let what = format!("first seen, {}, {connections}", provider.name());
        let http = |at: usize| {
            Http::new_events(
                &running[at],
                Some(versions[at].database),
                (provider, 2048),
                connections,
            )
        };
        compare(bench, &mut case, &versions, &what, http).await?;
    }
    let hot = fresh(Provider::Stripe, 2048, HOT);
    for (version, hookonce) in versions.iter().zip(&running) {
        let client = bench.postgres.connect(version.database).await?;
        measure_all(bench, hookonce, &client, &hot, HOT, Expect::Accepted).await?;
    }
    compare(bench, &mut case, &versions, "hot duplicates", |at| {
        repeats(&running[at], hot.clone())
    })
    .await?;
    for hookonce in running {
        hookonce.stop().await;
    }
    cold(bench, &mut case, &versions).await?;
    Ok(case)
}

fn repeats(hookonce: &Hookonce, events: Arc<Events>) -> Http {
    Http {
        address: hookonce.address,
        pids: vec![hookonce.pid()],
        database: None,
        connections: 64,
        pace: Pace::Closed,
        requests: Requests::Fixed(events, HOT),
        expect: Expect::Duplicate,
    }
}

async fn compare(
    bench: &Bench,
    case: &mut Case,
    versions: &[Version<'_>; 2],
    what: &str,
    http: impl Fn(usize) -> Http,
) -> anyhow::Result<()> {
    let sides: Vec<Side<'_>> = versions
        .iter()
        .enumerate()
        .map(|(at, version)| Side::http(format!("{what}: {}", version.name), http(at)))
        .collect();
    // Two rounds for one: what is looked for is small.
    let series = interleave(bench, &sides, bench.rounds() * 2, bench.window()).await?;
    figure(case, what, series);
    Ok(())
}

fn figure(case: &mut Case, what: &str, series: Vec<Series>) {
    if let [this, other] = &series[..] {
        case.figure(
            &format!("{what}: this ÷ other"),
            "",
            this.ratios(other, |sample: &Sample| sample.per_second),
            NEAR,
        );
        let used = |sample: &Sample| sample.server_us + sample.postgres_us;
        case.figure(
            &format!("{what}: CPU of both processes, this ÷ other"),
            "",
            this.ratios(other, used),
            Bound::None,
        );
    }
    case.series.extend(series);
}

async fn cold(bench: &Bench, case: &mut Case, versions: &[Version<'_>; 2]) -> anyhow::Result<()> {
    let count = if bench.quick { COLD_QUICK } else { COLD };
    let events = fresh(Provider::Stripe, 2048, count);
    let send_all = async |version: &Version<'_>, expect| {
        let client = bench.postgres.connect(version.cold).await?;
        let anew = version
            .installed
            .start(&bench.postgres, &Options::paused(version.cold))
            .await?;
        let sample = measure_all(bench, &anew, &client, &events, count, expect).await?;
        anew.stop().await;
        anyhow::Ok(sample)
    };
    for version in versions {
        send_all(version, Expect::Accepted).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut series: Vec<Series> = versions
        .iter()
        .map(|version| Series::new(&format!("cold duplicates: {}", version.name)))
        .collect();
    for _ in 0..bench.rounds() {
        for (version, series) in versions.iter().zip(&mut series) {
            let sample = undisturbed(bench, &series.name.clone(), async || {
                send_all(version, Expect::Duplicate).await
            })
            .await?;
            series.samples.push(sample);
        }
    }
    figure(case, "cold duplicates", series);
    Ok(())
}
