//! Standard Webhooks, symmetric (`v1`): what the relay signs each attempt with. Specification:
//! github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md, "Signature scheme".

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

use crate::{
    error::SchemeError,
    keys::key::{Step, key_bytes},
};

/// A destination's secret, ready to sign with.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

impl Signer {
    /// `secret` is `whsec_` and base64.
    ///
    /// # Errors
    ///
    /// A secret that is none; its key is `signing_secret`.
    pub fn new(secret: &SecretString) -> Result<Self, SchemeError> {
        let wrong = |message: &str| SchemeError::new("signing_secret", message);
        let key = key_bytes(
            &[Step::Strip("whsec_".into()), Step::Base64],
            secret.expose_secret(),
        )
        .map_err(|message| {
            wrong(&format!(
                "{message}: a Standard Webhooks secret is whsec_ and then base64"
            ))
        })?;
        if key.is_empty() {
            return Err(wrong("is empty"));
        }
        Hmac::new_from_slice(&key)
            .map(Self)
            .map_err(|_| wrong("has a length that HMAC does not take"))
    }

    /// `v1,` and the base64 of the HMAC-SHA256 of `id.time.body`, the time in unix seconds.
    pub fn sign(&self, id: &str, unix_seconds: i64, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(id.as_bytes());
        mac.update(format!(".{unix_seconds}.").as_bytes());
        mac.update(body);
        let mut text = String::with_capacity(48);
        text.push_str("v1,");
        STANDARD.encode_string(mac.finalize().into_bytes(), &mut text);
        text
    }
}

/// One signature with a secret that is not kept; see [`Signer`].
///
/// # Errors
///
/// As those of [`Signer::new`].
pub fn sign(
    secret: &SecretString,
    id: &str,
    unix_seconds: i64,
    body: &[u8],
) -> Result<String, SchemeError> {
    Ok(Signer::new(secret)?.sign(id, unix_seconds, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_published_vector_and_the_official_library() {
        let secret = "whsec_plJ3nmyCDGBKInavdOK15jsl";
        let body = br#"{"event_type":"ping","data":{"success":true}}"#;
        let signature = sign(&secret.into(), "msg_loFOjxBNrRLzqYUf", 1_731_705_121, body).unwrap();
        assert_eq!(signature, "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=");
        let oracle = standardwebhooks::Webhook::new(secret).unwrap();
        assert_eq!(
            signature,
            oracle
                .sign("msg_loFOjxBNrRLzqYUf", 1_731_705_121, body)
                .unwrap()
        );
    }

    #[test]
    fn a_secret_that_is_none_is_refused() {
        for secret in ["", "whsec_", "whsec_!", "plain text"] {
            assert!(sign(&secret.into(), "id", 1, b"").is_err(), "{secret:?}");
        }
    }
}
