//! The bounds of `[gateways.NAME]`, and that its port is its own.

use std::net::SocketAddr;

use hookonce_scheme::Ignored;
use url::Url;

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
        self.headers_and_paths(&at, gateway);
        self.statuses(&at, gateway);
        self.fingerprint_ignore(&at, &gateway.fingerprint_ignore);
        self.of_browsers(&at, gateway);
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

    fn headers_and_paths(&mut self, at: &str, gateway: &Gateway) {
        for (key, name) in [
            ("caller", &gateway.caller),
            ("key_header", &gateway.key_header),
        ] {
            let is_of_a_name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if name.is_empty() || !name.bytes().all(is_of_a_name) {
                self.problem(format!("{at}.{key}"), "is no header's name");
            }
        }
        if gateway.key_header.eq_ignore_ascii_case(&gateway.caller) {
            self.problem(
                format!("{at}.key_header"),
                "is the header of caller: every key would be another caller's",
            );
        }
        for (name, value) in &gateway.callers {
            self.secret(format!("{at}.callers.{name}"), value);
        }
        for (index, rule) in gateway.paths.iter().enumerate() {
            let at = format!("{at}.paths[{index}]");
            if !rule.path.starts_with(['/', '*']) {
                self.problem(format!("{at}.path"), "must start with / or *");
            }
            self.fingerprint_ignore(&at, rule.fingerprint_ignore.as_deref().unwrap_or_default());
        }
    }

    /// A success is always kept, so the lists have other statuses alone, and each has one meaning.
    fn statuses(&mut self, at: &str, gateway: &Gateway) {
        for (key, statuses) in [
            ("not_kept", &gateway.not_kept),
            ("unknown", &gateway.unknown),
        ] {
            for (index, status) in statuses.iter().enumerate() {
                self.between(format!("{at}.{key}[{index}]"), (*status).into(), 300, 599);
            }
        }
        let mut unknown = gateway.unknown.iter();
        if let Some(status) = unknown.find(|status| gateway.not_kept.contains(status)) {
            self.problem(
                format!("{at}.unknown"),
                format!("has {status}, which not_kept has too: it is one or the other"),
            );
        }
    }

    fn fingerprint_ignore(&mut self, at: &str, places: &[String]) {
        let Err(problems) = Ignored::new(places) else {
            return;
        };
        for (index, message) in problems {
            self.problem(format!("{at}.fingerprint_ignore[{index}]"), message);
        }
    }

    fn of_browsers(&mut self, at: &str, gateway: &Gateway) {
        self.http_url(format!("{at}.described_by"), &gateway.described_by);
        for (index, origin) in gateway.cors_origins.iter().enumerate() {
            let is_origin = Url::parse(origin)
                .is_ok_and(|url| url.has_host() && url.origin().ascii_serialization() == *origin);
            if origin != "*" && !is_origin {
                self.problem(
                    format!("{at}.cors_origins[{index}]"),
                    "is no origin: write \"https://HOST\", with a port where it is not the usual one, or \"*\"",
                );
            }
        }
    }
}
