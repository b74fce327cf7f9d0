//! Who used the processors: reads /proc before and after a stretch of time and splits what was used among the parties. Linux alone.

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
    busy: u64,
    stolen: u64,
    kernel: u64,
    parties: Vec<(&'static str, u64)>,
}

/// What each used between two snapshots, in seconds of one processor.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Used {
    pub seconds: f64,
    pub parties: Vec<(String, f64)>,
    /// Kernel threads and interrupts, which no process is charged for.
    pub kernel: f64,
    /// Everything else on this machine, and what the hypervisor gave to others.
    pub others: f64,
}

impl Used {
    pub fn of(&self, party: &str) -> f64 {
        self.parties.iter().find(|(name, _)| name == party).map_or(0.0, |(_, seconds)| *seconds)
    }

    /// Others' share of all processors.
    pub fn others_share(&self) -> f64 {
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get()) as f64;
        self.others / (self.seconds * processors)
    }
}

impl Snapshot {
    pub fn take(parties: &[Party]) -> Self {
        let at = Instant::now();
        let (busy, stolen) = busy();
        let processes = processes();
        let kernel = processes.values().filter(|process| process.parent == KTHREADD).map(|process| process.own).sum();
        let mut used: Vec<(&'static str, u64)> = parties.iter().map(|party| (party.name, 0)).collect();
        for (pid, process) in &processes {
            if let Some(at) = owner(*pid, &processes, parties) {
                // Our own process has waited for servers and rounds that are over.
                let reaped = if *pid == own_pid() { 0 } else { process.reaped };
                used[at].1 += process.own + reaped;
            }
        }
        Self { at, busy, stolen, kernel, parties: used }
    }

    pub fn until(&self, later: &Self) -> Used {
        let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e9;
        let parties: Vec<(String, f64)> =
            (self.parties.iter().zip(&later.parties)).map(|((name, from), (_, to))| ((*name).to_owned(), seconds(*from, *to))).collect();
        let ours: f64 = parties.iter().map(|(_, used)| used).sum();
        let kernel = seconds(self.kernel, later.kernel);
        let stolen = seconds(self.stolen, later.stolen);
        let others = (seconds(self.busy, later.busy) - ours - kernel).max(0.0) + stolen;
        Used { seconds: later.at.duration_since(self.at).as_secs_f64(), parties, kernel, others }
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
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok());
    1_000_000_000 / per_second.unwrap_or(100)
}

/// User, nice and system time over all processors; interrupts are left out, for no party is charged for them. And what was stolen.
fn busy() -> (u64, u64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> =
        text.lines().next().unwrap_or_default().split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let field = |at: usize| fields.get(at).copied().unwrap_or(0) * tick_ns();
    (field(0) + field(1) + field(2), field(7))
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
            let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
            let parent = fields.get(1)?.parse().ok()?;
            let exact = if number(17) == 1 { on_processor(pid) } else { None };
            let own = exact.unwrap_or((number(11) + number(12)) * tick_ns);
            Some((pid, Process { parent, own, reaped: (number(13) + number(14)) * tick_ns }))
        })
        .collect()
}

/// To the nanosecond, of a process with one thread: hundreds of young backends have not used a whole tick each.
fn on_processor(pid: i32) -> Option<u64> {
    fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?.split_whitespace().next()?.parse().ok()
}

/// The most memory that a process held since the last reset, in bytes.
pub fn peak_memory(pid: i32) -> u64 {
    memory(pid, "VmHWM:")
}

pub fn resident_memory(pid: i32) -> u64 {
    memory(pid, "VmRSS:")
}

pub fn reset_peak_memory(pid: i32) {
    // 5: see proc(5), /proc/pid/clear_refs. Without the right to do so the peak is that of the whole life.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

fn memory(pid: i32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}
