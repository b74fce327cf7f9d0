//! Fresh secrets in the form that a provider gives out, for senders' tools and tests.

use base64::Engine as _;
use secrecy::SecretString;

use crate::{
    error::SchemeError,
    keys::{
        asymmetric,
        key::{self, Step},
    },
    plan::{catalog::Scheme, compiled::Plan},
    spec::Algorithm,
};

/// Refuses a scheme whose keys are fetched, because those are the provider's alone.
pub(super) fn own_keys(plan: &Plan) -> Result<(), SchemeError> {
    if plan.keys.is_none() {
        return Ok(());
    }
    Err(SchemeError::new(
        "keys",
        "can't be signed with: only the provider has the private key",
    ))
}

/// A fresh secret of 32 random bytes in the form that the provider gives out; for Ed25519 a key
/// pair, for ECDSA a private key, as only a sender has.
///
/// # Errors
///
/// A scheme that can't be run, whose keys the provider publishes, or that signs with RSA, for which
/// no key is made.
pub fn generate_secret(
    scheme: &Scheme,
    rng: &mut impl rand::Rng,
) -> Result<SecretString, SchemeError> {
    let plan = scheme.plan().map_err(|mut errors| errors.remove(0))?;
    own_keys(plan)?;
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    let bytes = match plan.algorithms[0] {
        Algorithm::Ed25519 => key::key_pair(bytes).to_vec(),
        algorithm @ (Algorithm::EcdsaP256Sha256 | Algorithm::RsaSha256) => asymmetric::generate(
            algorithm,
        )
        .ok_or_else(|| {
            SchemeError::new(
                "secret",
                "can't be made here: make an RSA key (openssl genpkey -algorithm RSA) and name it",
            )
        })?,
        _ => bytes.to_vec(),
    };
    let mut text = match plan
        .steps
        .iter()
        .rev()
        .find(|step| matches!(step, Step::Base64 | Step::Hex))
    {
        Some(Step::Base64) => base64::engine::general_purpose::STANDARD.encode(bytes),
        _ => hex::encode(bytes),
    };
    // The prefix that is removed first comes first, so the steps are undone from the last to the
    // first.
    for step in plan.steps.iter().rev() {
        if let Step::Strip(prefix) = step {
            text.insert_str(0, &prefix.replace('*', "dev"));
        }
    }
    if let Some(start) = &scheme.spec.secret_starts {
        text.insert_str(0, start);
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::{SeedableRng as _, rngs::StdRng};
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::Catalog;

    #[test]
    fn secrets_have_the_providers_form() {
        let catalog = Catalog::new(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:?}"));
        let mut rng = StdRng::seed_from_u64(1);
        for (provider, start, length) in [
            ("stripe", "whsec_", 70),
            ("standard-webhooks", "whsec_", 50),
            ("svix", "whsec_", 50),
            ("github", "", 64),
            ("slack", "", 64),
            ("shopify", "", 64),
        ] {
            let secret = generate_secret(catalog.get(provider).unwrap(), &mut rng).unwrap();
            let secret = secret.expose_secret();
            assert!(
                secret.starts_with(start) && secret.len() == length,
                "{provider}: {secret}"
            );
        }
        let twice = [(); 2].map(|()| {
            generate_secret(catalog.get("github").unwrap(), &mut rng)
                .unwrap()
                .expose_secret()
                .to_owned()
        });
        assert_ne!(twice[0], twice[1]);
    }
}
