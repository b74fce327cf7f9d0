//! Instructions an acknowledged event, counted by callgrind: the same on a busy machine as on a
//! quiet one, so that CI can compare them.
//!
//! hookonce runs under valgrind twice, with few events and with many; start and stop cancel out.
//! One connection, so that every event is a batch of its own. Valgrind knows no SHA extensions: the
//! portable SHA-256 is counted, more than a processor really executes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::{
    Bench,
    events::Provider,
    hookonce::Options,
    load::{Load, Order, Pace},
    round::fresh,
};

const DATABASE: &str = "instructions";
const FEW: usize = 500;
const MANY: usize = 2_500;
const HOT: usize = 100;

#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Where the last counts are
    #[arg(long, default_value = "bench/instructions.json")]
    pub recorded: PathBuf,
    /// Write the counts there instead of comparing with them
    #[arg(long)]
    pub record: bool,
    /// By how much more, in percent, a count may be
    #[arg(long, default_value_t = 5.0)]
    pub tolerance: f64,
}

/// Instructions an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counts {
    first_seen: f64,
    hot_duplicate: f64,
}

pub async fn run(bench: &Bench, arguments: &Arguments) -> anyhow::Result<()> {
    let valgrind = Command::new("valgrind")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    anyhow::ensure!(valgrind, "valgrind is not installed");
    bench
        .hookonce
        .create_database(&bench.postgres, DATABASE)
        .await?;
    let each = async |hot| {
        anyhow::Ok(
            (total(bench, MANY, hot).await? - total(bench, FEW, hot).await?) / (MANY - FEW) as f64,
        )
    };
    let counts = Counts {
        first_seen: each(false).await?,
        hot_duplicate: each(true).await?,
    };
    println!(
        "instructions an event: first seen {:.0}, hot duplicate {:.0}",
        counts.first_seen, counts.hot_duplicate
    );
    if arguments.record {
        return Ok(fs::write(
            &arguments.recorded,
            serde_json::to_string_pretty(&counts)? + "\n",
        )?);
    }
    compare(counts, &arguments.recorded, arguments.tolerance)
}

fn compare(counts: Counts, recorded: &Path, tolerance: f64) -> anyhow::Result<()> {
    let text = fs::read(recorded)
        .with_context(|| format!("can't read {} (--record writes it)", recorded.display()))?;
    let last: Counts = serde_json::from_slice(&text)
        .with_context(|| format!("{} is not as it was written", recorded.display()))?;
    let mut over = Vec::new();
    for (name, now, last) in [
        ("first seen", counts.first_seen, last.first_seen),
        ("hot duplicate", counts.hot_duplicate, last.hot_duplicate),
    ] {
        let change = (now / last - 1.0) * 100.0;
        println!("{name}: {change:+.1} % of the recorded {last:.0}");
        if change > tolerance {
            over.push(format!(
                "{name} takes {change:.1} % more instructions than recorded"
            ));
        }
    }
    if over.is_empty() {
        Ok(())
    } else {
        bail!(
            "{}; if it is worth it, record anew with --record",
            over.join("; ")
        )
    }
}

/// All instructions of one life with so many events.
async fn total(bench: &Bench, count: usize, hot: bool) -> anyhow::Result<f64> {
    let out = bench.folder.join("callgrind.out");
    let file = format!("--callgrind-out-file={}", out.display());
    let wrapper = ["valgrind", "--tool=callgrind", "--quiet", &file];
    let options = Options {
        wrapper: &wrapper,
        ..Options::paused(DATABASE)
    };
    let hookonce = bench.hookonce.start(&bench.postgres, &options).await?;
    let events = fresh(Provider::Stripe, 2048, count);
    let orders = if hot {
        vec![Order::Once(HOT); count / HOT]
    } else {
        vec![Order::Once(count)]
    };
    for order in orders {
        let load = Load {
            address: hookonce.address,
            connections: 1,
            events: events.clone(),
            pace: Pace::Closed,
            order,
            answered: None,
        };
        load.start()?.join().await?;
    }
    hookonce.stop().await;
    let text =
        fs::read_to_string(&out).with_context(|| format!("callgrind left no {}", out.display()))?;
    let line = text.lines().find_map(|line| {
        line.strip_prefix("totals:")
            .or_else(|| line.strip_prefix("summary:"))
    });
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .context("callgrind's file has no total")
}
