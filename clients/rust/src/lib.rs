//! The client of hookonce for Rust: execute a step once, resume a run, dedup, and verify and handle
//! relayed events. It speaks HTTP alone and knows nothing of the service's insides. The clients in
//! `clients/` do the same in other languages; `clients/conformance.json` says what all of them do.
//!
//! # Steps
//!
//! ```no_run
//! use hookonce_client::{Ledger, Outcome};
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
//! # Ok(()) }
//! ```
//!
//! # Dedup
//!
//! ```no_run
//! use std::time::Duration;
//! # use hookonce_client::Ledger;
//!
//! # async fn example(ledger: Ledger) -> Result<(), Box<dyn std::error::Error>> {
//! let (window, lease) = (Duration::from_secs(86_400), Duration::from_secs(30));
//! let key = ledger.dedup_leased("orders", "order-1", window, lease).await?;
//! if key.is_first() {
//!     // handle the order here
//! }
//! key.done().await?; // then acknowledge the message
//! # Ok(()) }
//! ```
//!
//! # Relayed events
//!
//! With whatever web framework: headers and body in; status, headers and body out.
//!
//! ```no_run
//! use hookonce_client::{Handler, Ledger};
//! use serde_json::Value;
//!
//! # type Headers = Vec<(String, String)>;
//! # async fn example(ledger: Ledger, secret: &str, headers: Headers, body: Vec<u8>)
//! #     -> Result<(), Box<dyn std::error::Error>> {
//! let handler = Handler::new(ledger, &[secret])?;
//! let answer = handler
//!     .handle(headers, body, |step, event| async move {
//!         println!("{} {}", step.effect_key, event.json::<Value>()?);
//!         Ok(())
//!     })
//!     .await?; // answer with its status, headers and body
//! # Ok(()) }
//! ```
//!
//! Without the ledger, [`Verifier`] checks a request alone:
//!
//! ```
//! use hookonce_client::{Error, Verifier};
//!
//! let verifier = Verifier::new(&["whsec_aG9va29uY2UtY29uZm9ybWFuY2Utc2VjcmV0"])?;
//! let headers = [("webhook-id", "0197b2f4"), ("webhook-timestamp", "1767225600")];
//! let refused = verifier.verify(headers, b"{}".to_vec());
//! assert!(matches!(refused, Err(Error::VerificationFailed("timestamp_too_old"))));
//! # Ok::<(), Error>(())
//! ```

#![warn(missing_docs)]

mod claim;
mod context;
mod error;
mod execute;
mod handler;
mod ledger;
mod protocol;
mod run;
mod transport;
mod webhook;

pub use claim::{Claim, Ended, Grant, LostStep, OnLost, Outcome, StepState, input_hash};
pub use context::StepContext;
pub use error::{Error, WorkError};
pub use execute::Step;
pub use handler::{Answer, Handler};
pub use ledger::{DedupLease, Ledger};
pub use run::Run;
pub use webhook::{RelayedEvent, Verifier};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
