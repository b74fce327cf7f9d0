//! hookonce: a webhook receiver and dedup relay. ARCHITECTURE.md has the map.

pub mod backoff;
pub mod chance;
pub mod cli;
pub mod clock;
pub mod contract;
pub mod delivery;
pub mod event;
pub mod gateway;
pub mod group_commit;
pub mod handoff;
pub mod http;
pub mod ids;
pub mod intake;
pub mod ledger;
pub mod maintenance;
pub mod node;
pub mod outbound;
pub mod port;
pub mod postgres;
pub mod problem;
pub mod readiness;
pub mod routing;
pub mod settings;
pub mod shutdown;
pub mod store;
pub mod tail;
pub mod telemetry;

pub use hookonce_scheme as provider;
