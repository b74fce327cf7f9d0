//! What the admin port's handlers share. Built once by the wiring; nothing here opens a connection.

use std::{collections::BTreeSet, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock, http::tokens::Tokens, intake::receiver::Intake, provider::Catalog,
    settings::Settings, store::link::Db, tail::Tail,
};

pub struct AdminState {
    pub pool: Db,
    pub clock: Clock,
    pub tokens: Tokens,
    /// Names by which this machine is called in a Host header, beside IP addresses and localhost.
    /// Lower-case.
    pub own_names: Vec<String>,
    /// Swapped by a reload.
    pub settings: Arc<ArcSwap<Settings>>,
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// The sources in force, and what was refused.
    pub intake: Arc<Intake>,
    pub tail: Tail,
    /// Destinations that are paused, as far as this process knows; the database has the last word.
    pub paused: Arc<ArcSwap<BTreeSet<String>>>,
    /// Tells this process's relay that something may be due.
    pub hint: Arc<Notify>,
    /// Cancelled when the service stops: streams end.
    pub closing: CancellationToken,
}

impl AdminState {
    /// Notes a pause or its end in this process; other processes see it in the database.
    pub fn set_paused(&self, destination: &str, paused: bool) {
        self.paused.rcu(|old| {
            let mut new = BTreeSet::clone(old);
            if paused {
                new.insert(destination.to_owned());
            } else {
                new.remove(destination);
            }
            new
        });
    }
}
