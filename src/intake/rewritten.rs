//! Ways in which programs between a sender and us change a body that they mean to pass on: JSON
//! written anew, line ends, escapes. From the body that arrived it guesses which one was sent.

use bytes::Bytes;

use hookonce_scheme::push_escaped;

/// One guess at the original body.
pub struct Rewriting {
    pub what: &'static str,
    pub body: Bytes,
}

/// Every guess that differs from the body that arrived.
pub fn rewritings(body: &Bytes) -> Vec<Rewriting> {
    let mut found = Vec::new();
    let mut add = |what, guess: Vec<u8>| {
        if guess != body[..] {
            found.push(Rewriting {
                what,
                body: guess.into(),
            });
        }
    };
    add(
        "the body without the white space at its end",
        body.trim_ascii_end().to_vec(),
    );
    add(
        "the body with a line break at its end",
        [&body[..], b"\n"].concat(),
    );
    add(
        "the body with CR LF at its end",
        [body.trim_ascii_end(), b"\r\n"].concat(),
    );
    add(
        "the body with bare line feeds",
        replaced(body, b"\r\n", b"\n"),
    );
    add(
        "the body with CR LF line ends",
        replaced(&replaced(body, b"\r\n", b"\n"), b"\n", b"\r\n"),
    );
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    if let (true, Ok(text)) = (is_json, std::str::from_utf8(body)) {
        for (what, spacing) in SPACINGS {
            let spaced = spaced(text, spacing);
            let slashes = [spaced.replace('/', "\\/"), spaced.replace("\\/", "/")];
            for guess in [escaped(&spaced), unescaped(&spaced), spaced]
                .into_iter()
                .chain(slashes)
            {
                add(what, guess.into_bytes());
            }
        }
    }
    found
}

/// How JSON is laid out: the space between members, after a colon, and the indent of each level.
#[derive(Clone, Copy)]
struct Spacing {
    comma: &'static str,
    colon: &'static str,
    indent: Option<usize>,
}

const SPACINGS: [(&str, Spacing); 4] = [
    (
        "its JSON written without white space",
        Spacing {
            comma: ",",
            colon: ":",
            indent: None,
        },
    ),
    (
        "its JSON written with a space after commas and colons",
        Spacing {
            comma: ", ",
            colon: ": ",
            indent: None,
        },
    ),
    (
        "its JSON indented by two spaces",
        Spacing {
            comma: ",",
            colon: ": ",
            indent: Some(2),
        },
    ),
    (
        "its JSON indented by four spaces",
        Spacing {
            comma: ",",
            colon: ": ",
            indent: Some(4),
        },
    ),
];

/// The same JSON with other white space. Order, numbers and strings stay as written. The text must
/// be JSON.
fn spaced(text: &str, spacing: Spacing) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let (mut in_string, mut is_escaped, mut depth) = (false, false, 0_usize);
    let mut rest = text.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        if let Some(indent) = spacing.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    while let Some(c) = rest.next() {
        if in_string {
            out.push(c);
            in_string = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
            continue;
        }
        match c {
            c if c.is_ascii_whitespace() => {}
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while rest.peek().is_some_and(char::is_ascii_whitespace) {
                    rest.next();
                }
                depth += 1;
                if !matches!(rest.peek(), Some('}' | ']')) {
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if !out.ends_with(['{', '[']) {
                    line(&mut out, depth);
                }
                out.push(c);
            }
            ',' => {
                out.push_str(spacing.comma);
                line(&mut out, depth);
            }
            ':' => out.push_str(spacing.colon),
            c => out.push(c),
        }
    }
    out
}

/// Writes characters outside ASCII as `\u` escapes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            push_escaped(&mut out, c);
        }
    }
    out
}

/// Writes `\u` escapes of characters outside ASCII as these characters.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\u") {
        out.push_str(&rest[..at]);
        let units: Vec<u16> = rest[at..]
            .split("\\u")
            .skip(1)
            .map_while(|part| {
                part.get(..4)
                    .and_then(|hex| u16::from_str_radix(hex, 16).ok())
            })
            .take(2)
            .collect();
        let pair = units.len() == 2 && rest[at + 6..].starts_with("\\u");
        let decoded = char::decode_utf16(units.iter().copied().take(if pair { 2 } else { 1 }))
            .next()
            .and_then(Result::ok);
        match decoded {
            Some(c) if !c.is_ascii() => {
                out.push(c);
                rest = &rest[at + 6 * c.len_utf16()..];
            }
            _ => {
                out.push_str("\\u");
                rest = &rest[at + 2..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn replaced(body: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = memchr::memmem::find(rest, from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn has(body: &str, original: &str) -> bool {
        rewritings(&Bytes::copy_from_slice(body.as_bytes()))
            .iter()
            .any(|rewriting| rewriting.body == original.as_bytes())
    }

    #[test]
    fn the_usual_changes_are_undone() {
        let compact = r#"{"a":[1,2.50,{}],"b":"x, y: \"z\" / ü","c":[]}"#;
        let python = r#"{"a": [1, 2.50, {}], "b": "x, y: \"z\" / ü", "c": []}"#;
        let pretty = "{\n  \"a\": [\n    1,\n    2.50,\n    {}\n  ],\n  \"b\": \"x, y: \\\"z\\\" / ü\",\n  \"c\": []\n}";
        for (came, sent) in [
            (python, compact),
            (pretty, compact),
            (compact, python),
            (compact, pretty),
            (
                compact,
                r#"{"a":[1,2.50,{}],"b":"x, y: \"z\" / \u00fc","c":[]}"#,
            ),
            (r#"{"a":"\u00fc \ud83d\ude00"}"#, r#"{"a":"ü 😀"}"#),
            (r#"{"a": "/x"}"#, r#"{"a":"\/x"}"#),
            (r#"{"a":"\/x"}"#, r#"{"a":"/x"}"#),
            ("a=1\n", "a=1"),
            ("a=1", "a=1\r\n"),
            ("a\r\nb", "a\nb"),
        ] {
            assert!(has(came, sent), "{came} from {sent}");
        }
    }

    #[test]
    fn what_is_no_json_is_not_laid_out() {
        assert!(
            rewritings(&Bytes::from_static(b"{not json"))
                .iter()
                .all(|rewriting| !rewriting.what.contains("JSON"))
        );
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "\\PC{0,64}") {
            rewritings(&Bytes::from(text));
        }

        #[test]
        fn any_json_means_the_same_however_it_is_laid_out(keys in proptest::collection::vec("[a-zé\"/]{0,6}", 0..5)) {
            let value = serde_json::json!({ "list": keys, "nested": { "empty": [], "none": {} } });
            for rewriting in rewritings(&Bytes::from(value.to_string())).iter().filter(|rewriting| rewriting.what.contains("JSON")) {
                prop_assert_eq!(&serde_json::from_slice::<serde_json::Value>(&rewriting.body).unwrap(), &value);
            }
        }
    }
}
