//! Secrets that come in a handshake: they are stored before the handshake is answered, and then in
//! force. The database decides which one came first, and other nodes read it there (`node` has them
//! look). The provider layer decides which handshake brings a secret.

use std::sync::Arc;

use arc_swap::ArcSwap;
use secrecy::SecretString;
use tokio::sync::{Notify, Semaphore};

use crate::{
    group_commit::CommitError,
    intake::sources::{Source, Sources},
    store::{
        learnt::{LearntSecret, learnt_keep},
        link::Db,
    },
};

pub struct Learning {
    pool: Db,
    /// The sender of a handshake is not verified yet, so only one at a time may cost a query.
    turn: Arc<Semaphore>,
    /// The secrets as the database had them when it was last read.
    pub known: ArcSwap<Vec<LearntSecret>>,
    /// Tells that the database has to be read now.
    pub changed: Arc<Notify>,
}

/// Whether a secret was stored.
pub enum Learnt {
    Yes,
    /// Another secret came first.
    No,
}

impl Learning {
    pub fn new(pool: Db, known: Vec<LearntSecret>) -> Self {
        Self {
            pool,
            turn: Arc::new(Semaphore::new(1)),
            known: ArcSwap::from_pointee(known),
            changed: Arc::default(),
        }
    }

    /// Stores the secret, and lets this node's sources verify with it.
    pub async fn keep(
        &self,
        source: &Source,
        secret: &SecretString,
        sources: &ArcSwap<Sources>,
    ) -> Result<Learnt, CommitError> {
        let turn = self
            .turn
            .clone()
            .try_acquire_owned()
            .map_err(|_| CommitError::Busy)?;
        let (pool, name, kept) = (self.pool.clone(), source.name.clone(), secret.clone());
        // This runs on its own task, so that a client that goes away leaves nothing half-done.
        let keeping = tokio::spawn(async move {
            let _turn = turn;
            learnt_keep(&pool, &name, &kept).await
        });
        match tokio::time::timeout(source.ack_budget, keeping).await {
            Ok(Ok(Ok(true))) => {}
            Ok(Ok(Ok(false))) => return Ok(Learnt::No),
            Ok(Ok(Err(error))) => {
                tracing::error!(source = %source.name, error = &error as &dyn std::error::Error, "the secret of a handshake was not kept");
                return Err(CommitError::Unavailable);
            }
            Ok(Err(_)) | Err(_) => return Err(CommitError::Unavailable),
        }
        sources.rcu(|sources| sources.with_secret(&source.name, secret));
        self.changed.notify_one();
        tracing::warn!(source = %source.name, "the source has learnt its secret in a handshake: no other is taken until it is forgotten");
        Ok(Learnt::Yes)
    }
}
