//! From secrets to keys, and what a key says of a digest. Keys are symmetric, or public
//! counterparts of secrets, or published by a provider. Nothing is read of a request but where its
//! key is.

pub(crate) mod asymmetric;
pub(crate) mod key;
pub(crate) mod key_set;
pub(crate) mod published;
pub(crate) mod secrets;
