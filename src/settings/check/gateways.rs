//! The bounds of `[gateways.NAME]`, and that its port is its own.

use std::net::SocketAddr;

use super::{Check, MIB, overlap};
use crate::settings::{ByteSize, Gateway, Settings};

/// What the head of a kept answer may take. Its body takes at most four thirds of its size.
const KEPT_HEAD_BYTES: u64 = 512 << 10;

impl Check<'_> {
    pub(super) fn gateways(&mut self, settings: &Settings) {
        let own = [
            ("ingress.bind", Some(settings.ingress.bind)),
            ("admin.bind", Some(settings.admin.bind)),
            ("ledger.bind", settings.ledger.bind),
        ];
        let mut taken: Vec<(String, SocketAddr)> = own
            .into_iter()
            .filter_map(|(key, bind)| bind.map(|bind| (key.to_owned(), bind)))
            .collect();
        for (name, gateway) in &settings.gateways {
            let key = format!("gateways.{name}.bind");
            if let Some((other, bind)) = taken.iter().find(|(_, bind)| overlap(*bind, gateway.bind))
            {
                let message = format!(
                    "{} is taken by {other}, {bind}: every path of a gateway's port is its upstream's",
                    gateway.bind
                );
                self.problem(key.clone(), message);
            }
            taken.push((key, gateway.bind));
            self.gateway(name, gateway, settings.ledger.queue_bytes_max);
        }
    }

    fn gateway(&mut self, name: &str, gateway: &Gateway, queue_bytes_max: ByteSize) {
        let at = format!("gateways.{name}");
        self.upstream(&at, gateway);
        self.gateway_periods(&at, gateway);
        self.between(
            format!("{at}.attempts_max"),
            gateway.attempts_max.into(),
            1,
            100,
        );
        self.between(
            format!("{at}.calls_max"),
            gateway.calls_max as u64,
            1,
            1_000_000,
        );
        self.gateway_sizes(&at, gateway);
        if gateway.upstream_ca.is_some() && !gateway.upstream.starts_with("https://") {
            self.problem(
                format!("{at}.upstream_ca"),
                "is for an upstream with https://",
            );
        }
        if gateway.body_kept_max.0 / 3 * 4 + KEPT_HEAD_BYTES > queue_bytes_max.0 {
            let message = format!(
                "is {}: with its head it would never fit into ledger.queue_bytes_max, {queue_bytes_max}",
                gateway.body_kept_max
            );
            self.problem(format!("{at}.body_kept_max"), message);
        }
        if gateway.connect_timeout >= gateway.timeout {
            let message = format!(
                "is {}: must be shorter than timeout, {}, or a call never sent counts as sent",
                gateway.connect_timeout, gateway.timeout
            );
            self.problem(format!("{at}.connect_timeout"), message);
        }
        self.caller_and_paths(&at, gateway);
    }

    fn upstream(&mut self, at: &str, gateway: &Gateway) {
        self.http_url(format!("{at}.upstream"), &gateway.upstream);
        if gateway.upstream.contains(['?', '#', '@']) {
            self.problem(
                format!("{at}.upstream"),
                "is more than scheme, host, port and path",
            );
        }
    }

    fn gateway_periods(&mut self, at: &str, gateway: &Gateway) {
        for (key, period) in [
            ("keep", gateway.keep),
            ("connect_timeout", gateway.connect_timeout),
            ("timeout", gateway.timeout),
            ("body_timeout", gateway.body_timeout),
            ("idle_timeout", gateway.idle_timeout),
            ("lease", gateway.lease),
        ] {
            self.period(format!("{at}.{key}"), period);
        }
        for (key, period) in [
            ("expired_keep", gateway.expired_keep),
            ("connection_idle_max", gateway.connection_idle_max),
            ("wait", gateway.wait),
        ] {
            self.period_or_zero(format!("{at}.{key}"), period);
        }
    }

    fn gateway_sizes(&mut self, at: &str, gateway: &Gateway) {
        self.size_between(format!("{at}.body_max"), gateway.body_max, 1, 256 * MIB);
        self.size_between(
            format!("{at}.body_kept_max"),
            gateway.body_kept_max,
            0,
            256 * MIB,
        );
        self.size_between(
            format!("{at}.buffered_max"),
            gateway.buffered_max,
            1,
            4095 * MIB,
        );
        if gateway.buffered_max < gateway.body_max {
            let message = format!(
                "is {}: a body of body_max, {}, would never fit",
                gateway.buffered_max, gateway.body_max
            );
            self.problem(format!("{at}.buffered_max"), message);
        }
        self.size_between(
            format!("{at}.answers_max"),
            gateway.answers_max,
            1,
            4095 * MIB,
        );
        if gateway.answers_max < gateway.body_kept_max {
            let message = format!(
                "is {}: an answer of body_kept_max, {}, would never fit",
                gateway.answers_max, gateway.body_kept_max
            );
            self.problem(format!("{at}.answers_max"), message);
        }
    }

    fn caller_and_paths(&mut self, at: &str, gateway: &Gateway) {
        let is_of_a_name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if gateway.caller.is_empty() || !gateway.caller.bytes().all(is_of_a_name) {
            self.problem(format!("{at}.caller"), "is no header's name");
        }
        for (index, rule) in gateway.paths.iter().enumerate() {
            if !rule.path.starts_with(['/', '*']) {
                self.problem(
                    format!("{at}.paths[{index}].path"),
                    "must start with / or *",
                );
            }
        }
    }
}
