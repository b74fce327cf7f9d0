//! Parses the command line, runs the command, sets the exit code.

use std::process::ExitCode;

use hookonce::cli;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(std::env::args_os()).await.into()
}
