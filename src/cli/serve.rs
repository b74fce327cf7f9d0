//! `serve`: not here yet.

use super::Globals;

pub async fn run(_globals: &Globals) -> anyhow::Result<()> {
    anyhow::bail!("serve is not built in yet")
}
