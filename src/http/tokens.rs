//! What a bearer token may do. The file's token may do everything; others are looked up by digest and remembered for two seconds, so that a
//! revoked one stops within that time on every node. Which scope a route needs is `auth`'s.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::store::{link::Db, token};

/// What each token that hookonce makes begins with, so that one that leaked can be found by search.
pub const PREFIX: &str = "hko_";
const TOKEN_BYTES: usize = PREFIX.len() + 64;
const REMEMBERED: Duration = Duration::from_secs(2);
const REMEMBERED_MAX: usize = 10_000;

/// The digest that is kept of a token.
pub fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// A new token.
pub fn generate() -> String {
    format!("{PREFIX}{}", hex::encode(rand::random::<[u8; 32]>()))
}

/// What a route asks of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Read,
    Operate,
    Admin,
    /// Reading steps.
    LedgerRead,
    /// Claims, completions, dedup.
    Ledger,
}

/// What the holder of a token may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    pub read: bool,
    pub operate: bool,
    pub admin: bool,
    pub ledger: bool,
    /// Whose steps and keys: the token's holder sees no others.
    pub tenant: Option<Arc<str>>,
}

impl Grant {
    /// Each scope includes what is weaker: admin all, operate read and ledger.
    fn of(scopes: &[String], tenant: Option<String>) -> Self {
        let has = |name: &str| scopes.iter().any(|scope| scope == name);
        let admin = has("admin");
        let operate = admin || has("operate");
        Self { read: operate || has("read"), operate, admin, ledger: operate || has("ledger"), tenant: tenant.map(Into::into) }
    }

    fn everything() -> Self {
        Self { read: true, operate: true, admin: true, ledger: true, tenant: None }
    }

    pub fn allows(&self, need: Need) -> bool {
        match need {
            Need::Read => self.read,
            Need::Operate => self.operate,
            Need::Admin => self.admin,
            Need::LedgerRead => self.read || self.ledger,
            Need::Ledger => self.ledger,
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
}

impl Tokens {
    pub fn new(pool: Db, file_token: &str) -> Self {
        Self { pool, file_digest: digest(file_token), remembered: Cache::new(REMEMBERED_MAX) }
    }

    /// None: there is no such token, or it is revoked. What can't be a token costs no query.
    pub async fn grant(&self, token: &str) -> Result<Option<Grant>, sqlx::Error> {
        let digest = digest(token);
        if bool::from(digest.ct_eq(&self.file_digest)) {
            return Ok(Some(Grant::everything()));
        }
        if token.len() != TOKEN_BYTES || !token.starts_with(PREFIX) {
            return Ok(None);
        }
        if let Some(known) = self.remembered.get(&digest).filter(|known| Instant::now() < known.until) {
            return Ok(known.grant.clone());
        }
        // The time counts from before the look: a token that is revoked meanwhile is not remembered longer for it.
        let until = Instant::now() + REMEMBERED;
        let grant = token::find(&self.pool, &digest).await?.map(|(scopes, tenant)| Grant::of(&scopes, tenant));
        self.remembered.insert(digest, Arc::new(Remembered { grant: grant.clone(), until }));
        Ok(grant)
    }

    /// A token was revoked: this process asks anew for each.
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
            let grant = Grant::of(&[scope.to_owned()], None);
            [Need::Read, Need::Operate, Need::Admin, Need::LedgerRead, Need::Ledger].map(|need| grant.allows(need))
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
        assert_eq!((token.len(), token.starts_with(PREFIX)), (TOKEN_BYTES, true));
        assert_ne!(token, generate());
    }
}
