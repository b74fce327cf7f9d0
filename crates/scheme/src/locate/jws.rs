//! Tokens that are signed themselves: JWS in its compact form (RFC 7515), with claims (RFC 7519). A
//! claim with a hash of the body binds a token to its request; `binds` checks that. The algorithm
//! is the scheme's, and the token may only agree with it.

use std::borrow::Cow;

use base64::Engine as _;
use serde_json::{Map, Value, json};

use crate::{
    encoding::BASE64_URL,
    locate::json::Pointers,
    rejection::{Reason, Rejection},
    spec::Algorithm,
};

const HEADER_BYTES_MAX: usize = 4096;

/// A token, taken apart; nothing of it is trusted yet.
pub(crate) struct Token<'t> {
    /// What is signed.
    pub(crate) signed: &'t str,
    payload: &'t str,
    pub(crate) signature: Vec<u8>,
    pub(crate) algorithm: Algorithm,
    /// The name of the key that signed.
    pub(crate) key_id: Option<String>,
}

impl<'t> Token<'t> {
    /// Takes a token apart (RFC 7515, section 7.1). A token whose header asks for something unknown
    /// is refused.
    pub(crate) fn read(text: &'t str) -> Result<Self, Rejection> {
        let malformed = |detail: &'static str| Rejection::new(Reason::MalformedSignature, detail);
        let parts = || {
            let (signed, signature) = text.rsplit_once('.')?;
            let (header, payload) = signed.split_once('.')?;
            (!payload.contains('.') && header.len() <= HEADER_BYTES_MAX)
                .then_some((signed, header, payload, signature))
        };
        let (signed, header, payload, signature) =
            parts().ok_or_else(|| malformed("the signature is no token of three parts"))?;
        let header = BASE64_URL
            .decode(header)
            .ok()
            .and_then(|header| serde_json::from_slice::<Map<String, Value>>(&header).ok());
        let header = header.ok_or_else(|| malformed("the token's header can't be read"))?;
        if header.contains_key("crit") || header.get("b64").is_some_and(|b64| b64 != true) {
            return Err(malformed("the token's header asks for what is not known"));
        }
        let algorithm = header
            .get("alg")
            .and_then(Value::as_str)
            .and_then(algorithm_of);
        let algorithm =
            algorithm.ok_or_else(|| malformed("the token names no algorithm that counts"))?;
        let key_id = header.get("kid").and_then(Value::as_str).map(str::to_owned);
        let signature = BASE64_URL
            .decode(signature)
            .map_err(|_| malformed("the token's signature can't be read"))?;
        Ok(Self {
            signed,
            payload,
            signature,
            algorithm,
            key_id,
        })
    }

    /// Checks `exp` and `nbf`, if they are there, against this time in unix milliseconds.
    pub(crate) fn is_current(&self, leeway_ms: i64, now_unix_ms: i64) -> Result<(), Rejection> {
        let malformed = || {
            Rejection::new(
                Reason::TimestampMalformed,
                "a time of the token can't be read",
            )
        };
        let time = |name| match claim_in(self.payload, name) {
            Some(text) => text
                .parse::<f64>()
                .ok()
                .filter(|seconds| seconds.is_finite())
                .map(Some)
                .ok_or_else(malformed),
            None => Ok(None),
        };
        let unix_ms = |seconds: f64| (seconds * 1000.0) as i64;
        if let Some(expires) = time("exp")?
            && now_unix_ms >= unix_ms(expires).saturating_add(leeway_ms)
        {
            return Err(Rejection::new(
                Reason::TimestampTooOld,
                "the token has expired",
            ));
        }
        match time("nbf")? {
            Some(starts) if now_unix_ms < unix_ms(starts).saturating_sub(leeway_ms) => Err(
                Rejection::new(Reason::TimestampInFuture, "the token is not yet valid"),
            ),
            _ => Ok(()),
        }
    }
}

/// A claim's text, by its path.
pub(crate) fn claim<'t>(token: &'t str, path: &str) -> Option<Cow<'t, str>> {
    claim_in(token.split('.').nth(1)?, path).map(Cow::Owned)
}

fn claim_in(payload: &str, path: &str) -> Option<String> {
    let payload = BASE64_URL.decode(payload).ok()?;
    let mut pointers = Pointers::default();
    let index = pointers.add(path).ok()?;
    pointers
        .find(&payload)?
        .value(index)
        .map(|value| value.clone().into_owned())
}

/// RFC 7518, section 3.1, and RFC 8037. `none` is not among them.
fn algorithm_of(name: &str) -> Option<Algorithm> {
    NAMES
        .iter()
        .find(|(_, known)| *known == name)
        .map(|(algorithm, _)| *algorithm)
}

const NAMES: [(Algorithm, &str); 6] = [
    (Algorithm::HmacSha256, "HS256"),
    (Algorithm::HmacSha384, "HS384"),
    (Algorithm::HmacSha512, "HS512"),
    (Algorithm::RsaSha256, "RS256"),
    (Algorithm::EcdsaP256Sha256, "ES256"),
    (Algorithm::Ed25519, "EdDSA"),
];

/// Whether tokens can be signed with this algorithm.
pub(crate) fn is_for_tokens(algorithm: Algorithm) -> bool {
    NAMES.iter().any(|(known, _)| *known == algorithm)
}

/// The part that is signed of a token with these claims.
pub(crate) fn unsigned(algorithm: Algorithm, claims: &Map<String, Value>) -> String {
    let name = NAMES
        .iter()
        .find(|(known, _)| *known == algorithm)
        .map_or("none", |(_, name)| name);
    let encode = |text: String| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let header = json!({ "alg": name, "typ": "JWT" });
    format!(
        "{}.{}",
        encode(header.to_string()),
        encode(Value::Object(claims.clone()).to_string())
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(header: &str, payload: &str) -> String {
        let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        format!(
            "{}.{}.{}",
            encode(header),
            encode(payload),
            encode("signature")
        )
    }

    #[test]
    fn a_token_is_read_or_refused() {
        let good = token(r#"{"alg":"HS256"}"#, r#"{"a":{"b":1},"iss":"x"}"#);
        let read = Token::read(&good).unwrap();
        assert_eq!(
            (read.signature.as_slice(), read.algorithm),
            (&b"signature"[..], Algorithm::HmacSha256)
        );
        assert_eq!(claim(&good, "a.b").as_deref(), Some("1"));
        assert_eq!(claim(&good, "iss").as_deref(), Some("x"));
        assert_eq!(claim(&good, "none"), None);
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":"hs256"}"#,
            "{}",
            r#"{"alg":["HS256"]}"#,
            "[]",
            "",
        ] {
            assert!(Token::read(&token(header, "{}")).is_err(), "{header}");
        }
        for header in [
            r#"{"alg":"HS256","crit":["exp"]}"#,
            r#"{"alg":"HS256","b64":false}"#,
        ] {
            assert!(Token::read(&token(header, "{}")).is_err(), "{header}");
        }
        for text in [
            "",
            ".",
            "..",
            "a.b",
            &format!("{good}.x"),
            &format!("x.{good}"),
            &good.replace('.', "!"),
        ] {
            assert!(Token::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_held_to() {
        let at = |claims: &str, now: i64| {
            let token = token(r#"{"alg":"HS256"}"#, claims);
            Token::read(&token)
                .unwrap()
                .is_current(5_000, now * 1000)
                .map_err(|rejection| rejection.reason.code())
        };
        let claims = r#"{"nbf":1000,"exp":1060.5}"#;
        assert_eq!(at(claims, 995), Ok(()));
        assert_eq!(at(claims, 994), Err("timestamp_in_future"));
        assert_eq!(at(claims, 1065), Ok(()));
        assert_eq!(at(claims, 1066), Err("timestamp_too_old"));
        assert_eq!(at(r#"{"exp":"soon"}"#, 0), Err("timestamp_malformed"));
        assert_eq!(at(r#"{"exp":1e999}"#, 0), Err("timestamp_malformed"));
        assert_eq!(at("{}", 0), Ok(()));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC*", header in "\\PC*", payload in "\\PC*") {
            let _ = Token::read(&text).map(|token| token.is_current(0, 0));
            let made = token(&header, &payload);
            let _ = (Token::read(&made).is_ok(), claim(&made, "a"), claim(&text, "a"));
        }
    }
}
