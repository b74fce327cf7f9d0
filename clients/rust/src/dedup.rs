//! Dedup under a lease: whoever brings a key first handles it, and says so when that is done.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use crate::{error::Error, ledger::Ledger};

impl Ledger {
    /// Like [`Ledger::dedup`], under a lease. Handle the key if it is the first, then call
    /// [`DedupLease::done`]; if you don't, the key is free again after the lease. For work that may
    /// take longer than that, see [`DedupLease::heartbeat`]; [`Ledger::dedup_handle`] does all of
    /// it.
    ///
    /// # Errors
    ///
    /// [`Error::KeyLeased`] while another consumer handles the key, and those of [`Ledger::dedup`].
    pub async fn dedup_leased(
        &self,
        scope: &str,
        key: &str,
        window: Duration,
        lease: Duration,
    ) -> Result<DedupLease, Error> {
        let fence = self.protocol.mark(scope, key, window, Some(lease)).await?;
        Ok(DedupLease {
            ledger: self.clone(),
            scope: scope.to_owned(),
            key: key.to_owned(),
            fence,
        })
    }

    /// Handles a key once, under a lease: heartbeats keep it for as long as the work runs, its end
    /// marks the key for the window. `None`: the key was handled before.
    ///
    /// An error of the work, and dropping this future, give the key back at once. Work that loses
    /// its lease is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Work`] with the work's own error, [`Error::KeyLeased`] while another consumer
    /// handles the key, [`Error::LeaseLost`] if another has it now, and those of
    /// [`Ledger::dedup`].
    pub async fn dedup_handle<T, E, F>(
        &self,
        scope: &str,
        key: &str,
        window: Duration,
        lease: Duration,
        work: impl FnOnce() -> F,
    ) -> Result<Option<T>, Error>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        F: Future<Output = Result<T, E>>,
    {
        let held = self.dedup_leased(scope, key, window, lease).await?;
        if !held.is_first() {
            return Ok(None);
        }
        let mut held = Releasing(Some(held));
        let ended = match &held.0 {
            Some(held) => tokio::select! {
                ended = work() => ended,
                lost = held.beat(lease) => return Err(lost),
            },
            None => return Ok(None),
        };
        // Dropped on the way, it gives the key back.
        let result = ended.map_err(|error| Error::Work(error.into()))?;
        match held.0.take() {
            Some(held) => held.done().await.map(|()| Some(result)),
            None => Ok(None),
        }
    }
}

/// A key under a lease, or one that was handled before.
pub struct DedupLease {
    ledger: Ledger,
    scope: String,
    key: String,
    /// `None` if the key was handled before.
    fence: Option<i64>,
}

impl DedupLease {
    /// Whether the key is the caller's to handle. If not, it was handled before.
    pub fn is_first(&self) -> bool {
        self.fence.is_some()
    }

    /// Says that the key is handled. Does nothing if it was handled before.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`] if another consumer has the key now, [`Error::Unavailable`] and
    /// [`Error::Refused`].
    pub async fn done(&self) -> Result<(), Error> {
        match self.fence {
            Some(fence) => {
                let protocol = &self.ledger.protocol;
                protocol.mark_done(&self.scope, &self.key, fence).await
            }
            None => Ok(()),
        }
    }

    /// Extends the lease: it ends `lease` from now. Does nothing if the key was handled before.
    ///
    /// # Errors
    ///
    /// Those of [`DedupLease::done`].
    pub async fn heartbeat(&self, lease: Duration) -> Result<(), Error> {
        self.extend(lease, None).await
    }

    async fn extend(&self, lease: Duration, give_up: Option<Duration>) -> Result<(), Error> {
        match self.fence {
            Some(fence) => {
                let protocol = &self.ledger.protocol;
                protocol
                    .mark_heartbeat(&self.scope, &self.key, fence, lease, give_up)
                    .await
            }
            None => Ok(()),
        }
    }

    /// Gives the key back: the next consumer is the first, at once. Does nothing if it was handled
    /// before.
    ///
    /// # Errors
    ///
    /// Those of [`DedupLease::done`].
    pub async fn release(&self) -> Result<(), Error> {
        match self.fence {
            Some(fence) => {
                let protocol = &self.ledger.protocol;
                protocol.mark_release(&self.scope, &self.key, fence).await
            }
            None => Ok(()),
        }
    }

    /// Beats at a third of the lease. Ends if that is lost.
    async fn beat(&self, lease: Duration) -> Error {
        let interval = lease / 3;
        let mut last = Instant::now();
        loop {
            tokio::time::sleep(interval.saturating_sub(last.elapsed())).await;
            last = Instant::now();
            // After any other error the next beat may get through.
            if let Err(lost @ Error::LeaseLost(_)) = self.extend(lease, Some(interval)).await {
                return lost;
            }
        }
    }
}

/// Gives the key back when it is dropped.
struct Releasing(Option<DedupLease>);

impl Drop for Releasing {
    fn drop(&mut self) {
        if let (Some(held), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            // If the service does not hear this, the lease ends all the same.
            runtime.spawn(async move {
                let _ = held.release().await;
            });
        }
    }
}
