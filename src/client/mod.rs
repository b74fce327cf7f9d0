//! The client of a hookonce: execute a step once, resume a run, dedup, and verify and handle what is relayed. It speaks HTTP alone and knows
//! nothing of the service's insides. `clients/` has the same in other languages; `clients/conformance.json` is what they all do.
//!
//! ```no_run
//! use hookonce::client::{Ledger, Outcome, WorkError};
//! # #[derive(serde::Serialize, serde::Deserialize)] struct Charge { id: String }
//! # async fn charge_card(key: &str) -> Result<Charge, std::io::Error> { Ok(Charge { id: key.into() }) }
//! # async fn find_charge(key: &str) -> Option<Charge> { None }
//!
//! # async fn example(token: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let ledger = Ledger::new("http://127.0.0.1:8081", token)?;
//! let run = ledger.run("order-1");
//! run.resume().await?; // optional: steps that have ended are then skipped without asking again
//! let charge: Charge = run
//!     .step("charge")
//!     .reconcile(|lost| async move {
//!         Some(match find_charge(&lost.effect_key).await {
//!             Some(charge) => Outcome::done(&charge, "listed by the bank").ok()?,
//!             None => Outcome::not_executed("the bank has no such charge"),
//!         })
//!     })
//!     .execute(|step| async move { Ok(charge_card(&step.effect_key).await?) })
//!     .await?; // executes once; after that, and after a crash, only reads what it returned
//!
//! if ledger.dedup("orders", "order-1", std::time::Duration::from_secs(86_400)).await? {
//!     // the first to bring this key; see `dedup_leased` for one that survives a crash
//! }
//! # Ok(()) }
//! ```
//!
//! Relayed events, whatever the web framework:
//!
//! ```no_run
//! use hookonce::client::{Handler, Ledger};
//!
//! # async fn example(ledger: Ledger, headers: reqwest::header::HeaderMap, body: Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
//! let handler = Handler::new(ledger, &["whsec_…"])?;
//! let answer = handler
//!     .handle(&headers, body, |step, event| async move {
//!         println!("{} {}", step.effect_key, event.json::<serde_json::Value>()?);
//!         Ok(())
//!     })
//!     .await?; // answer with its status, headers and body
//! # Ok(()) }
//! ```

mod error;
mod execute;
mod handler;
mod protocol;
mod run;
mod webhook;

pub use error::{Error, WorkError};
pub use execute::{Step, StepContext};
pub use handler::{Answer, Handler};
pub use protocol::{Claim, Ended, Grant, LostStep, OnLost, Outcome, StepState, input_hash};
pub use run::{DedupLease, Ledger, Run};
pub use webhook::{RelayedEvent, Verifier};
