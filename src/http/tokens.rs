//! What a bearer token may do. The file's token may do everything. Others are looked up by digest
//! and remembered for two seconds, so a revoked one stops within that time on every node. An
//! address that tries many wrong tokens has to wait. `auth` decides which scope a route needs.

use std::{
    convert::Infallible,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{
    chance,
    port::guest,
    store::{link::Db, token},
};

/// The prefix of each token that hookonce makes, so that a search finds one that leaked.
pub const PREFIX: &str = "hko_";
const TOKEN_BYTES: usize = PREFIX.len() + 64;
const REMEMBERED: Duration = Duration::from_secs(2);
const REMEMBERED_MAX: usize = 10_000;

/// Why the rights of a token are not known.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("this address has sent too many wrong tokens: wait a second")]
    TooMany,
    #[error("tokens can't be looked up")]
    Database(#[from] sqlx::Error),
}

/// The digest that is stored instead of a token.
pub type TokenDigest = [u8; 32];

pub fn digest(token: &str) -> TokenDigest {
    Sha256::digest(token).into()
}

/// Makes a token.
pub fn generate() -> String {
    format!("{PREFIX}{}", hex::encode(chance::bytes::<32>()))
}

/// The right that a route asks of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To read the metrics, for which there is a token of its own.
    Metrics,
    Read,
    Operate,
    Admin,
    /// To read steps.
    LedgerRead,
    /// To claim, complete and use dedup.
    Ledger,
}

/// What the holder of a token may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    pub read: bool,
    pub operate: bool,
    pub admin: bool,
    pub ledger: bool,
    /// The owner of the steps and keys that the token's holder sees; it sees no others.
    pub tenant: Option<Arc<str>>,
    /// The digest of the token itself.
    pub digest: TokenDigest,
}

impl Grant {
    /// Each scope includes the weaker ones: admin includes all, operate includes read and ledger.
    fn of(digest: TokenDigest, scopes: &[String], tenant: Option<String>) -> Self {
        let has = |name: &str| scopes.iter().any(|scope| scope == name);
        let admin = has("admin");
        let operate = admin || has("operate");
        Self {
            read: operate || has("read"),
            operate,
            admin,
            ledger: operate || has("ledger"),
            tenant: tenant.map(Into::into),
            digest,
        }
    }

    fn everything(digest: TokenDigest) -> Self {
        Self {
            read: true,
            operate: true,
            admin: true,
            ledger: true,
            tenant: None,
            digest,
        }
    }

    pub fn allows(&self, need: Need) -> bool {
        match need {
            Need::Metrics | Need::Read => self.read,
            Need::Operate => self.operate,
            Need::Admin => self.admin,
            Need::LedgerRead => self.read || self.ledger,
            Need::Ledger => self.ledger,
        }
    }
}

/// How many wrong tokens of one address are looked up in a burst, and after it each second.
const MISSES_MAX: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);
const MISSES_PER_SECOND: NonZeroU32 = NonZeroU32::MIN;

/// How long an address that sent more gets no look-up.
const SHUT_FOR: Duration = Duration::from_secs(1);

struct Misses {
    rate: DefaultDirectRateLimiter,
    shut_until: Mutex<Option<Instant>>,
}

impl Default for Misses {
    fn default() -> Self {
        let quota = Quota::per_second(MISSES_PER_SECOND).allow_burst(MISSES_MAX);
        Self {
            rate: RateLimiter::direct(quota),
            shut_until: Mutex::default(),
        }
    }
}

impl Misses {
    fn shut_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.shut_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn is_shut(&self) -> bool {
        self.shut_until()
            .is_some_and(|until| Instant::now() < until)
    }

    fn note(&self) {
        if self.rate.check().is_err() {
            *self.shut_until() = Some(Instant::now() + SHUT_FOR);
        }
    }
}

struct Remembered {
    grant: Option<Grant>,
    until: Instant,
}

pub struct Tokens {
    pool: Db,
    file_digest: [u8; 32],
    remembered: Cache<[u8; 32], Arc<Remembered>>,
    /// Addresses that sent wrong tokens.
    misses: Cache<IpAddr, Arc<Misses>>,
}

impl Tokens {
    pub fn new(pool: Db, file_token: &str) -> Self {
        Self {
            pool,
            file_digest: digest(file_token),
            remembered: Cache::new(REMEMBERED_MAX),
            misses: Cache::new(REMEMBERED_MAX),
        }
    }

    /// What a token may do; None if there is no such token or it is revoked. A text that cannot be
    /// a token costs no query, and neither does an address that sent too many wrong ones.
    pub async fn grant(
        &self,
        token: &str,
        address: Option<IpAddr>,
    ) -> Result<Option<Grant>, TokenError> {
        let digest = digest(token);
        if bool::from(digest.ct_eq(&self.file_digest)) {
            return Ok(Some(Grant::everything(digest)));
        }
        if token.len() != TOKEN_BYTES || !token.starts_with(PREFIX) {
            return Ok(None);
        }
        let known = self.remembered.get(&digest);
        if let Some(known) = known.as_ref().filter(|known| Instant::now() < known.until) {
            return Ok(known.grant.clone());
        }
        // A token that was right a while ago is looked up again, whatever else its address sends.
        let was_right = known.is_some_and(|known| known.grant.is_some());
        let misses = address.and_then(|address| self.misses.get(&guest(address)));
        if !was_right && misses.is_some_and(|misses| misses.is_shut()) {
            return Err(TokenError::TooMany);
        }
        // The time counts from before the look-up, so a token that is revoked meanwhile is not
        // remembered longer.
        let until = Instant::now() + REMEMBERED;
        let grant = token::find(&self.pool, &digest)
            .await?
            .map(|(scopes, tenant)| Grant::of(digest, &scopes, tenant));
        self.remembered.insert(
            digest,
            Arc::new(Remembered {
                grant: grant.clone(),
                until,
            }),
        );
        if let (None, Some(address)) = (&grant, address) {
            let misses = self
                .misses
                .get_or_insert_with(&guest(address), || Ok::<_, Infallible>(Arc::default()));
            let _ = misses.map(|misses| misses.note());
        }
        Ok(grant)
    }

    /// Whether this digest is of a token in force; asks the database each time.
    pub async fn is_in_force(&self, digest: &[u8; 32]) -> Result<bool, sqlx::Error> {
        Ok(bool::from(digest.ct_eq(&self.file_digest))
            || token::find(&self.pool, digest).await?.is_some())
    }

    /// Forgets all tokens after one was revoked, so this process looks each one up again.
    pub fn forget(&self) {
        self.remembered.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_includes_the_weaker_ones() {
        let allowed = |scope: &str| {
            let grant = Grant::of([0; 32], &[scope.to_owned()], None);
            [
                Need::Read,
                Need::Operate,
                Need::Admin,
                Need::LedgerRead,
                Need::Ledger,
            ]
            .map(|need| grant.allows(need))
        };
        assert_eq!(allowed("read"), [true, false, false, true, false]);
        assert_eq!(allowed("operate"), [true, true, false, true, true]);
        assert_eq!(allowed("admin"), [true; 5]);
        assert_eq!(allowed("ledger"), [false, false, false, true, true]);
        assert_eq!(allowed("another"), [false; 5]);
    }

    #[test]
    fn a_new_token_looks_like_one() {
        let token = generate();
        assert_eq!(
            (token.len(), token.starts_with(PREFIX)),
            (TOKEN_BYTES, true)
        );
        assert_ne!(token, generate());
    }
}
