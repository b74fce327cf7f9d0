//! The cases, one a file. Each starts what it needs, measures, stops it, and returns its part of
//! the report.

mod first_seen;
mod footprint;
mod gateway;
mod ledger;
mod peers;
mod relay;
mod repeats;
mod stalled;
mod table_size;
mod versions;

use anyhow::bail;

use crate::{Bench, report::Case};

/// In the order of a run: what matters most first, for a run that is cut short.
pub const NAMES: [&str; 15] = [
    "first-seen",
    "repeats",
    "repeats-cold",
    "relay",
    "footprint",
    "peers",
    "ledger",
    "gateway",
    "backlog",
    "destinations",
    "table-size",
    "snapshot",
    "variants",
    "stalled",
    "versions",
];

/// Those that are measured only where they are asked for.
pub fn is_extra(name: &str) -> bool {
    matches!(name, "stalled" | "versions")
}

pub async fn run(bench: &Bench, name: &str) -> anyhow::Result<Case> {
    match name {
        "first-seen" => first_seen::run(bench).await,
        "repeats" => repeats::run(bench).await,
        "repeats-cold" => repeats::run_cold(bench).await,
        "relay" => relay::run(bench).await,
        "footprint" => footprint::run(bench).await,
        "peers" => peers::run(bench).await,
        "ledger" => ledger::run(bench).await,
        "gateway" => gateway::run(bench).await,
        "backlog" => relay::run_backlog(bench).await,
        "destinations" => relay::run_destinations(bench).await,
        "table-size" => table_size::run(bench).await,
        "snapshot" => relay::run_snapshot(bench).await,
        "stalled" => stalled::run(bench).await,
        "versions" => versions::run(bench).await,
        "variants" => first_seen::run_variants(bench).await,
        _ => bail!("there is no case {name}"),
    }
}
