//! How a process is asked to stop: first softly (finish what has begun, begin nothing new), then
//! hard (give up at once). This says when to stop. In which order is the concern of whoever started
//! the tasks.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two tokens that every task watches. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when nothing new may begin.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when work that has begun is to be given up too. It is never cancelled before
    /// `soft`.
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    pub fn stop(&self) {
        self.soft.cancel();
    }

    pub fn stop_hard(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Stops softly at the first SIGINT or SIGTERM and hard at the second. The handlers are in
    /// place when this returns, so a signal during the start is not lost. The task ends at the hard
    /// stop; to exit on it, watch `hard`.
    pub fn on_signals(&self) -> io::Result<tokio::task::JoinHandle<()>> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let shutdown = self.clone();
        Ok(tokio::spawn(async move {
            shutdown.follow(&mut interrupt, &mut terminate).await;
        }))
    }

    async fn follow(&self, interrupt: &mut Signal, terminate: &mut Signal) {
        for stop in [Self::stop, Self::stop_hard] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                () = self.hard.cancelled() => return,
            }
            stop(self);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hard_stop_is_a_soft_one_too() {
        let shutdown = Shutdown::new();
        let seen = shutdown.clone();
        shutdown.stop();
        assert!(seen.soft().is_cancelled() && !seen.hard().is_cancelled());
        let other = Shutdown::new();
        other.stop_hard();
        assert!(other.soft().is_cancelled() && other.hard().is_cancelled());
    }
}
