//! Ids and newtypes that every layer shares. No I/O, no clock of its own.

pub use hookonce_scheme::BodyDigest;
use hookonce_scheme::glob;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub use crate::contract::Mark;

/// The key under which an event, a run or a mark is stored: the first 16 bytes of SHA-256 over a
/// domain, the source and the value. It is not an id: the thing that has the key has its own id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub Uuid);

impl From<Uuid> for Key {
    fn from(key: Uuid) -> Self {
        Self(key)
    }
}

/// The key of (source, event key).
pub fn key_of(source: &str, event_key: &str) -> Key {
    domain_key(b"key", source, event_key.as_bytes())
}

/// The key of (source, rule of its event keys, event key). Another rule may give the same text to
/// another event, so the rule is part of the key.
pub fn ruled_key_of(source: &str, rule: &str, event_key: &str) -> Key {
    domain_key(b"ruled", &format!("{source}\0{rule}"), event_key.as_bytes())
}

/// The key of an event that a tenant's step emits. Neither another tenant nor a caller without one
/// can make the same key, whatever event key they choose.
pub fn emitted_key_of(source: &str, tenant: &str, event_key: &str) -> Key {
    if tenant.is_empty() {
        key_of(source, event_key)
    } else {
        domain_key(b"key", &format!("{source}\0{tenant}"), event_key.as_bytes())
    }
}

/// Characters that are escaped in a part of an emitted event's key, so that two different paths
/// never give the same key.
const PART: &AsciiSet = &CONTROLS.add(b'/').add(b'%');

/// A part of an emitted event's key.
pub fn key_part(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, PART)
}

/// The event key of what a tenant's step emits, which begins with the tenant's name.
pub fn tenants_event_key(tenant: &str, key: String) -> String {
    if tenant.is_empty() {
        key
    } else {
        format!("{}/{key}", key_part(tenant))
    }
}

/// The key of (source, body digest). It finds a signed body that comes again under a new id that is
/// not signed.
pub fn body_key_of(source: &str, digest: &BodyDigest) -> Key {
    domain_key(b"body", source, &digest.0)
}

/// The key of an event that no other request can repeat; `id` is the event's own.
pub fn lone_key_of(source: &str, id: &Uuid) -> Key {
    domain_key(b"lone", source, id.as_bytes())
}

/// The key of an event that an operator made of a conflict.
pub fn other_body_key_of(source: &str, event_key: &str, digest: &BodyDigest) -> Key {
    domain_key(
        b"other",
        source,
        &[&digest.0, event_key.as_bytes()].concat(),
    )
}

/// The key of an event whose key an earlier event with another body has.
pub fn another_key_of(key: &Key, digest: &BodyDigest) -> Key {
    domain_key(b"another", &key.0.simple().to_string(), &digest.0)
}

/// The key of a tenant's run, under which the ledger stores its steps.
pub fn run_key(tenant: &str, run: &str) -> Key {
    domain_key(b"run", tenant, run.as_bytes())
}

/// The prefix of the tenants that gateways use for their steps; the gateway's name follows. No
/// token is made for such a tenant.
pub const GATEWAY_TENANT: &str = "gateway:";

/// The key of a mark that a consumer has set. Neither tenant nor scope may contain a NUL.
pub fn dedup_key(tenant: &str, scope: &str, key: &str) -> Key {
    domain_key(b"dedup", &format!("{tenant}\0{scope}"), key.as_bytes())
}

fn domain_key(domain: &[u8], source: &str, value: &[u8]) -> Key {
    let digest = Sha256::new()
        .chain_update(domain)
        .chain_update([0])
        .chain_update(source)
        .chain_update([0])
        .chain_update(value)
        .finalize();
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    Key(Uuid::from_bytes(key))
}

/// A pattern of event types. `*` stands for any run of characters, any other character for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeGlob(String);

impl TypeGlob {
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn matches(&self, event_type: &str) -> bool {
        glob::matches(&self.0, event_type)
    }

    /// The same pattern for SQL's LIKE with its default escape.
    pub fn to_like(&self) -> String {
        let mut like = String::with_capacity(self.0.len() + 8);
        for c in self.0.chars() {
            match c {
                '*' => like.push('%'),
                '%' | '_' | '\\' => like.extend(['\\', c]),
                c => like.push(c),
            }
        }
        like
    }
}

/// The smallest id that a UUIDv7 of this time (unix milliseconds) can have. Days are divided by it.
pub fn id_floor(unix_ms: u64) -> Uuid {
    Uuid::from_u128(u128::from(unix_ms) << 80)
}

/// SHA-256 over the parts. Each has its length in bytes before it, so that different lists of parts
/// never give the same input.
pub fn digest_of<'a, T: AsRef<[u8]> + ?Sized + 'a>(
    parts: impl IntoIterator<Item = &'a T>,
) -> [u8; 32] {
    let hash = parts
        .into_iter()
        .map(AsRef::as_ref)
        .fold(Sha256::new(), |hash, part| {
            hash.chain_update((part.len() as u64).to_be_bytes())
                .chain_update(part)
        });
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_escapes_what_like_treats_specially() {
        assert_eq!(TypeGlob::new("a_b%*").to_like(), "a\\_b\\%%");
    }

    #[test]
    fn keys_of_two_sources_or_two_domains_differ() {
        let digest = BodyDigest::of(b"x");
        assert_ne!(key_of("a", "bc"), key_of("ab", "c"));
        assert_ne!(body_key_of("a", &digest), body_key_of("b", &digest));
    }
}
