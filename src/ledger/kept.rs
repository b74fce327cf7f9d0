//! An HTTP answer as the result of a step: what a gateway keeps of a call, and what a person gives
//! who resolves one. A body that is UTF-8 is kept as text, so that the step can be read.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeptAnswer {
    pub status: u16,
    /// Names and values; each byte of a value is one character.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    /// The size of a body that is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
}

impl KeptAnswer {
    /// The whole answer.
    pub fn whole(status: u16, headers: Vec<(String, String)>, body: &[u8]) -> Self {
        let answer = Self {
            status,
            headers,
            body: None,
            body_base64: None,
            body_bytes: None,
        };
        match std::str::from_utf8(body)
            .ok()
            .filter(|text| escaped_bytes(text) <= body.len() / 3 * 4 + 4)
        {
            Some(text) => Self {
                body: Some(text.to_owned()),
                ..answer
            },
            None => Self {
                body_base64: Some(STANDARD.encode(body)),
                ..answer
            },
        }
    }

    /// Keeps all but the body, whose size is `bytes`.
    pub fn without_body(status: u16, headers: Vec<(String, String)>, bytes: u64) -> Self {
        Self {
            status,
            headers,
            body: None,
            body_base64: None,
            body_bytes: Some(bytes),
        }
    }

    pub fn read(json: &str) -> Result<Self, String> {
        let answer: Self = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if !(200..=599).contains(&answer.status) {
            return Err(format!(
                "status: {} is not between 200 and 599",
                answer.status
            ));
        }
        if answer.body.is_some() && answer.body_base64.is_some() {
            return Err("body and body_base64: give one".into());
        }
        answer.body()?;
        Ok(answer)
    }

    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers, strings and lists, all of which JSON has")
    }

    /// The body, or None if it is not kept.
    pub fn body(&self) -> Result<Option<Vec<u8>>, String> {
        match (&self.body, &self.body_base64) {
            (Some(text), _) => Ok(Some(text.clone().into_bytes())),
            (None, Some(text)) => STANDARD
                .decode(text)
                .map(Some)
                .map_err(|error| format!("body_base64: {error}")),
            (None, None) => Ok(None),
        }
    }
}

/// The size in bytes of a text as a JSON string, without its quotes.
fn escaped_bytes(text: &str) -> usize {
    let escaped = |b: u8| match b {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_back_byte_for_byte() {
        let all: Vec<u8> = (0..=255).collect();
        for body in [
            &b""[..],
            b"{\"a\":1}",
            "d\u{e9}j\u{e0} vu".as_bytes(),
            &[0; 100],
            &all,
            &"\"".repeat(90).into_bytes(),
        ] {
            let kept = KeptAnswer::whole(200, vec![("x".into(), "y".into())], body);
            let json = kept.json();
            assert!(json.len() <= body.len() / 3 * 4 + 100, "{json}");
            let read = KeptAnswer::read(&json).unwrap();
            assert_eq!(
                (read.body().unwrap().unwrap(), &read),
                (body.to_vec(), &kept)
            );
        }
        assert_eq!(
            KeptAnswer::read(&KeptAnswer::without_body(201, Vec::new(), 7).json())
                .unwrap()
                .body()
                .unwrap(),
            None
        );
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for json in [
            "null",
            "{}",
            r#"{"status":99}"#,
            r#"{"status":200,"body":"a","body_base64":"YQ=="}"#,
            r#"{"status":200,"body_base64":"?"}"#,
        ] {
            assert!(KeptAnswer::read(json).is_err(), "{json}");
        }
        assert!(KeptAnswer::read(r#"{"status":201}"#).is_ok());
    }
}
