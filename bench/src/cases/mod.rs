//! The cases, one a file. Each starts what it needs, measures, stops it, and returns its part of the report.

mod first_seen;
mod repeats;

use anyhow::bail;

use crate::{Bench, report::Case};

/// In the order of a run.
pub const NAMES: [&str; 4] = ["first-seen", "first-seen-variants", "repeats", "repeats-cold"];

pub async fn run(bench: &Bench, name: &str) -> anyhow::Result<Case> {
    match name {
        "first-seen" => first_seen::run(bench).await,
        "first-seen-variants" => first_seen::run_variants(bench).await,
        "repeats" => repeats::run(bench).await,
        "repeats-cold" => repeats::run_cold(bench).await,
        _ => bail!("there is no case {name}"),
    }
}
