//! The typed settings, which config/default.toml documents key by key. `load.rs` reads and checks
//! them. Nothing here opens a connection or knows a provider.

mod check;
mod defaults;
mod environment;
mod gateway;
mod key_path;
pub mod load;
mod sections;
mod show;
#[cfg(test)]
mod tests;
mod typed;
pub mod value;

pub use check::LEASE_MARGIN;
pub use gateway::{Gateway, GatewayPath, KeyFrom, KeyRule};
pub use hookonce_scheme::{nearest, spec as scheme};
pub use load::{Inputs, Loaded, Problem, Problems, load, load_readable};
pub use scheme::{Dedup, OneOrMany, SchemeSpec, SplitAt};
pub use sections::{
    Admin, Auth, Breaker, Database, Destination, Egress, Ingress, LEDGER_SOURCE, Ledger,
    LedgerScope, Log, LogFormat, Metrics, OnConflict, Rejections, Relay, ReplayGuard, Retention,
    Retry, RetryOverride, Route, Settings, Source,
};
pub use show::{schema, shown};
pub use value::{ByteSize, Network, Period, SecretRef, UrlText, without_password};
