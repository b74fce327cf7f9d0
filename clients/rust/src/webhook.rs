//! Verification of what hookonce relays: Standard Webhooks with a symmetric secret (`v1`), as its
//! specification has it under "Signature scheme". The ledger is not needed.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::de::DeserializeOwned;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::error::Error;

/// What Standard Webhooks libraries take too.
const TOLERANCE_SECONDS: i64 = 300;
/// Each secret is compared with each candidate, so a sender must not choose their number.
const CANDIDATES_MAX: usize = 16;
/// Secrets are copied by hand, so padding and trailing bits may be off.
const COPIED: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const COPIED_STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, COPIED);
const COPIED_URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, COPIED);

/// A relayed request that was verified.
///
/// The signature covers `id` and `body`, and the time. The rest is what hookonce said beside it, in
/// headers that it writes itself (`docs/handlers.md`).
#[derive(Clone, Debug)]
pub struct RelayedEvent {
    /// The event's id (`webhook-id`): the same on every attempt and replay.
    pub id: String,
    /// The name of the source that received it (`hookonce-source`).
    pub source: String,
    /// What makes two requests of the source one event (`hookonce-event-key`).
    pub key: String,
    /// The provider's type of event (`hookonce-event-type`), if it has one.
    pub event_type: Option<String>,
    /// Which attempt at the delivery this is (`hookonce-attempt`), from 1; 0 if it was not said.
    pub attempt: u64,
    /// Rises with every lease of the delivery (`hookonce-fence`); 0 if it was not said.
    pub fence: u64,
    /// The id of the replay that this is part of (`hookonce-replay`).
    pub replay: Option<String>,
    /// The provider's body, byte for byte.
    pub body: Vec<u8>,
}

impl RelayedEvent {
    /// The body, read as JSON.
    ///
    /// # Errors
    ///
    /// If the body is no JSON, or has another shape than `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// Verifies relayed requests with a destination's `signing_secret`, or several while it is rotated.
#[derive(Clone)]
pub struct Verifier {
    keys: Vec<Hmac<Sha256>>,
    now: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Verifier {
    /// A secret is `whsec_` and base64.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if a secret is no such text or is empty, or if there is none.
    pub fn new(secrets: &[&str]) -> Result<Self, Error> {
        if secrets.is_empty() {
            return Err(Error::Invalid(
                "without a secret nothing can be verified".into(),
            ));
        }
        let keys = secrets
            .iter()
            .map(|secret| key(secret))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            keys,
            now: Arc::new(system_time),
        })
    }

    /// With another clock than this machine's, for tests.
    #[must_use]
    pub fn with_clock(self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self {
            now: Arc::new(now),
            ..self
        }
    }

    /// Verifies a request by its headers, whose names may be in any case, and its body, which must
    /// be the exact bytes that came. The request's time may be 300 seconds off, in both directions.
    ///
    /// # Errors
    ///
    /// [`Error::VerificationFailed`] with the reason's code. Answer 401, and don't tell the sender
    /// why.
    pub fn verify<N: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        headers: impl IntoIterator<Item = (N, V)>,
        body: Vec<u8>,
    ) -> Result<RelayedEvent, Error> {
        let text = |value: V| String::from_utf8_lossy(value.as_ref()).into_owned();
        let mut headers: BTreeMap<String, String> = headers
            .into_iter()
            .map(|(name, value)| (name.as_ref().to_ascii_lowercase(), text(value)))
            .collect();
        let id = headers
            .remove("webhook-id")
            .filter(|id| !id.is_empty())
            .ok_or(Error::VerificationFailed("malformed_request"))?;
        let unix_seconds = self
            .timestamp(headers.get("webhook-timestamp"))
            .map_err(Error::VerificationFailed)?;
        let found =
            candidates(headers.get("webhook-signature")).map_err(Error::VerificationFailed)?;
        // All are compared, so that the time does not tell which one matched.
        let is_match = self.keys.iter().fold(false, |matches, key| {
            let own = sign(key, &id, unix_seconds, &body);
            found.iter().fold(matches, |matches, given| {
                matches | bool::from(given.as_bytes().ct_eq(own.as_bytes()))
            })
        });
        if !is_match {
            return Err(Error::VerificationFailed("no_match"));
        }
        let number = |name: &str| {
            headers
                .get(name)
                .and_then(|text| text.parse().ok())
                .unwrap_or_default()
        };
        let (attempt, fence) = (number("hookonce-attempt"), number("hookonce-fence"));
        Ok(RelayedEvent {
            id,
            attempt,
            fence,
            source: headers.remove("hookonce-source").unwrap_or_default(),
            key: headers.remove("hookonce-event-key").unwrap_or_default(),
            event_type: headers.remove("hookonce-event-type"),
            replay: headers.remove("hookonce-replay"),
            body,
        })
    }

    /// The request's time in unix seconds, if it is near enough to now.
    fn timestamp(&self, text: Option<&String>) -> Result<i64, &'static str> {
        let text = text.ok_or("timestamp_missing")?;
        if text.is_empty() || text.len() > 12 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("timestamp_malformed");
        }
        let unix_seconds: i64 = text.parse().map_err(|_| "timestamp_malformed")?;
        match unix_seconds_of((self.now)()) - unix_seconds {
            age if age > TOLERANCE_SECONDS => Err("timestamp_too_old"),
            age if age < -TOLERANCE_SECONDS => Err("timestamp_in_future"),
            _ => Ok(unix_seconds),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the clock that with_clock replaces"
)]
fn system_time() -> SystemTime {
    SystemTime::now()
}

/// Whole seconds since 1970. A clock that stands before that is taken to stand there.
fn unix_seconds_of(time: SystemTime) -> i64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A secret, ready to sign with.
fn key(secret: &str) -> Result<Hmac<Sha256>, Error> {
    let wrong = |what: &str| {
        Error::Invalid(format!(
            "a signing secret {what}: it is whsec_ and then base64"
        ))
    };
    let text = secret.strip_prefix("whsec_").unwrap_or(secret).trim_ascii();
    let key = COPIED_STANDARD
        .decode(text)
        .or_else(|_| COPIED_URL_SAFE.decode(text))
        .map_err(|_| wrong("is not base64"))?;
    if key.is_empty() {
        return Err(wrong("is empty"));
    }
    Hmac::new_from_slice(&key).map_err(|_| wrong("has a length that HMAC does not take"))
}

/// `v1,` and the base64 of the HMAC of `id.time.body`.
fn sign(key: &Hmac<Sha256>, id: &str, unix_seconds: i64, body: &[u8]) -> String {
    let mut mac = key.clone();
    mac.update(id.as_bytes());
    mac.update(format!(".{unix_seconds}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// The signatures of a request that are of this scheme; a request has several while secrets rotate.
fn candidates(text: Option<&String>) -> Result<Vec<&str>, &'static str> {
    let text = text
        .filter(|text| !text.is_empty())
        .ok_or("missing_signature")?;
    let is_signature = |part: &&str| {
        part.strip_prefix("v1,")
            .is_some_and(|encoded| !encoded.is_empty() && STANDARD.decode(encoded).is_ok())
    };
    let found: Vec<&str> = text
        .split(' ')
        .take(CANDIDATES_MAX)
        .filter(is_signature)
        .collect();
    if found.is_empty() {
        Err("malformed_signature")
    } else {
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECRET: &str = "whsec_plJ3nmyCDGBKInavdOK15jsl";
    const ID: &str = "msg_loFOjxBNrRLzqYUf";
    const UNIX_SECONDS: i64 = 1_731_705_121;
    const BODY: &[u8] = br#"{"event_type":"ping","data":{"success":true}}"#;

    fn verifier(secrets: &[&str]) -> Verifier {
        Verifier::new(secrets)
            .unwrap()
            .with_clock(|| SystemTime::UNIX_EPOCH + Duration::from_secs(UNIX_SECONDS as u64))
    }

    fn verify(signature: &str) -> Result<RelayedEvent, Error> {
        let time = UNIX_SECONDS.to_string();
        let headers = [
            ("Webhook-Id", ID),
            ("WEBHOOK-TIMESTAMP", &time),
            ("webhook-signature", signature),
        ];
        verifier(&[SECRET]).verify(headers, BODY.to_vec())
    }

    #[test]
    fn agrees_with_the_published_vector_and_the_official_library() {
        let signature = sign(&key(SECRET).unwrap(), ID, UNIX_SECONDS, BODY);
        assert_eq!(signature, "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=");
        let oracle = standardwebhooks::Webhook::new(SECRET).unwrap();
        assert_eq!(signature, oracle.sign(ID, UNIX_SECONDS, BODY).unwrap());
        let event = verify(&signature).unwrap();
        assert_eq!(
            (
                event.id.as_str(),
                event.attempt,
                event.fence,
                event.event_type
            ),
            (ID, 0, 0, None)
        );
    }

    #[test]
    fn a_signature_counts_among_the_first_candidates_alone() {
        let right = sign(&key(SECRET).unwrap(), ID, UNIX_SECONDS, BODY);
        let others = |count: usize| "v1,AAAA ".repeat(count);
        assert!(verify(&format!("{}{right}", others(CANDIDATES_MAX - 1))).is_ok());
        let refused = verify(&format!("{}{right}", others(CANDIDATES_MAX)));
        assert!(matches!(
            refused,
            Err(Error::VerificationFailed("no_match"))
        ));
    }

    #[test]
    fn a_secret_may_be_copied_loosely_but_must_be_one() {
        let bytes = |secret: &str| key(secret).map(|key| sign(&key, "id", 1, b"")).ok();
        let expected = bytes("whsec_A-_AAQ==");
        assert!(expected.is_some());
        for secret in [
            "whsec_A+/AAQ==",
            "A-_AAQ",
            "whsec_ A-_AAQ\n",
            "whsec_A+/AAR",
        ] {
            assert_eq!(bytes(secret), expected, "{secret:?}");
        }
        for secret in ["", "whsec_", "whsec_!", "plain text"] {
            assert!(matches!(key(secret), Err(Error::Invalid(_))), "{secret:?}");
        }
        assert!(matches!(Verifier::new(&[]), Err(Error::Invalid(_))));
    }
}
