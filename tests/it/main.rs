//! The service over HTTP against a real PostgreSQL.

mod admin;
mod app;
mod client;
mod command_line;
mod crashes;
mod database_commands;
mod destinations;
mod gateway;
mod gateway_process;
mod handshakes;
mod ingress;
mod items;
mod keys;
mod ledger;
mod ledger_process;
mod ledger_storm;
mod nodes;
mod openapi;
mod process;
mod providers;
mod rejections;
mod relay;
mod schema;
mod shutdown;
mod tokens;
mod upstream;
