//! hookonce: a webhook receiver and dedup relay. ARCHITECTURE.md has the map.

pub mod cli;
pub mod client;
pub mod clock;
pub mod delivery;
pub mod event;
pub mod gateway;
pub mod http;
pub mod ids;
pub mod maintenance;
pub mod outbound;
pub mod postgres;
pub mod provider;
pub mod routing;
pub mod settings;
pub mod shutdown;
pub mod store;
pub mod tail;
pub mod telemetry;
