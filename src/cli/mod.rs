//! The commands, one a file: arguments in, exit code out. Here is the whole tree, what is global to
//! it, and the dispatch.

mod client;
pub(crate) mod completions;
pub(crate) mod config;
mod conflicts;
pub(crate) mod db;
pub(crate) mod deliveries;
pub(crate) mod destinations;
pub(crate) mod dev;
pub(crate) mod events;
mod exit;
mod globals;
pub(crate) mod ledger;
pub(crate) mod man;
pub(crate) mod mcp_serve;
mod output;
pub(crate) mod providers;
pub(crate) mod ready;
pub(crate) mod rejections;
pub(crate) mod replay;
pub(crate) mod send;
pub(crate) mod serve;
pub(crate) mod sources;
pub(crate) mod status;
pub(crate) mod tokens;
mod values;
pub mod verify;
pub(crate) mod verify_files;

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use secrecy::SecretString;

pub use exit::{Exit, Failure};
pub use globals::{Format, Globals};

use crate::postgres::default_data_dir;

/// A webhook inbox: verify, record once, acknowledge, relay until done, replay.
#[derive(Debug, Parser)]
#[command(
    name = "hookonce",
    version,
    max_term_width = 120,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct GlobalArgs {
    /// The settings; default: ./hookonce.toml, then hookonce/hookonce.toml in $XDG_CONFIG_HOME and
    /// /etc
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "HOOKONCE_CONFIG",
        help_heading = "Global options"
    )]
    config: Option<PathBuf>,
    /// The managed PostgreSQL, dev's secrets, the local admin token; default:
    /// $XDG_DATA_HOME/hookonce, as root /var/lib/hookonce
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        env = "HOOKONCE_DATA_DIR",
        help_heading = "Global options"
    )]
    data_dir: Option<PathBuf>,
    /// How results are written to standard output
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        help_heading = "Global options"
    )]
    output: Format,
    /// The admin address of the running service; on the same machine it is found by itself
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "HOOKONCE_SERVER",
        help_heading = "Global options"
    )]
    server: Option<String>,
    /// The admin token; on the same machine it is found by itself
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "HOOKONCE_TOKEN",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    token: Option<SecretString>,
    /// Colours; auto obeys NO_COLOR
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        help_heading = "Global options"
    )]
    color: Color,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, help_heading = "Global options")]
    quiet: bool,
    /// Say more on standard error
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    verbose: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything on one machine: managed PostgreSQL, sources with generated secrets, a live tail
    Dev {
        /// Where events are relayed to; without it they are printed
        #[arg(long, value_name = "URL")]
        forward_to: Option<String>,
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// The service
    Serve,
    /// Sign as the provider does, and post
    Send(send::Arguments),
    /// Accept or reject a request, and say why
    Verify(verify_files::Arguments),
    /// What was received
    #[command(subcommand)]
    Events(events::Command),
    /// What is or was to be relayed
    #[command(subcommand)]
    Deliveries(deliveries::Command),
    /// What was refused, and why
    #[command(subcommand)]
    Rejections(rejections::Command),
    /// Deliver stored events again
    Replay(replay::Arguments),
    /// Where events go
    #[command(subcommand)]
    Destinations(destinations::Command),
    /// Where events come from
    #[command(subcommand)]
    Sources(sources::Command),
    /// Steps of your own code: who executes them, what came of them
    #[command(subcommand)]
    Ledger(ledger::Command),
    /// For agents, over the Model Context Protocol
    #[command(subcommand)]
    Mcp(mcp_serve::Command),
    /// Who may use the API
    #[command(subcommand)]
    Tokens(tokens::Command),
    /// The signature schemes
    #[command(subcommand)]
    Providers(providers::Command),
    /// The settings
    #[command(subcommand)]
    Config(config::Command),
    /// The database
    #[command(subcommand)]
    Db(db::Command),
    /// The whole service in one screen; exit code 1 where something needs a person
    Status,
    /// Whether the service takes requests
    Ready {
        /// Wait so long for it: "30s"
        #[arg(long, value_name = "T", value_parser = duration)]
        wait: Option<std::time::Duration>,
    },
    /// Completions for a shell, on standard output
    Completions { shell: clap_complete::Shell },
    /// The manual page, on standard output
    Man,
}

/// Parses and runs a command line. Errors go to standard error.
pub async fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // A reader that has closed the pipe is no failure.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
        }
    };
    // Only the first installation of a crypto provider succeeds, and any is as good as another.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli.global.color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
    match execute(cli).await {
        Ok(exit) => exit,
        Err(error) if is_broken_pipe(&error) => Exit::Done,
        Err(error) => {
            anstream::eprintln!("\x1b[1;31merror:\x1b[0m {error:#}");
            error
                .downcast_ref::<Failure>()
                .map_or(Exit::Failed, |failure| failure.exit)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

async fn execute(cli: Cli) -> anyhow::Result<Exit> {
    let GlobalArgs {
        config,
        data_dir,
        output,
        server,
        token,
        quiet,
        verbose,
        ..
    } = cli.global;
    let data_dir = match data_dir {
        Some(data_dir) => std::path::absolute(data_dir)?,
        None => default_data_dir()?,
    };
    let globals = Globals {
        config,
        data_dir,
        output,
        server,
        token,
        quiet,
        verbose,
    };
    match cli.command {
        Command::Dev { forward_to, port } => dev::run(&globals, forward_to.as_deref(), port)
            .await
            .map(|()| Exit::Done),
        Command::Serve => serve::run(&globals).await.map(|()| Exit::Done),
        Command::Send(arguments) => send::run(&globals, arguments).await,
        Command::Verify(arguments) => verify_files::run(&globals, arguments),
        Command::Events(command) => events::run(&globals, command).await,
        Command::Deliveries(command) => deliveries::run(&globals, command).await,
        Command::Rejections(command) => rejections::run(&globals, command).await,
        Command::Replay(arguments) => replay::run(&globals, arguments).await,
        Command::Destinations(command) => destinations::run(&globals, command).await,
        Command::Sources(command) => sources::run(&globals, command).await,
        Command::Ledger(command) => ledger::run(&globals, command).await,
        Command::Mcp(mcp_serve::Command::Serve(arguments)) => {
            mcp_serve::run(&globals, arguments).await
        }
        Command::Tokens(command) => tokens::run(&globals, command).await,
        Command::Providers(command) => providers::run(&globals, command),
        Command::Config(command) => config::run(&globals, command),
        Command::Db(command) => db::run(&globals, command).await,
        Command::Status => status::run(&globals).await,
        Command::Ready { wait } => ready::run(&globals, wait).await,
        Command::Completions { shell } => completions::run(shell, &mut Cli::command()),
        Command::Man => man::run(Cli::command()),
    }
}

/// A length of time as people write it.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    text.parse::<crate::settings::Period>()
        .map(|period| period.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn command_lines_parse_as_the_contract_has_them() {
        for line in [
            "dev --forward-to http://127.0.0.1:3000/ --port 9000",
            "serve --config hookonce.toml",
            "send stripe --type invoice.paid --data - --id evt_1 --to http://127.0.0.1:1/hooks/x --count 3 --duplicates 2",
            "verify --provider stripe --secret whsec_x --headers h --body b --now 1700000000 --url http://x/ --method GET",
            "verify --jsonl -",
            "events list --source stripe --type invoice.* --key evt_1 --since 2h --until 1h --limit 5 --output json",
            "events show 01890000-0000-7000-8000-000000000000",
            "events tail --output ndjson",
            "deliveries list --state dead --destination billing --source stripe --event 01890000-0000-7000-8000-000000000000",
            "deliveries retry 01890000-0000-7000-8000-000000000000",
            "deliveries cancel 01890000-0000-7000-8000-000000000000",
            "rejections list --source stripe --reason no_match --since 2h --until 1h --limit 5",
            "rejections explain 01890000-0000-7000-8000-000000000000",
            "replay --source stripe --type invoice.* --status dead --since 2h --until 1h --to billing --rate 5/s --limit 9 --dry-run --yes",
            "replay 01890000-0000-7000-8000-000000000000 01890000-0000-7000-8000-000000000001 -q",
            "replay --resume 01890000-0000-7000-8000-000000000000",
            "destinations list",
            "destinations pause billing",
            "destinations resume billing",
            "sources list",
            "ledger list --run r --status unknown --tenant t --since 2h --limit 5",
            "ledger runs order- --tenant t --limit 5",
            "ledger show run",
            "ledger show run step --tenant t",
            "ledger resolve run step --outcome not-executed --evidence x --fence 3",
            "mcp serve --server http://127.0.0.1:8081",
            "mcp serve --allow-write",
            "tokens create --scope ledger --tenant t",
            "tokens create --scope read --scope ledger",
            "tokens list",
            "tokens revoke 01890000-0000-7000-8000-000000000000",
            "providers list",
            "providers show stripe",
            "config check",
            "config show",
            "config schema",
            "db install",
            "db migrate",
            "db status",
            "db prune",
            "status --output json",
            "ready --wait 30s --server http://127.0.0.1:8081",
            "completions bash",
            "man",
        ] {
            let arguments = std::iter::once("hookonce").chain(line.split(' '));
            assert!(Cli::try_parse_from(arguments).is_ok(), "{line}");
        }
    }

    /// Each `hookonce …` in a block of commands, as its words. Two spaces part commands of one line.
    fn commands_of(document: &str) -> Vec<Vec<String>> {
        let blocks = document
            .split("```")
            .skip(1)
            .step_by(2)
            .filter_map(|block| block.strip_prefix("sh\n"));
        let commands = blocks.flat_map(|block| block.lines()).flat_map(|line| {
            let uncommented = line.split(" #").next().unwrap_or_default();
            uncommented.split("  ").map(str::trim)
        });
        commands
            .filter(|command| command.starts_with("hookonce "))
            .map(|command| command.split(" | ").next().unwrap_or_default())
            .map(|command| {
                shlex::split(command).unwrap_or_else(|| panic!("no end of a quote: {command}"))
            })
            .collect()
    }

    #[test]
    fn the_commands_of_the_documents_parse() {
        let id = "01890000-0000-7000-8000-000000000000";
        let mut found = 0;
        let documents = std::fs::read_dir("docs").unwrap();
        let documents = documents.map(|entry| entry.unwrap().path());
        for path in documents.chain(["README.md".into(), "clients/README.md".into()]) {
            let Ok(text) = std::fs::read_to_string(&path) else {
                continue;
            };
            for words in commands_of(&text.replace("\\\n", " ")) {
                let words = words.iter().map(|word| match word.as_str() {
                    "ID" => id,
                    word => word,
                });
                let parsed = Cli::try_parse_from(words.clone());
                let line: Vec<&str> = words.collect();
                assert!(parsed.is_ok(), "{}: {line:?}", path.display());
                found += 1;
            }
        }
        assert!(found > 30, "{found} commands");
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        for line in [
            "events show 17",
            "replay --rate 0/s --source stripe",
            "replay",
            "replay --status alive",
            "tokens create",
            "ledger resolve run step --outcome done",
            "verify --provider stripe",
            "ready --wait 30",
            "send",
        ] {
            let arguments = std::iter::once("hookonce").chain(line.split(' '));
            assert!(Cli::try_parse_from(arguments).is_err(), "{line}");
        }
    }
}
