//! What identifies an operation: the key, its owner, and the fingerprint that tells whether a
//! request is the same. Pure.

use actix_web::{
    HttpRequest,
    http::header::{CONTENT_TYPE, HeaderMap},
};

use hookonce_scheme::Ignored;
use sfv::{Item, Parser};

use super::{pointer, refusal::Refusal};
use crate::event::digest_of;
use crate::settings::KeyFrom;

const KEY_BYTES_MAX: usize = 255;

/// The key of this header. `k`, `"k"` and `"k";a=1` are the same key.
pub fn of_header(headers: &HeaderMap, name: &str) -> Result<Option<String>, Refusal> {
    let mut values = headers.get_all(name);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::KeyMalformed(
            "there is more than one header with a key",
        ));
    }
    let text = value
        .to_str()
        .map_err(|_| Refusal::KeyMalformed("a key is visible ASCII"))?
        .trim_matches([' ', '\t']);
    let key = if text.starts_with('"') {
        quoted(text).ok_or(Refusal::KeyMalformed(
            "a key in quotes is a string of RFC 9651, which may have parameters",
        ))?
    } else {
        text.to_owned()
    };
    valid(key).map(Some)
}

/// The string of an Item. Its parameters mean nothing here.
fn quoted(text: &str) -> Option<String> {
    let item: Item = Parser::new(text).parse().ok()?;
    Some(item.bare_item.as_string()?.as_str().to_owned())
}

fn valid(key: String) -> Result<String, Refusal> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Refusal::KeyMalformed(
            "a key is 1 to 255 characters of visible ASCII",
        ));
    }
    Ok(key)
}

/// The key of a request without the header, by its path's rule. None if the body has none.
pub fn derived(
    from: &KeyFrom,
    fingerprint: &[u8; 32],
    body: &[u8],
) -> Result<Option<String>, Refusal> {
    match from {
        KeyFrom::Header => Ok(None),
        KeyFrom::Digest => Ok(Some(format!("sha256:{}", hex::encode(fingerprint)))),
        KeyFrom::Body(pointer) => {
            let Some(found) = pointer::find(body, pointer) else {
                return Ok(None);
            };
            match found.get().as_bytes()[0] {
                b'n' => Ok(None),
                b'"' => match serde_json::from_str::<String>(found.get()) {
                    Ok(text) => valid(text).map(Some),
                    Err(_) => Err(Refusal::KeyMalformed(
                        "the key in the body is no text that can be read",
                    )),
                },
                // Digits as they were sent, because two long numbers may be equal as floating
                // point.
                b'-' | b'0'..=b'9' => valid(found.get().to_owned()).map(Some),
                _ => Err(Refusal::KeyMalformed(
                    "the key in the body is neither text nor a number",
                )),
            }
        }
    }
}

/// The owner of a key: the digest of the header that tells callers apart.
pub fn caller(headers: &HeaderMap, name: &str) -> String {
    let mut values = headers.get_all(name).peekable();
    if values.peek().is_none() {
        return "anonymous".into();
    }
    caller_of(values.map(|value| value.as_bytes()))
}

/// The same of the header's values.
pub fn caller_of<'a>(values: impl Iterator<Item = &'a [u8]>) -> String {
    digest_of(values)
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Words in the names of headers whose values are credentials.
const SECRET_WORDS: [&str; 7] = [
    "auth",
    "cookie",
    "key",
    "token",
    "secret",
    "password",
    "signature",
];
const CALLER_CHARS_MAX: usize = 200;

/// Who the caller is, for people: the header that tells callers apart, unless its value may be a
/// credential.
pub fn caller_name(headers: &HeaderMap, name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    if SECRET_WORDS.iter().any(|word| name.contains(word)) {
        return None;
    }
    let value = headers.get(&name)?.to_str().ok()?;
    Some(value.chars().take(CALLER_CHARS_MAX).collect())
}

/// The digest of what must be equal in a repeat: method, path, query, Content-Type, and the body
/// without the places that are ignored.
pub fn fingerprint(request: &HttpRequest, body: &[u8], ignored: &Ignored) -> [u8; 32] {
    let without = (!ignored.is_empty()).then(|| ignored.digest(body).0);
    let content_type = request
        .headers()
        .get(CONTENT_TYPE)
        .map(|value| value.as_bytes())
        .unwrap_or_default();
    let uri = request.uri();
    digest_of([
        request.method().as_str().as_bytes(),
        uri.path().as_bytes(),
        uri.query().unwrap_or_default().as_bytes(),
        content_type,
        without.as_ref().map_or(body, |digest| digest.as_slice()),
    ])
}

/// A path as an upstream may read it. Rules are looked up by it, so that another spelling of a path
/// finds the same rule.
pub fn plain_path(path: &str) -> String {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let mut parts: Vec<&str> = Vec::new();
    for part in decoded.split('/').skip(1) {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let end = if decoded.ends_with('/') && !parts.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{end}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn key(values: &[&str]) -> Result<Option<String>, Refusal> {
        let mut request = TestRequest::default();
        for value in values {
            request = request.append_header(("Idempotency-Key", *value));
        }
        of_header(request.to_http_request().headers(), "idempotency-key")
    }

    #[test]
    fn quoted_and_bare_keys_are_alike() {
        for (value, expected) in [
            ("k", "k"),
            ("\"k\"", "k"),
            (" \"k\" ", "k"),
            ("\"a\\\"b\\\\c\"", "a\"b\\c"),
            ("a\"b", "a\"b"),
            ("8e03978e-40d5", "8e03978e-40d5"),
            ("\"k\";a=1", "k"),
            ("\"k\"; a; b=?0;c=\"d;e\" ", "k"),
            ("\"k;a=1\"", "k;a=1"),
            // Without quotes it is the caller's text, whatever is in it.
            ("k;a=1", "k;a=1"),
        ] {
            assert_eq!(key(&[value]).unwrap().as_deref(), Some(expected), "{value}");
        }
        assert!(key(&[]).unwrap().is_none());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let long = "k".repeat(256);
        for value in [
            "",
            "\"\"",
            "\"k",
            "\"k\";",
            "\"k\";A=1",
            "\"k\"x",
            "\"k\", \"l\"",
            "a b",
            "\"a b\"",
            "\"a\\nb\"",
            "k\u{e9}",
            &long,
        ] {
            assert!(
                matches!(key(&[value]), Err(Refusal::KeyMalformed(_))),
                "{value}"
            );
        }
        assert!(key(&[&"k".repeat(255)]).is_ok());
        assert!(matches!(key(&["k", "k"]), Err(Refusal::KeyMalformed(_))));
    }

    #[test]
    fn a_key_is_found_in_the_body() {
        let from = KeyFrom::Body("/order/ids/0".into());
        let found = |body: &str| derived(&from, &[0; 32], body.as_bytes());
        assert_eq!(
            found(r#"{"order":{"ids":["a"]}}"#).unwrap().as_deref(),
            Some("a")
        );
        assert_eq!(
            found(r#"{"order":{"ids":[17]}}"#).unwrap().as_deref(),
            Some("17")
        );
        assert_eq!(
            found(r#"{"order":{"ids":[12345678901234567890123]}}"#)
                .unwrap()
                .as_deref(),
            Some("12345678901234567890123")
        );
        for body in ["", "{}", r#"{"order":{"ids":[null]}}"#, "[1"] {
            assert!(found(body).unwrap().is_none(), "{body}");
        }
        assert!(
            found(r#"{"order":{"ids":[{}]}}"#).is_err()
                && found(r#"{"order":{"ids":["a b"]}}"#).is_err()
        );
        assert_eq!(
            derived(&KeyFrom::Digest, &[0xab; 32], b"")
                .unwrap()
                .unwrap(),
            format!("sha256:{}", "ab".repeat(32))
        );
    }

    #[test]
    fn what_is_ignored_may_differ() {
        let of = |body: &str, places: &[&str]| {
            let places: Vec<String> = places.iter().map(|place| (*place).to_owned()).collect();
            let request = TestRequest::with_uri("/x").to_http_request();
            fingerprint(&request, body.as_bytes(), &Ignored::new(&places).unwrap())
        };
        let (one, two) = (r#"{"a":1,"t":{"at":1}}"#, r#"{"a":1,"t":{"at":2}}"#);
        assert_ne!(of(one, &[]), of(two, &[]));
        for place in ["body:/t", "body:/t/at", "body:t.at"] {
            assert_eq!(of(one, &[place]), of(two, &[place]), "{place}");
            assert_ne!(
                of(one, &[place]),
                of(r#"{"a":2,"t":{"at":1}}"#, &[place]),
                "{place}"
            );
        }
        assert_ne!(of(one, &["body:/a"]), of(two, &["body:/a"]));
        assert_eq!(of("a=1&t=2", &["form:t"]), of("a=1&t=3", &["form:t"]));
        // What is no JSON has no places.
        assert_ne!(of("t 1", &["body:/t"]), of("t 2", &["body:/t"]));
    }

    #[test]
    fn another_spelling_of_a_path_is_the_same_path() {
        for (path, expected) in [
            ("/a/b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/x/../a/b", "/a/b"),
            ("/x/%2e%2E/a//b", "/a/b"),
            ("/../../a/b", "/a/b"),
            ("/%61/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/", "/"),
            ("//", "/"),
        ] {
            assert_eq!(plain_path(path), expected, "{path}");
        }
    }

    #[test]
    fn callers_are_told_apart_and_not_shown() {
        let of = |value: Option<&str>| {
            let request = value
                .into_iter()
                .fold(TestRequest::default(), |request, value| {
                    request.insert_header(("authorization", value))
                });
            caller(request.to_http_request().headers(), "authorization")
        };
        assert_eq!(of(None), "anonymous");
        assert_ne!(of(Some("Bearer a")), of(Some("Bearer b")));
        assert_eq!(
            (of(Some("Bearer a")).len(), of(Some("Bearer a"))),
            (64, of(Some("Bearer a")))
        );
    }
}
