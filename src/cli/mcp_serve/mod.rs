//! `mcp serve`: what a person asks of a running hookonce, as tools of the Model Context Protocol over
//! standard input and output (revisions 2025-11-25 and 2026-07-28; the SDK speaks earlier ones too).
//! Each tool is a call of the admin API, so the token decides what there is to see. Nothing is decided
//! here but what an agent may not do although its token may: change anything unless the person who
//! started the server said so, and replay what was not counted before.

mod arguments;
mod counted;
mod events;
mod issues;
mod rejections;
mod replays;
mod server;
mod session;
mod steps;
mod tools;
mod untrusted;

use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use rmcp::{
    ServiceExt as _,
    transport::{async_rw::AsyncRwTransport, io::stdio_pipes},
};

use super::{Exit, Globals};
use server::Server;
use session::Session;

/// Bytes of one message. Arguments are names, filters and a result of a step.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tools for an agent that operates hookonce, over standard input and output
    Serve(Arguments),
}

#[derive(Debug, Args)]
pub struct Arguments {
    /// Offer what changes something too (replay, resolve_step), where the token may operate
    #[arg(long)]
    allow_write: bool,
}

/// Runs until the client closes standard input.
pub async fn run(globals: &Globals, arguments: Arguments) -> anyhow::Result<Exit> {
    let mut globals = globals.clone();
    // The clients of the ledger know the service by this name.
    if globals.server.is_none() {
        globals.server = std::env::var("HOOKONCE_URL")
            .ok()
            .filter(|url| !url.is_empty());
    }
    let (input, output) = stdio_pipes();
    let transport =
        AsyncRwTransport::new_server(input, output).with_max_line_length(MESSAGE_BYTES_MAX);
    let server = Server::new(Arc::new(Session::new(globals, arguments.allow_write)));
    let running = server
        .serve(transport)
        .await
        .context("the client did not begin as the Model Context Protocol has it")?;
    running.waiting().await.context("the server broke off")?;
    Ok(Exit::Done)
}
