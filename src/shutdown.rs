//! How a process is asked to stop: softly first (finish what is begun, take nothing new), then hard
//! (let go at once). It says when, not what: the order of stopping belongs to whoever started the
//! tasks.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two tokens every task watches. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when nothing new is to be begun.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when what is begun is to be given up as well. Never before `soft`.
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
    /// place when this returns, so a signal that comes during the start is not lost. The task ends
    /// at the hard stop; whoever exits on that does so by watching `hard`.
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
