//! Measures hookonce's release binary over HTTP, from this process, on a private PostgreSQL:
//! `bench/run`, or `bench/run --quick`.

mod bare;
mod cases;
mod child;
mod events;
mod flow;
mod handler;
mod hookonce;
mod instructions;
mod load;
mod pgbench;
mod plot;
mod postgres;
mod processor;
mod profile;
mod random;
mod report;
mod round;
mod side;
mod steps;
mod table;
mod times;

use std::{
    cell::{Cell, RefCell},
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Parser;

use crate::report::{Case, Report};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What disturbed rounds may cost in all.
const REPEATS: u32 = 12;
const REPEATS_QUICK: u32 = 8;
/// A run that takes longer ends with what it has.
const AT_MOST: Duration = Duration::from_secs(15 * 60 - 10);
const AT_MOST_QUICK: Duration = Duration::from_secs(3 * 60 - 5);

#[derive(Debug, Parser)]
#[command(about = "Measures hookonce; see bench/README.md")]
struct Arguments {
    /// One short round and fewer events: for a look, not for figures
    #[arg(long)]
    quick: bool,
    /// Only the cases with this in their name
    #[arg(long)]
    only: Vec<String>,
    /// The names of the cases
    #[arg(long)]
    list: bool,
    /// hookonce's release binary; default: beside this program
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Another version's release binary, to compare with: the case "versions" alone, unless others
    /// are named
    #[arg(long)]
    against: Option<PathBuf>,
    /// The folder of PostgreSQL's programs; default: that of PATH, else the newest installed
    #[arg(long)]
    postgres: Option<PathBuf>,
    /// Where bench/setup put the peers; default: bench-peers in the folder above this program's
    #[arg(long)]
    peers: Option<PathBuf>,
    /// Where report.json, report.md and the plots go
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
    /// Where the databases are made, on a disk; removed at the end
    #[arg(long, default_value = "/var/tmp")]
    scratch: PathBuf,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Part {
    /// Send signed events to a hookonce that runs already (with the benchmark's secrets), for a
    /// profiler to look at
    Load(profile::Arguments),
    /// Count instructions an acknowledged event, and compare with those recorded
    Instructions(instructions::Arguments),
    /// The handler that hookonce is compared with (started by the benchmark itself)
    #[command(hide = true)]
    BareHandler {
        #[arg(long)]
        port: u16,
    },
}

/// What the cases share.
pub struct Bench {
    pub quick: bool,
    pub folder: PathBuf,
    pub postgres: postgres::Postgres,
    pub hookonce: hookonce::Installed,
    /// The version to compare with.
    pub against: Option<hookonce::Installed>,
    /// Where the peers may be.
    pub peers: PathBuf,
    repeats: Cell<u32>,
    missing: RefCell<Vec<String>>,
}

impl Bench {
    pub fn rounds(&self) -> usize {
        if self.quick { 1 } else { 5 }
    }

    /// How long a round is measured.
    pub fn window(&self) -> Duration {
        Duration::from_millis(if self.quick { 500 } else { 1500 })
    }

    /// The same where many sides are measured, or much that is short.
    pub fn short_window(&self) -> Duration {
        Duration::from_millis(if self.quick { 400 } else { 750 })
    }

    pub fn missing(&self, what: &str) {
        eprintln!("  not measured: {what}");
        self.missing.borrow_mut().push(what.to_owned());
    }

    /// Whether a disturbed round may be measured once more.
    pub fn take_repeat(&self) -> bool {
        let left = self.repeats.get();
        self.repeats.set(left.saturating_sub(1));
        left > 0
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.part.clone() {
        Some(Part::BareHandler { port }) => bare::serve(port),
        Some(Part::Load(load)) => profile::run(&load),
        None if arguments.list => {
            cases::NAMES.iter().for_each(|name| println!("{name}"));
            Ok(())
        }
        Some(Part::Instructions(_)) | None => measure(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// On this thread alone: children end with the thread that started them.
fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let folder = arguments
        .scratch
        .join(format!("hookonce-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = run(arguments, &folder) => result,
            result = tokio::signal::ctrl_c() => { result?; anyhow::bail!("interrupted") }
        }
    });
    // Its tasks hold connections; the children are gone with what `run` held.
    drop(runtime);
    let _ = fs::remove_dir_all(&folder);
    result
}

async fn run(arguments: &Arguments, folder: &Path) -> anyhow::Result<()> {
    let begin = Instant::now();
    let binary = arguments.binary.clone().map_or_else(beside, Ok)?;
    let binaries = postgres::find(arguments.postgres.as_deref())?;
    let postgres = postgres::Postgres::start(folder, &binaries).await?;
    let bench = Bench {
        quick: arguments.quick,
        folder: folder.to_path_buf(),
        hookonce: hookonce::Installed {
            binary,
            folder: folder.to_path_buf(),
        },
        against: arguments.against.clone().map(|binary| hookonce::Installed {
            binary,
            folder: folder.to_path_buf(),
        }),
        peers: arguments.peers.clone().map_or_else(beside_target, Ok)?,
        repeats: Cell::new(if arguments.quick {
            REPEATS_QUICK
        } else {
            REPEATS
        }),
        missing: RefCell::default(),
        postgres,
    };
    if let Some(Part::Instructions(arguments)) = &arguments.part {
        let counted = instructions::run(&bench, arguments).await;
        bench.postgres.stop().await;
        return counted;
    }
    let mut report = describe(&bench).await?;
    fs::create_dir_all(&arguments.output)?;
    let at_most = if arguments.quick {
        AT_MOST_QUICK
    } else {
        AT_MOST
    };
    for name in cases::NAMES {
        let is_wanted = match arguments.only.as_slice() {
            [] => cases::is_extra(name) == arguments.against.is_some(),
            only => only.iter().any(|only| name.contains(only.as_str())),
        };
        if !is_wanted {
            continue;
        }
        eprintln!("{name}");
        let before = begin.elapsed();
        bench.postgres.clear().await?;
        match tokio::time::timeout(at_most.saturating_sub(before), cases::run(&bench, name)).await {
            Ok(Ok(case)) => report.cases.push(Case {
                seconds: (begin.elapsed() - before).as_secs_f64(),
                ..case
            }),
            Ok(Err(error)) => bench.missing(&format!("{name}: {error:#}")),
            Err(_) => bench.missing(&format!("{name}: the run's time was over")),
        }
        report.seconds = begin.elapsed().as_secs_f64();
        eprintln!(
            "{name}: {:.0} s, {:.0} s in all",
            report.seconds - before.as_secs_f64(),
            report.seconds
        );
        report.missing.clone_from(&bench.missing.borrow());
        write(&report, &arguments.output)?;
    }
    bench.postgres.stop().await;
    println!("{}", table::markdown(&report));
    eprintln!(
        "report.json, report.md and the plots are in {}",
        arguments.output.display()
    );
    Ok(())
}

fn beside() -> anyhow::Result<PathBuf> {
    let binary = std::env::current_exe()?.with_file_name("hookonce");
    anyhow::ensure!(
        binary.exists(),
        "{} is not there: cargo build --release, or give --binary",
        binary.display()
    );
    Ok(binary)
}

fn beside_target() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program
        .ancestors()
        .nth(2)
        .unwrap_or(Path::new("."))
        .join("bench-peers"))
}

async fn describe(bench: &Bench) -> anyhow::Result<Report> {
    let first = |command: &mut Command| {
        let output = command.output().map(|output| {
            String::from_utf8_lossy(&output.stdout)
                .lines()
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned()
        });
        output.unwrap_or_default()
    };
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let count = std::thread::available_parallelism().map_or(1, |count| count.get());
    let postgres: String = bench
        .postgres
        .connect("postgres")
        .await?
        .query_one("select version()", &[])
        .await?
        .get(0);
    let commit = first(Command::new("git").args(["rev-parse", "--short", "HEAD"]));
    Ok(Report {
        at: first(Command::new("date").args(["-u", "+%F %R UTC"])),
        quick: bench.quick,
        machine: format!(
            "{count} × {model}, {}",
            first(Command::new("uname").args(["-sr"]))
        ),
        hookonce: format!(
            "{} at {commit}",
            first(Command::new(&bench.hookonce.binary).arg("--version"))
        ),
        postgres: postgres.split(" on ").next().unwrap_or_default().to_owned(),
        ..Report::default()
    })
}

fn write(report: &Report, output: &Path) -> anyhow::Result<()> {
    fs::write(
        output.join("report.json"),
        serde_json::to_vec_pretty(report)?,
    )?;
    fs::write(output.join("report.md"), table::markdown(report))?;
    plot::draw(report, output)
}
