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
//! # Tool calls
//!
//! The step is the tool and its arguments: a call that a model plans twice is done once.
//!
//! ```no_run
//! use hookonce_client::{Repeat, Run};
//! # async fn send_mail(key: &str) -> Result<String, std::io::Error> { Ok(key.into()) }
//!
//! # async fn example(run: Run) -> Result<(), Box<dyn std::error::Error>> {
//! let arguments = serde_json::json!({ "to": "ann@example.com", "subject": "Your order" });
//! let sent = run
//!     .call("send_mail", &arguments, Repeat::Once)?
//!     .execute(|step| async move { Ok(send_mail(&step.effect_key).await?) })
//!     .await?;
//! if let Some(message) = &sent.message {
//!     println!("{message}"); // "Not executed again: this same call was done at … by …; this is its result."
//! }
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
//! let handled = ledger
//!     .dedup_handle("orders", "order-1", window, lease, || async {
//!         // handle the order here; heartbeats keep the key, an error gives it back at once
//!         Ok::<_, std::io::Error>("shipped")
//!     })
//!     .await?; // None: it was handled before. Then acknowledge the message
//! assert!(handled.is_none_or(|said| said == "shipped"));
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

mod call;
mod claim;
mod context;
mod dedup;
mod error;
mod execute;
mod handler;
mod holding;
mod ledger;
mod occurrences;
mod protocol;
mod run;
mod transport;
mod wait;
mod webhook;

pub use call::{Call, Repeat, step_of_call};
pub use claim::{Claim, Ended, Grant, LostStep, NotKept, OnLost, Outcome, StepState, input_hash};
pub use context::StepContext;
pub use dedup::DedupLease;
pub use error::{Error, WorkError};
pub use execute::{Step, StepOutcome};
pub use handler::{Answer, Handler};
pub use ledger::Ledger;
pub use run::Run;
pub use wait::{Arrived, Awaited};
pub use webhook::{RelayedEvent, Verifier};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
