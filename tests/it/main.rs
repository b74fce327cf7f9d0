//! The service over HTTP against a real PostgreSQL.

#![expect(
    clippy::disallowed_methods,
    reason = "tests make ids and times of their own, beside the service's"
)]

mod admin;
mod answers;
mod answers_commands;
mod answers_ledger;
mod answers_node;
mod app;
mod client;
mod clocks;
mod command_line;
mod conflicts;
mod connections;
mod crashes;
mod database_commands;
mod destinations;
mod gateway;
mod gateway_hostile;
mod gateway_process;
mod gateway_refusals;
mod gateway_rules;
mod group_commits;
mod handshakes;
mod identity;
mod ingress;
mod items;
mod keys;
mod ledger;
mod ledger_batches;
mod ledger_kept;
mod ledger_limits;
mod ledger_process;
mod ledger_storm;
mod mcp_client;
mod mcp_serve;
mod metrics;
mod nodes;
mod openapi;
mod plans;
mod pooler;
mod process;
mod providers;
mod recorded;
mod recording;
mod rejections;
mod relay;
mod schema;
mod sending;
mod shutdown;
mod silence;
mod tls;
mod tokens;
mod transactions;
mod transitions;
mod upgrade;
mod upstream;
mod wire;
