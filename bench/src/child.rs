//! Processes that the benchmark starts: each ends with it, in whatever way it ends.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    sys::{prctl, signal::Signal},
    unistd::Pid,
};

const POLL: Duration = Duration::from_millis(5);

/// A running child, killed when dropped.
pub struct Running {
    child: Child,
    name: String,
    /// What asks it to stop.
    signal: Signal,
}

impl Running {
    /// Starts it with its output in a file. Must be called on the main thread: the kernel ends the
    /// child with the thread that made it.
    pub fn start(
        mut command: Command,
        name: &str,
        signal: Signal,
        log: &Path,
    ) -> anyhow::Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("can't write {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        // In a group of its own: Ctrl-C reaches the benchmark alone, which then stops its children
        // in order.
        command.process_group(0);
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; prctl is a bare
        // system call.
        unsafe {
            command.pre_exec(move || prctl::set_pdeathsig(signal).map_err(std::io::Error::from));
        }
        let child = command
            .spawn()
            .with_context(|| format!("can't start {name} ({})", command.get_program().display()))?;
        Ok(Self {
            child,
            name: name.to_owned(),
            signal,
        })
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Fails where it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("{} ended: {status}", self.name),
        }
    }

    /// Asks it to stop, and kills it after `within`.
    pub async fn stop(mut self, within: Duration) {
        let _ = nix::sys::signal::kill(Pid::from_raw(self.pid()), self.signal);
        let deadline = Instant::now() + within;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = nix::sys::signal::kill(Pid::from_raw(self.pid()), self.signal);
            let deadline = Instant::now() + Duration::from_secs(3);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(POLL);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
