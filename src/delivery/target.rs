//! One destination with its current settings: address, schedule, bounds and breaker. It sends
//! nothing and claims nothing.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use hookonce_scheme::standard::Signer;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    contract::BreakerState,
    delivery::{
        destination::http::{Address, HttpDestination, credential},
        retry::Schedule,
    },
    meters::URL,
    outbound::guard::NamedBy,
    settings::{Destination, Relay, SecretRef},
};

/// A node holds at most this many rows of one destination, or one for each attempt at once if that
/// is more.
const HELD_ROWS_MAX: usize = 4096;
const HELD_SECONDS: f64 = 0.5;

/// One destination with its current settings.
pub struct Target {
    pub name: Arc<str>,
    /// The name that its attempts are counted under. URLs that replays gave count as one.
    pub counted_as: Arc<str>,
    pub http: HttpDestination,
    pub schedule: Schedule,
    pub lease: Duration,
    pub concurrency: usize,
    pub rate: Option<(NonZeroU32, DefaultDirectRateLimiter)>,
    pub breaker: Breaker,
    settings: (Destination, Relay),
    secrets: Vec<SecretString>,
}

/// A circuit breaker: opens after `failures_max` failures in a row, then lets one probe at a time
/// through until one succeeds.
pub struct Breaker {
    failures_max: u32,
    pub open_for: Duration,
    failures: AtomicU32,
    opened_at: Mutex<Option<Instant>>,
    probing: AtomicBool,
}

/// What an attempt did to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerChange {
    Opened,
    Closed,
}

/// An attempt that the breaker has let through. If it is the probe, no other attempt is let through
/// until this is dropped.
pub struct Admitted<'a> {
    probing: Option<&'a AtomicBool>,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if let Some(probing) = self.probing {
            probing.store(false, Ordering::Release);
        }
    }
}

impl Breaker {
    pub fn state(&self) -> BreakerState {
        match self.allowed(2) {
            0 => BreakerState::Open,
            1 => BreakerState::Probing,
            _ => BreakerState::Closed,
        }
    }

    /// How long no attempt is let through yet; zero unless it is open.
    pub fn open_left(&self) -> Duration {
        let opened_at = *self
            .opened_at
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        opened_at.map_or(Duration::ZERO, |at| {
            self.open_for.saturating_sub(at.elapsed())
        })
    }

    /// How many deliveries may be held now: `most`, 1 for a probe, or 0.
    pub fn allowed(&self, most: usize) -> usize {
        match *self
            .opened_at
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
        {
            None => most,
            Some(at) if at.elapsed() >= self.open_for => 1,
            Some(_) => 0,
        }
    }

    /// Lets an attempt begin, or returns None. The claimer keeps to `allowed`, but learns that the
    /// breaker opened only at its next poll. Deliveries that were claimed or handed over before are
    /// stopped here.
    pub fn admit(&self) -> Option<Admitted<'_>> {
        match self.allowed(2) {
            0 => None,
            1 => (!self.probing.swap(true, Ordering::AcqRel)).then(|| Admitted {
                probing: Some(&self.probing),
            }),
            _ => Some(Admitted { probing: None }),
        }
    }

    /// Notes how an attempt ended, and returns whether the breaker opened or closed by it.
    pub fn record(&self, failed: bool) -> Option<BreakerChange> {
        let mut opened_at = self
            .opened_at
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if !failed {
            self.failures.store(0, Ordering::Relaxed);
            return opened_at.take().map(|_| BreakerChange::Closed);
        }
        if self.failures_max > 0
            && self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= self.failures_max
        {
            let before = opened_at.replace(Instant::now());
            return before.is_none().then_some(BreakerChange::Opened);
        }
        None
    }
}

impl Target {
    pub fn new(name: &Arc<str>, destination: &Destination, relay: &Relay) -> Result<Self, String> {
        let address = Address::parse(&destination.url)?;
        let secrets = secrets(destination)?;
        let signers = secrets
            .iter()
            .map(Signer::new)
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        let credential = destination.auth.as_ref().map(credential).transpose()?;
        let (named_by, counted_as) = if is_url(name) {
            (NamedBy::Caller, URL.into())
        } else {
            (NamedBy::Settings, name.clone())
        };
        let timeout = destination.timeout.unwrap_or(relay.timeout).0;
        Ok(Self {
            name: name.clone(),
            counted_as,
            http: HttpDestination {
                address,
                named_by,
                credential,
                signers,
                timeout,
                response_max: relay.response_max.bytes(),
            },
            schedule: Schedule::new(&relay.retry, destination.retry.as_ref()),
            lease: relay.lease.0,
            concurrency: destination.concurrency.unwrap_or(relay.concurrency).max(1),
            rate: destination
                .rate
                .and_then(NonZeroU32::new)
                .map(|rate| (rate, RateLimiter::direct(quota(rate)))),
            breaker: Breaker {
                failures_max: relay.breaker.failures,
                open_for: relay.breaker.open.0,
                failures: AtomicU32::new(0),
                opened_at: Mutex::new(None),
                probing: AtomicBool::new(false),
            },
            settings: (destination.clone(), relay.clone()),
            secrets,
        })
    }

    /// Whether these settings would build the same target. Secrets are read again and compared, so
    /// a file with a rotated secret counts as a change.
    pub fn same_as(&self, destination: &Destination, relay: &Relay) -> bool {
        self.settings.0 == *destination
            && self.settings.1 == *relay
            && destination
                .auth
                .as_ref()
                .map(credential)
                .transpose()
                .is_ok_and(|now| now == self.http.credential)
            && secrets(destination).is_ok_and(|secrets| {
                let exposed = |secrets: &[SecretString]| {
                    secrets
                        .iter()
                        .map(|secret| secret.expose_secret().to_owned())
                        .collect::<Vec<_>>()
                };
                exposed(&secrets) == exposed(&self.secrets)
            })
    }

    /// How many deliveries this node may hold for the destination while it is not paused.
    /// `per_second` is its pace of attempts. Half a second's work is held, so that none waits long
    /// under its lease, but at least four for each attempt at once.
    pub fn held_max(&self, per_second: f64) -> usize {
        let most = (self.concurrency * 4)
            .max((per_second * HELD_SECONDS) as usize)
            .min(HELD_ROWS_MAX.max(self.concurrency));
        self.breaker.allowed(
            self.rate
                .as_ref()
                .map_or(most, |(rate, _)| most.min(rate.get() as usize)),
        )
    }
}

/// Whether a destination is a URL that a caller named. The names of the settings hold no colon.
pub fn is_url(name: &str) -> bool {
    name.starts_with("http://") || name.starts_with("https://")
}

/// Spreads attempts over the second: bursts of a second's worth would allow twice the rate within
/// the first. A burst of two per cent makes up for timers that are late.
fn quota(rate: NonZeroU32) -> Quota {
    Quota::per_second(rate).allow_burst(NonZeroU32::new(rate.get() / 50).unwrap_or(NonZeroU32::MIN))
}

fn secrets(destination: &Destination) -> Result<Vec<SecretString>, String> {
    destination
        .signing_secret
        .iter()
        .chain(&destination.signing_secrets)
        .map(SecretRef::read)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Auth;

    #[test]
    fn a_rotated_secret_file_is_a_change() {
        let relay = crate::settings::load(&crate::settings::Inputs::default())
            .unwrap()
            .settings
            .relay;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signing_secret = Some(SecretRef::File(file.path().into()));
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token.path(), "a").unwrap();
        let auth = Some(Auth {
            bearer: Some(SecretRef::File(token.path().into())),
            ..Auth::default()
        });
        let destination = Destination {
            url: "http://127.0.0.1:1/".into(),
            signing_secret,
            auth,
            ..Destination::default()
        };
        let target = Target::new(&"d".into(), &destination, &relay).unwrap();
        assert!(target.same_as(&destination, &relay));
        std::fs::write(file.path(), "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
        assert!(!target.same_as(&destination, &relay));
        let target = Target::new(&"d".into(), &destination, &relay).unwrap();
        std::fs::write(token.path(), "b").unwrap();
        assert!(!target.same_as(&destination, &relay));
    }
}
