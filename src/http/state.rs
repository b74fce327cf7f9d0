//! What the admin port's handlers share. `node` builds it once, and nothing here opens a
//! connection.

use std::{collections::BTreeSet, sync::Arc};

use arc_swap::ArcSwap;
use hookonce_scheme::Catalog;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    delivery::relays::Relays,
    http::{gauged::Gauged, tokens::Tokens},
    intake::receiver::Intake,
    settings::Settings,
    store::link::Db,
    tail::Tail,
};

pub struct AdminState {
    pub pool: Db,
    pub clock: Clock,
    pub tokens: Tokens,
    /// Names in lower case by which a Host header may call this machine, beside IP addresses and
    /// localhost.
    pub own_names: Vec<String>,
    /// The settings in force; a reload swaps them.
    pub settings: Arc<ArcSwap<Settings>>,
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// The sources in force, and the rejections.
    pub intake: Arc<Intake>,
    pub tail: Tail,
    pub relays: Arc<Relays>,
    /// How many claims wait for a step that another executes.
    pub claims_waiting: watch::Receiver<usize>,
    pub gauged: Gauged,
    /// Destinations that are paused, as far as this process knows. The database decides.
    pub paused: Arc<ArcSwap<BTreeSet<String>>>,
    /// Tells this process's relay that deliveries may be due.
    pub hint: Arc<Notify>,
    /// Cancelled when the service stops, which ends the streams.
    pub closing: CancellationToken,
}

impl AdminState {
    /// Notes a pause or its end in this process. Other processes read it from the database.
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
