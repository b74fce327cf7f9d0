//! What one run of the server holds between calls: the client of the admin API, which replays were
//! counted, and how many calls run at once.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use rmcp::{Peer, RoleServer, model::ProgressNotificationParam, model::ProgressToken};
use tokio::sync::Semaphore;

use super::counted::DryRuns;
use crate::{
    cli::{Globals, client::Client},
    contract::{OwnToken, Scope},
};

/// Calls at once; further ones are refused, so that a client in a loop can't pile them up.
const CALLS_MAX: usize = 16;

pub struct Session {
    globals: Globals,
    pub allow_write: bool,
    client: Mutex<Option<Arc<Client>>>,
    dry_runs: Mutex<DryRuns>,
    pub calls: Semaphore,
}

impl Session {
    pub fn new(globals: Globals, allow_write: bool) -> Self {
        Self {
            globals,
            allow_write,
            client: Mutex::default(),
            dry_runs: Mutex::default(),
            calls: Semaphore::new(CALLS_MAX),
        }
    }

    /// The admin API. It is looked for at the first call, so that the agent's program may start
    /// before the service, and again after `forget`.
    pub fn client(&self) -> anyhow::Result<Arc<Client>> {
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        let client = Arc::new(Client::find(&self.globals)?);
        *kept = Some(client.clone());
        Ok(client)
    }

    /// After a failure: a local service that has started anew has another address and token.
    pub fn forget(&self) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether the token may operate. Where that can't be asked, it counts as one that may not.
    pub async fn may_operate(&self) -> bool {
        let Ok(client) = self.client() else {
            return false;
        };
        match client.get::<OwnToken>("/api/v1/token").await {
            Ok(own) => own.scopes.contains(&Scope::Operate),
            Err(_) => {
                self.forget();
                false
            }
        }
    }

    pub fn dry_runs<T>(&self, change: impl FnOnce(&mut DryRuns, Instant) -> T) -> T {
        let mut runs = self.dry_runs.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut runs, Instant::now())
    }
}

/// Tells the caller how far a call has come, if it asked for that.
pub struct Reporter {
    pub peer: Peer<RoleServer>,
    pub token: Option<ProgressToken>,
}

impl Reporter {
    pub async fn say(&self, progress: f64, total: f64, message: String) {
        let Some(token) = &self.token else {
            return;
        };
        let said = ProgressNotificationParam::new(token.clone(), progress)
            .with_total(total)
            .with_message(message);
        // A client that has gone away ends the whole server, which is seen elsewhere.
        let _ = self.peer.notify_progress(said).await;
    }
}
