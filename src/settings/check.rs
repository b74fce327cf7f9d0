//! What single values cannot tell: bounds, secrets that can be read, names that exist, periods that
//! fit each other. Pure but for reading the files that secrets are kept in; providers are not known
//! here.

mod gateways;

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use secrecy::ExposeSecret as _;
use serde_json::Value;
use url::Url;

use super::{Auth, Destination, Egress, LEDGER_SOURCE, Period, Retry, SecretRef, Settings, Source};

/// What a lease must be longer than the timeout by: the time to write down how an attempt ended.
pub const LEASE_MARGIN: Duration = Duration::from_secs(2);

const NAME_BYTES_MAX: usize = 63;
const PERIOD_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const MIB: u64 = 1 << 20;

/// The names as written, also of entries that are too broken to be settings, so that a route to one
/// is not reported as well.
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

/// Every problem, as key and message. `broken` are the keys that are reported already: nothing more
/// is said of them.
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

    /// Whether the key, something in it, or something it is in is reported already.
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

    fn egress(&mut self, egress: &Egress) {
        if let Some(url) = &egress.proxy {
            let is_proxy = |url: Url| {
                url.scheme() == "http"
                    && url.has_host()
                    && url.path() == "/"
                    && url.query().is_none()
            };
            let has_user = Url::parse(url)
                .is_ok_and(|url| !url.username().is_empty() || url.password().is_some());
            if has_user {
                self.problem(
                    "egress.proxy",
                    "has a user or password: leave them out and write proxy_basic = { env = \"NAME\" }, whose value is user:password",
                );
            } else if !Url::parse(url).is_ok_and(is_proxy) {
                self.problem("egress.proxy", "is no proxy: write \"http://HOST:PORT\"");
            }
        }
        egress
            .proxy_basic
            .iter()
            .for_each(|secret| self.secret("egress.proxy_basic", secret));
    }

    fn auth(&mut self, at: &str, auth: &Auth) {
        let ways = [
            auth.bearer.is_some(),
            auth.basic.is_some(),
            auth.header.is_some(),
        ]
        .into_iter()
        .filter(|is_set| *is_set)
        .count();
        if ways != 1 || auth.header.is_some() != auth.value.is_some() {
            self.problem(at, "is one of { bearer = SECRET }, { basic = SECRET } and { header = \"NAME\", value = SECRET }");
        }
        for (key, secret) in [
            ("bearer", &auth.bearer),
            ("basic", &auth.basic),
            ("value", &auth.value),
        ] {
            secret
                .iter()
                .for_each(|secret| self.secret(format!("{at}.{key}"), secret));
        }
        if auth
            .header
            .as_ref()
            .is_some_and(|name| http::HeaderName::try_from(name).is_err())
        {
            self.problem(format!("{at}.header"), "is no header's name");
        }
    }

    fn http_url(&mut self, key: impl Into<String>, url: &str) {
        match Url::parse(url) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {}
            Ok(_) => self.problem(key, "must start with http:// or https://"),
            Err(error) => self.problem(key, format!("is no URL: {error}")),
        }
    }

    fn ingress(&mut self, settings: &Settings) {
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

    fn admin_and_database(&mut self, settings: &Settings) {
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

    fn relay(&mut self, settings: &Settings) {
        let relay = &settings.relay;
        self.period("relay.timeout", relay.timeout);
        self.period("relay.lease", relay.lease);
        self.between("relay.concurrency", relay.concurrency as u64, 1, 10_000);
        self.size_between("relay.response_max", relay.response_max, 0, 16 * MIB);
        self.between(
            "relay.handoff_rows_max",
            relay.handoff_rows_max as u64,
            1,
            1_000_000,
        );
        self.size_between(
            "relay.handoff_bytes_max",
            relay.handoff_bytes_max,
            1,
            1024 * 1024 * MIB,
        );
        self.period("relay.poll_interval", relay.poll_interval);
        self.between(
            "relay.finish_rows_max",
            relay.finish_rows_max as u64,
            1,
            1024,
        );
        self.period("relay.drain_timeout", relay.drain_timeout);
        if *relay.finish_linger > LEASE_MARGIN / 2 {
            self.problem(
                "relay.finish_linger",
                format!(
                    "is {}: must be at most {}",
                    relay.finish_linger,
                    Period(LEASE_MARGIN / 2)
                ),
            );
        }
        if !relay.timeout.is_zero() && !self.is_broken("relay.timeout") {
            self.lease("relay.lease", relay.lease, relay.timeout, "relay.timeout");
        }
        let Retry {
            base,
            factor,
            cap,
            attempts_max,
            age_max,
            schedule,
            retry_after_max,
        } = &relay.retry;
        self.retry(
            "relay.retry",
            Some(*base),
            Some(*factor),
            Some(*cap),
            Some(*attempts_max),
            schedule.as_deref(),
        );
        if base > cap && !self.is_broken("relay.retry.base") {
            self.problem(
                "relay.retry.cap",
                format!("is {cap}: must be at least base, {base}"),
            );
        }
        self.period("relay.retry.age_max", *age_max);
        self.period_or_zero("relay.retry.retry_after_max", *retry_after_max);
        self.between(
            "relay.breaker.failures",
            relay.breaker.failures.into(),
            0,
            1_000_000,
        );
        self.period("relay.breaker.open", relay.breaker.open);
    }

    fn lease(&mut self, key: &str, lease: Period, timeout: Period, timeout_key: &str) {
        let least = timeout.saturating_add(LEASE_MARGIN);
        if *lease <= least {
            let margin = Period(LEASE_MARGIN);
            self.problem(key, format!("is {lease}: must be longer than {timeout_key}, {timeout}, and {margin} to write down its end"));
        }
    }

    fn retry(
        &mut self,
        at: &str,
        base: Option<Period>,
        factor: Option<f64>,
        cap: Option<Period>,
        attempts_max: Option<u32>,
        schedule: Option<&[Period]>,
    ) {
        if let Some(base) = base {
            self.period(format!("{at}.base"), base);
        }
        if let Some(factor) = factor.filter(|factor| !(1.0..=100.0).contains(factor)) {
            self.problem(
                format!("{at}.factor"),
                format!("is {factor}: must be 1 to 100"),
            );
        }
        if let Some(cap) = cap {
            self.period(format!("{at}.cap"), cap);
        }
        if let Some(attempts_max) = attempts_max {
            self.between(
                format!("{at}.attempts_max"),
                attempts_max.into(),
                1,
                1_000_000,
            );
        }
        if let Some(schedule) = schedule {
            if schedule.is_empty() {
                self.problem(
                    format!("{at}.schedule"),
                    "is empty: leave it out, or list the delays",
                );
            }
            schedule.iter().enumerate().for_each(|(index, delay)| {
                self.period_or_zero(format!("{at}.schedule[{index}]"), *delay)
            });
        }
    }

    fn ledger(&mut self, settings: &Settings) {
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

    fn retention(&mut self, settings: &Settings) {
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

    fn rejections(&mut self, settings: &Settings) {
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

    /// A name stands in URLs, headers, logs and variables: plain letters alone.
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

    fn destination(&mut self, name: &str, destination: &Destination, lease: Period) {
        let at = format!("destinations.{name}");
        self.http_url(format!("{at}.url"), &destination.url);
        if Url::parse(&destination.url)
            .is_ok_and(|url| !url.username().is_empty() || url.password().is_some())
        {
            self.problem(
                format!("{at}.url"),
                "has a user or password, which every list would show: leave them out and write auth = { basic = { env = \"NAME\" } }, whose value is user:password",
            );
        }
        if let Some(auth) = &destination.auth {
            self.auth(&format!("{at}.auth"), auth);
        }
        if let Some(secret) = &destination.signing_secret {
            self.secret(format!("{at}.signing_secret"), secret);
        }
        let secrets = destination.signing_secrets.iter().enumerate();
        secrets.for_each(|(index, secret)| {
            self.secret(format!("{at}.signing_secrets[{index}]"), secret)
        });
        if let Some(timeout) = destination.timeout {
            let key = format!("{at}.timeout");
            self.period(key.clone(), timeout);
            if timeout.saturating_add(LEASE_MARGIN) >= *lease && !self.is_broken("relay.lease") {
                let margin = Period(LEASE_MARGIN);
                self.problem(
                    key,
                    format!("is {timeout}: with {margin} to write down its end it must be shorter than relay.lease, {lease}"),
                );
            }
        }
        if let Some(concurrency) = destination.concurrency {
            self.between(format!("{at}.concurrency"), concurrency as u64, 1, 10_000);
        }
        if let Some(rate) = destination.rate {
            self.between(format!("{at}.rate"), rate.into(), 1, 1_000_000);
        }
        if let Some(retry) = &destination.retry {
            let key = format!("{at}.retry");
            self.retry(
                &key,
                retry.base,
                retry.factor,
                retry.cap,
                retry.attempts_max,
                retry.schedule.as_deref(),
            );
            if let Some(age_max) = retry.age_max {
                self.period(format!("{key}.age_max"), age_max);
            }
            if let Some(retry_after_max) = retry.retry_after_max {
                self.period_or_zero(format!("{key}.retry_after_max"), retry_after_max);
            }
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
