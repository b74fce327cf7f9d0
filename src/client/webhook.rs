//! Standard Webhooks verification of what hookonce relays.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use subtle::ConstantTimeEq as _;

use super::error::Error;
use crate::{clock::Clock, provider::standard::Signer};

const TOLERANCE_SECONDS: i64 = 300;
/// Each secret is compared with each of them.
const CANDIDATES_MAX: usize = 16;

/// A request that was verified. The signature covers `id` and `body`; the rest is what hookonce said beside it.
#[derive(Clone, Debug)]
pub struct RelayedEvent {
    /// The event's id: the same on every attempt and replay.
    pub id: String,
    pub source: String,
    pub key: String,
    pub event_type: Option<String>,
    pub attempt: u64,
    pub fence: u64,
    pub replay: Option<String>,
    pub body: Vec<u8>,
}

impl RelayedEvent {
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// Verifies with a destination's `signing_secret`, or several while rotating.
#[derive(Clone)]
pub struct Verifier {
    signers: Vec<Signer>,
    tolerance_seconds: i64,
    clock: Clock,
}

impl Verifier {
    pub fn new(secrets: &[&str]) -> Result<Self, Error> {
        let signers = secrets.iter().map(|secret| Signer::new(&SecretString::from(*secret)));
        let signers = signers.collect::<Result<Vec<_>, _>>().map_err(|error| Error::Invalid(error.to_string()))?;
        if signers.is_empty() {
            return Err(Error::Invalid("without a secret nothing can be verified".into()));
        }
        Ok(Self { signers, tolerance_seconds: TOLERANCE_SECONDS, clock: Clock::System })
    }

    /// With another clock than this machine's.
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// `body` is the exact bytes that came.
    pub fn verify<N: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        headers: impl IntoIterator<Item = (N, V)>,
        body: Vec<u8>,
    ) -> Result<RelayedEvent, Error> {
        let text = |value: V| String::from_utf8_lossy(value.as_ref()).into_owned();
        let mut headers: BTreeMap<String, String> =
            headers.into_iter().map(|(name, value)| (name.as_ref().to_ascii_lowercase(), text(value))).collect();
        let id = headers.remove("webhook-id").filter(|id| !id.is_empty()).ok_or(Error::VerificationFailed("malformed_request"))?;
        let unix = self.timestamp(headers.get("webhook-timestamp")).map_err(Error::VerificationFailed)?;
        let found = candidates(headers.get("webhook-signature")).map_err(Error::VerificationFailed)?;
        let is_match = self.signers.iter().fold(false, |matches, signer| {
            let own = signer.sign(&id, unix, &body);
            found.iter().fold(matches, |matches, given| matches | bool::from(given.as_bytes().ct_eq(own.as_bytes())))
        });
        if !is_match {
            return Err(Error::VerificationFailed("no_match"));
        }
        let number = |name: &str| headers.get(name).and_then(|text| text.parse().ok()).unwrap_or_default();
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

    fn timestamp(&self, text: Option<&String>) -> Result<i64, &'static str> {
        let text = text.ok_or("timestamp_missing")?;
        if text.is_empty() || text.len() > 12 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("timestamp_malformed");
        }
        let unix: i64 = text.parse().map_err(|_| "timestamp_malformed")?;
        let age = self.clock.unix_ms() / 1000 - unix;
        match age {
            age if age > self.tolerance_seconds => Err("timestamp_too_old"),
            age if age < -self.tolerance_seconds => Err("timestamp_in_future"),
            _ => Ok(unix),
        }
    }
}

fn candidates(text: Option<&String>) -> Result<Vec<&str>, &'static str> {
    let text = text.filter(|text| !text.is_empty()).ok_or("missing_signature")?;
    let is_signature =
        |part: &&str| part.strip_prefix("v1,").is_some_and(|encoded| !encoded.is_empty() && STANDARD.decode(encoded).is_ok());
    let found: Vec<&str> = text.split(' ').take(CANDIDATES_MAX).filter(is_signature).collect();
    if found.is_empty() { Err("malformed_signature") } else { Ok(found) }
}
