//! hookonce: a webhook receiver and dedup relay. ARCHITECTURE.md has the map.

pub mod clock;
pub mod event;
pub mod provider;
pub mod settings;
pub mod store;
pub mod http;
pub mod routing;
pub mod tail;
