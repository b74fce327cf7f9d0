//! `completions`.

use super::{exit::Exit, output};

pub fn run(shell: clap_complete::Shell, command: &mut clap::Command) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "hookonce", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
