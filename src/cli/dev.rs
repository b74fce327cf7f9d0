//! `dev`: not here yet.

use super::Globals;
use crate::tail::TailLine;

pub async fn run(_globals: &Globals, _forward_to: Option<&str>, _port: u16) -> anyhow::Result<()> {
    anyhow::bail!("dev is not built in yet")
}

/// One line of the tail, for a terminal.
pub fn show(line: &TailLine) -> String {
    serde_json::to_string(line).unwrap_or_default()
}
