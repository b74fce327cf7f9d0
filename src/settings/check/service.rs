//! The bounds of the tables of the service itself: its ports, its database, its ledger and what it
//! keeps.

use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::{Check, MIB, overlap};
use crate::settings::Settings;

impl Check<'_> {
    pub(super) fn ingress(&mut self, settings: &Settings) {
        let ingress = &settings.ingress;
        self.between("ingress.workers", ingress.workers as u64, 1, 256);
        self.between(
            "ingress.connections_max",
            ingress.connections_max as u64,
            1,
            1_000_000,
        );
        self.between(
            "ingress.connections_per_address_max",
            ingress.connections_per_address_max as u64,
            0,
            1_000_000,
        );
        self.between(
            "ingress.rate_per_address",
            u64::from(ingress.rate_per_address),
            0,
            1_000_000,
        );
        self.size_between("ingress.body_max", ingress.body_max, 1, 256 * MIB);
        self.period("ingress.head_timeout", ingress.head_timeout);
        self.period("ingress.body_timeout", ingress.body_timeout);
        self.period("ingress.keep_alive", ingress.keep_alive);
        self.period("ingress.ack_budget", ingress.ack_budget);
        self.between(
            "ingress.queue_rows_max",
            ingress.queue_rows_max as u64,
            1,
            1_000_000,
        );
        self.between(
            "ingress.recent_keys_max",
            ingress.recent_keys_max as u64,
            0,
            100_000_000,
        );
        if ingress.queue_bytes_max < ingress.body_max {
            self.problem(
                "ingress.queue_bytes_max",
                format!(
                    "is {}: a body of ingress.body_max, {}, would never fit",
                    ingress.queue_bytes_max, ingress.body_max
                ),
            );
        }
        if let Some(url) = &ingress.public_url {
            self.http_url("ingress.public_url", url);
        }
        if overlap(ingress.bind, settings.admin.bind) && !self.is_broken("ingress.bind") {
            self.problem(
                "admin.bind",
                format!(
                    "{} is taken by ingress.bind, {}: the admin port is never the public one",
                    settings.admin.bind, ingress.bind
                ),
            );
        }
    }

    pub(super) fn admin_and_database(&mut self, settings: &Settings) {
        if let Some(token) = &settings.admin.token {
            self.secret("admin.token", token);
        }
        if let Some(url) = &settings.database.url {
            match url.read_with(self.lookup) {
                Ok(url)
                    if url.expose_secret().starts_with("postgres://")
                        || url.expose_secret().starts_with("postgresql://") => {}
                Ok(_) => self.problem(
                    "database.url",
                    "must start with postgres:// or postgresql://",
                ),
                Err(message) => self.problem("database.url", message),
            }
        }
        let database = &settings.database;
        self.between(
            "database.connections_max",
            database.connections_max.into(),
            1,
            10_000,
        );
        self.between(
            "database.batch_connections",
            database.batch_connections as u64,
            1,
            32,
        );
        self.between(
            "database.batch_rows_max",
            database.batch_rows_max as u64,
            1,
            1024,
        );
        if !(Duration::from_secs(1)..=Duration::from_secs(30)).contains(&database.write_timeout.0) {
            self.problem("database.write_timeout", "must be 1s to 30s");
        }
        self.period("database.clock_skew_max", database.clock_skew_max);
        if let Err(error) = tracing_subscriber::EnvFilter::builder().parse(&settings.log.filter) {
            self.problem("log.filter", format!("is no filter: {error}"));
        }
    }

    pub(super) fn ledger(&mut self, settings: &Settings) {
        let ledger = &settings.ledger;
        for (key, period) in [
            ("lease_max", ledger.lease_max),
            ("wait_poll_interval", ledger.wait_poll_interval),
            ("call_timeout", ledger.call_timeout),
            ("keep", ledger.keep),
            ("window_max", ledger.window_max),
        ] {
            self.period(format!("ledger.{key}"), period);
        }
        self.period_or_zero("ledger.wait_max", ledger.wait_max);
        self.between(
            "ledger.waiters_max",
            ledger.waiters_max as u64,
            0,
            1_000_000,
        );
        self.between("ledger.emit_max", ledger.emit_max as u64, 0, 1000);
        self.between(
            "ledger.batch_connections",
            ledger.batch_connections as u64,
            1,
            32,
        );
        self.between(
            "ledger.batch_rows_max",
            ledger.batch_rows_max as u64,
            1,
            1024,
        );
        self.between(
            "ledger.queue_rows_max",
            ledger.queue_rows_max as u64,
            1,
            1_000_000,
        );
        self.size_between("ledger.call_max", ledger.call_max, 1024, 256 * MIB);
        self.size_between(
            "ledger.queue_bytes_max",
            ledger.queue_bytes_max,
            1024,
            4095 * MIB,
        );
        for (key, size, least) in [
            ("call_max", ledger.call_max, ledger.result_max),
            ("queue_bytes_max", ledger.queue_bytes_max, ledger.call_max),
        ] {
            if size < least {
                self.problem(
                    format!("ledger.{key}"),
                    format!("is {size}: what may be sent, {least}, would never fit"),
                );
            }
        }
        for (index, scope) in ledger.scopes.iter().enumerate() {
            self.period(format!("ledger.scopes[{index}].keep"), scope.keep);
        }
        for (key, other) in [
            ("ingress.bind", settings.ingress.bind),
            ("admin.bind", settings.admin.bind),
        ] {
            if let Some(bind) = ledger.bind.filter(|bind| overlap(*bind, other)) {
                self.problem("ledger.bind", format!("{bind} is taken by {key}, {other}"));
            }
        }
    }

    pub(super) fn retention(&mut self, settings: &Settings) {
        let retention = &settings.retention;
        self.period("retention.events", retention.events);
        self.period("retention.deliveries", retention.deliveries);
        self.period("retention.keys", retention.keys);
        self.period("retention.conflicts", retention.conflicts);
        self.period("retention.interval", retention.interval);
        self.between(
            "retention.delete_rows_max",
            u64::try_from(retention.delete_rows_max).unwrap_or(0),
            1,
            1_000_000,
        );
    }

    pub(super) fn rejections(&mut self, settings: &Settings) {
        let rejections = &settings.rejections;
        self.between(
            "rejections.rows_max",
            rejections.rows_max as u64,
            0,
            100_000,
        );
        self.size_between("rejections.bytes_max", rejections.bytes_max, 0, 1024 * MIB);
        self.period("rejections.age_max", rejections.age_max);
        self.size_between(
            "rejections.body_prefix_max",
            rejections.body_prefix_max,
            0,
            MIB,
        );
    }
}
