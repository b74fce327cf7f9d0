//! From secrets as they are written to the keys of a scheme's algorithms.

use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    error::SchemeError,
    keys::key::{Key, Step, key_bytes},
    spec::Algorithm,
};

/// What PEM begins with (RFC 7468).
const ARMOUR: &str = "-----BEGIN ";
/// The beginnings, in PEM, of what anybody may have.
const PUBLIC: [&str; 3] = [
    "-----BEGIN PUBLIC KEY",
    "-----BEGIN RSA PUBLIC KEY",
    "-----BEGIN CERTIFICATE",
];

/// The secrets that are not empty.
pub(crate) fn written_in(secrets: &[SecretString]) -> Vec<SecretString> {
    secrets
        .iter()
        .filter(|secret| !secret.expose_secret().is_empty())
        .cloned()
        .collect()
}

/// What leads from secrets to keys: a scheme's algorithms, and the steps to a key's bytes.
#[derive(Clone, Copy)]
pub(crate) struct Making<'s> {
    pub(crate) algorithms: &'s [Algorithm],
    pub(crate) steps: &'s [Step],
}

/// One key for each secret, by algorithm; and the secrets that can't be used.
pub(crate) fn keys_of(
    making: Making<'_>,
    secrets: &[SecretString],
) -> (Vec<(Algorithm, Vec<Key>)>, Vec<SchemeError>) {
    let mut errors = Vec::new();
    let mut all: Vec<(Algorithm, Vec<Key>)> = making
        .algorithms
        .iter()
        .map(|algorithm| (*algorithm, Vec::new()))
        .collect();
    let mixed = making.algorithms.len() > 1
        && making
            .algorithms
            .iter()
            .any(|algorithm| algorithm.is_public());
    for (index, secret) in secrets.iter().enumerate() {
        let made = if mixed {
            keys_by_form(making, secret.expose_secret())
        } else {
            keys_of_all(making, secret.expose_secret())
        };
        match made {
            Ok(made) => made.into_iter().for_each(|(at, key)| all[at].1.push(key)),
            Err(message) => errors.push(SchemeError::new(&format!("secrets[{index}]"), &message)),
        }
    }
    (all, errors)
}

fn keys_of_all(making: Making<'_>, secret: &str) -> Result<Vec<(usize, Key)>, String> {
    let is_public = PUBLIC
        .iter()
        .any(|start| secret.trim_start().starts_with(start));
    // Whoever reads a public key could sign with it as if it were a secret.
    if is_public
        && !making
            .algorithms
            .iter()
            .all(|algorithm| algorithm.is_public())
    {
        return Err("is a public key, which anybody may have: set the scheme's `algorithm` to the one that it is for".into());
    }
    let bytes = key_bytes(making.steps, secret)?;
    making
        .algorithms
        .iter()
        .enumerate()
        .map(|(at, algorithm)| Ok((at, Key::new(*algorithm, &bytes)?)))
        .collect()
}

/// If secrets and public keys may both sign, the secret's own form tells which it is. The request
/// never does.
fn keys_by_form(making: Making<'_>, secret: &str) -> Result<Vec<(usize, Key)>, String> {
    let is_pem = secret.trim_start().starts_with(ARMOUR);
    let bytes = if is_pem {
        key_bytes(&[Step::Base64], secret)
    } else {
        key_bytes(making.steps, secret)
    }?;
    let fitting = making
        .algorithms
        .iter()
        .enumerate()
        .filter(|(_, algorithm)| algorithm.is_public() == is_pem);
    let made: Vec<Result<(usize, Key), String>> = fitting
        .map(|(at, algorithm)| Ok((at, Key::new(*algorithm, &bytes)?)))
        .collect();
    if is_pem && made.iter().any(Result::is_ok) {
        return Ok(made.into_iter().flatten().collect());
    }
    made.into_iter().collect()
}
