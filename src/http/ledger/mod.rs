//! The ledger over HTTP: `/v1/runs/{run}/steps/{step}/…` and `/v1/dedup/{scope}`, on the admin port
//! and on a port of its own. This file has the table of its routes. The decisions are made in
//! `store::ledger` and `store::dedup`.

mod calls;
mod claim;
mod complete;
mod dedup;
mod emit;
mod place;
mod read;
mod resolve;

use actix_web::web;

pub use self::read::step_of;
use super::{
    table::{Entry, Face, get, post},
    tokens::Need::{Ledger, LedgerRead},
};

/// Adds `/v1` to the admin port. The application has to provide `web::Data` of `AdminState` and
/// `Ledger`.
pub fn configure(config: &mut web::ServiceConfig, call_bytes_max: usize) {
    face().mount(config, call_bytes_max, true);
}

/// Adds `/v1` to a port of its own. Workers on other machines may call it by any name, so the Host
/// header is not checked.
pub fn configure_alone(config: &mut web::ServiceConfig, call_bytes_max: usize) {
    face().mount(config, call_bytes_max, false);
}

pub fn face() -> Face {
    Face {
        prefix: "/v1",
        tag: "ledger",
        strangers: (LedgerRead, Ledger),
        entries: [of_runs(), of_holders(), of_keys()]
            .into_iter()
            .flatten()
            .collect(),
    }
}

/// The routes that read, and those with which anybody may ask or say something about a step.
fn of_runs() -> Vec<Entry> {
    vec![
        get(
            "/runs",
            LedgerRead,
            read::runs,
            "Runs by name, with how many of their steps are in each state",
        ),
        get(
            "/runs/{run}/steps",
            LedgerRead,
            read::run,
            "The steps of a run with their results: a whole resume",
        ),
        get(
            "/runs/{run}/steps/{step}",
            LedgerRead,
            read::step,
            "A step with its result",
        )
        .or(&[404]),
        post(
            "/runs/{run}/steps/{step}/claim",
            Ledger,
            claim::claim,
            "Asks to execute a step",
        )
        .or(&[409, 422]),
        post(
            "/runs/{run}/steps/{step}/resolve",
            Ledger,
            resolve::resolve,
            "Says what came of a step whose holder was lost",
        )
        .or(&[404, 409, 413]),
    ]
}

/// What the holder of a step says.
fn of_holders() -> Vec<Entry> {
    vec![
        post(
            "/runs/{run}/steps/{step}/heartbeat",
            Ledger,
            calls::heartbeat,
            "Extends the lease",
        )
        .or(&[404, 409]),
        post(
            "/runs/{run}/steps/{step}/complete",
            Ledger,
            complete::complete,
            "Records the result, and the events that it emits",
        )
        .or(&[404, 409, 413, 422]),
        post(
            "/runs/{run}/steps/{step}/release",
            Ledger,
            calls::release,
            "Gives a step back that was not executed",
        )
        .or(&[404, 409]),
        post(
            "/runs/{run}/steps/{step}/abandon",
            Ledger,
            calls::abandon,
            "Says that the holder stops and does not know the outcome",
        )
        .or(&[404, 409, 413]),
    ]
}

/// Dedup for consumers.
fn of_keys() -> Vec<Entry> {
    vec![
        post(
            "/dedup/{scope}",
            Ledger,
            dedup::mark,
            "Whether a key is new",
        )
        .or(&[409]),
        post(
            "/dedup/{scope}/heartbeat",
            Ledger,
            dedup::heartbeat,
            "Extends the lease of a key",
        )
        .or(&[409]),
        post(
            "/dedup/{scope}/release",
            Ledger,
            dedup::release,
            "Frees a leased key that was not handled",
        )
        .or(&[409]),
        post(
            "/dedup/{scope}/done",
            Ledger,
            dedup::done,
            "Says that a leased key was handled",
        )
        .or(&[409]),
    ]
}
