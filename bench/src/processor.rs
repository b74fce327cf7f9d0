//! Who used the processors: reads /proc before and after a stretch of time and splits what was used
//! among the parties. Linux alone.

use std::{collections::HashMap, fs, time::Instant};

use serde::Serialize;

/// The kernel's threads are children of this one.
const KTHREADD: i32 = 2;

/// A party is a process with all it started, but for those that are parties themselves.
#[derive(Clone, Copy, Debug)]
pub struct Party {
    pub name: &'static str,
    pub pid: i32,
}

struct Process {
    parent: i32,
    /// Its own, and that of children it has waited for.
    own: u64,
    reaped: u64,
}

/// Nanoseconds used up to now.
pub struct Snapshot {
    pub at: Instant,
    stolen: u64,
    kernel: u64,
    parties: Vec<(&'static str, u64)>,
    others: u64,
}

/// What each used between two snapshots, in seconds of one processor.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Used {
    pub seconds: f64,
    pub parties: Vec<(String, f64)>,
    pub kernel: f64,
    /// All other processes of this machine, and what the hypervisor gave to others.
    pub others: f64,
}

impl Used {
    /// Of all processes under this name.
    pub fn of(&self, party: &str) -> f64 {
        self.parties
            .iter()
            .filter(|(name, _)| name == party)
            .map(|(_, seconds)| seconds)
            .sum()
    }

    /// Others' share of all processors.
    pub fn others_share(&self) -> f64 {
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get()) as f64;
        self.others / (self.seconds * processors)
    }
}

impl Snapshot {
    pub fn take(parties: &[Party]) -> Self {
        let mut snapshot = Self {
            at: Instant::now(),
            stolen: stolen(),
            kernel: 0,
            parties: parties.iter().map(|party| (party.name, 0)).collect(),
            others: 0,
        };
        let processes = processes();
        for (pid, process) in &processes {
            let used = match owner(*pid, &processes, parties) {
                Some(at) => &mut snapshot.parties[at].1,
                None if process.parent == KTHREADD => &mut snapshot.kernel,
                None => &mut snapshot.others,
            };
            // Our own process has waited for servers and rounds that are over.
            let reaped = if *pid == own_pid() { 0 } else { process.reaped };
            *used += process.own + reaped;
        }
        snapshot
    }

    pub fn until(&self, later: &Self) -> Used {
        let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e9;
        let parties: Vec<(String, f64)> = (self.parties.iter().zip(&later.parties))
            .map(|((name, from), (_, to))| ((*name).to_owned(), seconds(*from, *to)))
            .collect();
        let others = seconds(self.others, later.others) + seconds(self.stolen, later.stolen);
        let kernel = seconds(self.kernel, later.kernel);
        Used {
            seconds: later.at.duration_since(self.at).as_secs_f64(),
            parties,
            kernel,
            others,
        }
    }
}

pub fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

/// The party that a process belongs to: the first one met on the way up.
fn owner(pid: i32, processes: &HashMap<i32, Process>, parties: &[Party]) -> Option<usize> {
    let mut pid = pid;
    while pid > 1 {
        if let Some(at) = parties.iter().position(|party| party.pid == pid) {
            return Some(at);
        }
        pid = processes.get(&pid)?.parent;
    }
    None
}

fn tick_ns() -> u64 {
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .and_then(|ticks| u64::try_from(ticks).ok());
    1_000_000_000 / per_second.unwrap_or(100)
}

/// What the hypervisor gave to others, of all processors.
fn stolen() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    text.split_whitespace()
        .nth(8)
        .and_then(|field| field.parse::<u64>().ok())
        .unwrap_or(0)
        * tick_ns()
}

fn processes() -> HashMap<i32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let tick_ns = tick_ns();
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name is in brackets and may hold anything.
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            let number = |at: usize| {
                fields
                    .get(at)
                    .and_then(|field| field.parse::<u64>().ok())
                    .unwrap_or(0)
            };
            let parent = fields.get(1)?.parse().ok()?;
            let exact = if number(17) == 1 {
                on_processor(pid)
            } else {
                None
            };
            let own = exact.unwrap_or((number(11) + number(12)) * tick_ns);
            Some((
                pid,
                Process {
                    parent,
                    own,
                    reaped: (number(13) + number(14)) * tick_ns,
                },
            ))
        })
        .collect()
}

/// To the nanosecond, of a process with one thread: hundreds of young backends have not used a
/// whole tick each.
fn on_processor(pid: i32) -> Option<u64> {
    fs::read_to_string(format!("/proc/{pid}/schedstat"))
        .ok()?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// The most memory that a process held since the last reset, in bytes.
pub fn peak_memory(pid: i32) -> u64 {
    memory(pid, "VmHWM:")
}

pub fn resident_memory(pid: i32) -> u64 {
    memory(pid, "VmRSS:")
}

pub fn reset_peak_memory(pid: i32) {
    // 5: see proc(5), /proc/pid/clear_refs. Without the right to do so the peak is that of the
    // whole life.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

fn memory(pid: i32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap_or_default();
    line.split_whitespace()
        .next()
        .and_then(|kib| kib.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}
