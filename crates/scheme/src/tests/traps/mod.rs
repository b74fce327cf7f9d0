//! The traps of single providers, each on its own: what is nearly right, and what looks wrong but
//! is right.

mod bodies;
mod secrets;
mod signatures;

use std::io::Write as _;

use base64::Engine as _;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use super::*;

fn built_in(provider: &str, secrets: &[&str]) -> Verifier {
    verifier(&source(provider), secrets)
}

fn sha256(secret: &[u8], parts: &[&str]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    parts
        .iter()
        .fold(mac, |mac, part| mac.chain_update(part))
        .finalize()
        .into_bytes()
        .to_vec()
}

fn sha1(secret: &[u8], parts: &[&str]) -> Vec<u8> {
    let mac = Hmac::<Sha1>::new_from_slice(secret).unwrap();
    parts
        .iter()
        .fold(mac, |mac, part| mac.chain_update(part))
        .finalize()
        .into_bytes()
        .to_vec()
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
