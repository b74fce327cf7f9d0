//! Checks what single values cannot tell: bounds, secrets that can be read, names that exist,
//! periods that fit each other. It is pure but for reading the files that hold secrets, and it
//! knows no provider.

mod gateways;
mod outgoing;
mod service;

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use serde_json::Value;
use url::Url;

use super::{LEDGER_SOURCE, Period, SecretRef, Settings, Source};

/// How much longer a lease must be than the timeout: the time to record how an attempt ended.
pub const LEASE_MARGIN: Duration = Duration::from_secs(2);

const NAME_BYTES_MAX: usize = 63;
const PERIOD_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const MIB: u64 = 1 << 20;

/// The names as written, also of entries that are too broken to be settings. So a route to a broken
/// entry is not reported as well.
pub(super) struct Names {
    sources: BTreeSet<String>,
    destinations: BTreeSet<String>,
    gateways: BTreeSet<String>,
    providers: BTreeSet<String>,
}

impl Names {
    pub fn of(tree: &Value) -> Self {
        let keys = |table: &str| {
            tree.get(table)
                .and_then(Value::as_object)
                .map(|table| table.keys().cloned().collect())
                .unwrap_or_default()
        };
        let (sources, destinations, gateways) =
            (keys("sources"), keys("destinations"), keys("gateways"));
        Self {
            sources,
            destinations,
            gateways,
            providers: keys("providers"),
        }
    }
}

/// Every problem, as key and message. The keys in `broken` are reported already, so nothing more is
/// said of them.
pub(super) fn check(
    settings: &Settings,
    names: &Names,
    broken: &BTreeSet<String>,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    let mut check = Check {
        broken,
        lookup,
        problems: Vec::new(),
    };
    check.ingress(settings);
    check.egress(&settings.egress);
    check.admin_and_database(settings);
    check.relay(settings);
    check.ledger(settings);
    check.retention(settings);
    check.rejections(settings);
    let tables = [
        ("sources", &names.sources),
        ("destinations", &names.destinations),
        ("providers", &names.providers),
    ];
    for (table, names) in tables.into_iter().chain([("gateways", &names.gateways)]) {
        names.iter().for_each(|name| check.name(table, name));
    }
    settings
        .sources
        .iter()
        .for_each(|(name, source)| check.source(name, source));
    settings
        .destinations
        .iter()
        .for_each(|(name, destination)| check.destination(name, destination, settings.relay.lease));
    check.routes(settings, names);
    check.gateways(settings);
    check.problems
}

struct Check<'a> {
    broken: &'a BTreeSet<String>,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<(String, String)>,
}

impl Check<'_> {
    fn problem(&mut self, key: impl Into<String>, message: impl Into<String>) {
        let key = key.into();
        if !self.is_broken(&key) {
            self.problems.push((key, message.into()));
        }
    }

    /// Whether the key, something in it, or something around it is reported already.
    fn is_broken(&self, key: &str) -> bool {
        let within = |inner: &str, outer: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.broken
            .iter()
            .any(|broken| within(broken, key) || within(key, broken))
    }

    fn between(&mut self, key: impl Into<String>, value: u64, least: u64, most: u64) {
        if !(least..=most).contains(&value) {
            self.problem(key, format!("is {value}: must be {least} to {most}"));
        }
    }

    fn size_between(
        &mut self,
        key: impl Into<String>,
        value: super::ByteSize,
        least: u64,
        most: u64,
    ) {
        if !(least..=most).contains(&value.0) {
            self.problem(
                key,
                format!(
                    "is {value}: must be {} to {}",
                    super::ByteSize(least),
                    super::ByteSize(most)
                ),
            );
        }
    }

    fn period(&mut self, key: impl Into<String>, value: Period) {
        if value.is_zero() {
            self.problem(key, "is no time at all: must be longer than zero");
        } else {
            self.period_or_zero(key, value);
        }
    }

    fn period_or_zero(&mut self, key: impl Into<String>, value: Period) {
        if value.0 > PERIOD_MAX {
            self.problem(key, "is longer than ten years");
        }
    }

    fn secret(&mut self, key: impl Into<String>, secret: &SecretRef) {
        if let Err(message) = secret.read_with(self.lookup) {
            self.problem(key, message);
        }
    }

    fn http_url(&mut self, key: impl Into<String>, url: &str) {
        match Url::parse(url) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {}
            Ok(_) => self.problem(key, "must start with http:// or https://"),
            Err(error) => self.problem(key, format!("is no URL: {error}")),
        }
    }

    /// A name appears in URLs, headers, logs and variables, so it is made of plain letters alone.
    fn name(&mut self, table: &str, name: &str) {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let good = name.len() <= NAME_BYTES_MAX
            && name.bytes().next().is_some_and(plain)
            && name.bytes().all(|b| plain(b) || b == b'-' || b == b'_');
        if !good {
            let key = super::key_path::KeyPath::default()
                .key(table)
                .key(name)
                .to_string();
            self.problem(key, format!("is no name: a-z, 0-9, - and _, a letter or digit first, at most {NAME_BYTES_MAX}"));
        }
    }

    fn source(&mut self, name: &str, source: &Source) {
        let at = format!("sources.{name}");
        if source.provider.is_empty() {
            self.problem(
                format!("{at}.provider"),
                "is empty: `hookonce providers list` has them all",
            );
        }
        let said = self.is_broken(&format!("{at}.secrets"));
        if source.secret.is_none() && source.secrets.is_empty() && !source.learn_secret && !said {
            self.problem(
                format!("{at}.secret"),
                "is missing: a source without a secret would accept anybody",
            );
        }
        if let Some(secret) = &source.secret {
            self.secret(format!("{at}.secret"), secret);
        }
        source
            .secrets
            .iter()
            .enumerate()
            .for_each(|(index, secret)| self.secret(format!("{at}.secrets[{index}]"), secret));
        if source.key.as_ref().is_some_and(|key| {
            key.as_slice().is_empty() || key.as_slice().iter().any(String::is_empty)
        }) {
            self.problem(
                format!("{at}.key"),
                "is empty: leave it out for the provider's own",
            );
        }
        if let Some(url) = &source.url {
            self.http_url(format!("{at}.url"), url);
        }
        if let Some(token) = &source.verify_token {
            self.secret(format!("{at}.verify_token"), token);
        }
        if let Some(window) = source.window {
            self.period(format!("{at}.window"), window);
        }
        if let Some(body_max) = source.body_max {
            self.size_between(format!("{at}.body_max"), body_max, 1, 256 * MIB);
        }
        if let Some(ack_budget) = source.ack_budget {
            self.period(format!("{at}.ack_budget"), ack_budget);
        }
    }

    fn routes(&mut self, settings: &Settings, names: &Names) {
        for (index, route) in settings.routes.iter().enumerate() {
            let at = format!("routes[{index}]");
            if route.source != LEDGER_SOURCE {
                self.exists(
                    format!("{at}.source"),
                    "source",
                    &route.source,
                    &names.sources,
                );
            }
            self.exists(
                format!("{at}.destination"),
                "destination",
                &route.destination,
                &names.destinations,
            );
            for (index, pattern) in route.types.iter().enumerate() {
                if pattern.is_empty() {
                    self.problem(
                        format!("{at}.types[{index}]"),
                        "is empty: write \"*\" for every event",
                    );
                }
            }
        }
    }

    fn exists(&mut self, key: String, noun: &str, name: &str, names: &BTreeSet<String>) {
        if names.contains(name) {
            return;
        }
        let message = match hookonce_scheme::nearest(name, names.iter().map(String::as_str)) {
            Some(near) => format!("there is no {noun} {name:?}: did you mean {near:?}?"),
            None => format!("there is no {noun} {name:?}: add [{noun}s.{name}]"),
        };
        self.problem(key, message);
    }
}

/// Whether two listeners would fight for one port. Port 0 is any free one.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() != 0
        && a.port() == b.port()
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}
