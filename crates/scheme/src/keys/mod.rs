//! From secrets to keys, and what a key says of a digest: symmetric keys, public keys that are
//! secrets' counterparts, and those that a provider publishes. Reads no request but for where its
//! key is.

pub(crate) mod asymmetric;
pub(crate) mod key;
pub(crate) mod key_set;
pub(crate) mod published;
pub(crate) mod secrets;
