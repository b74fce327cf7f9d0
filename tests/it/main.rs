//! The service over HTTP against a real PostgreSQL.

mod admin;
mod app;
mod ingress;
mod relay;
