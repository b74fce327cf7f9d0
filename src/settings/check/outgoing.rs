//! The bounds of what goes out: the proxy, the relay with its retries, and each destination.

use url::Url;

use super::{Check, LEASE_MARGIN, MIB};
use crate::settings::{Auth, Destination, Egress, Period, Retry, Settings};

impl Check<'_> {
    pub(super) fn egress(&mut self, egress: &Egress) {
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

    pub(super) fn relay(&mut self, settings: &Settings) {
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
        self.relay_retry(&relay.retry);
        self.between(
            "relay.breaker.failures",
            relay.breaker.failures.into(),
            0,
            1_000_000,
        );
        self.period("relay.breaker.open", relay.breaker.open);
    }

    fn relay_retry(&mut self, retry: &Retry) {
        let Retry {
            base,
            factor,
            cap,
            attempts_max,
            age_max,
            schedule,
            retry_after_max,
        } = retry;
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

    pub(super) fn destination(&mut self, name: &str, destination: &Destination, lease: Period) {
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
}
