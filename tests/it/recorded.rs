//! Answers as they are kept in tests/answers: the status, the content type and the body, names and
//! their order, nulls and types included. What differs from run to run is replaced by its kind.
//! After a change that is meant: HOOKONCE_RECORD_ANSWERS=1 cargo test answers

use std::path::PathBuf;

use reqwest::Method;
use serde_json::Value;

use crate::app::*;

/// Members whose numbers differ from run to run.
const VOLATILE_NUMBERS: [&str; 6] = [
    "ack_ms",
    "events_estimate",
    "keys_estimate",
    "latency_ms",
    "ms",
    "size_bytes",
];
/// Members whose texts do.
const VOLATILE_TEXTS: [&str; 1] = ["server_version"];
/// Headers that are part of an answer's contract.
const HEADERS: [&str; 6] = [
    "content-type",
    "content-disposition",
    "cache-control",
    "x-content-type-options",
    "retry-after",
    "www-authenticate",
];

/// A chapter of recorded answers, one file.
pub struct Recorded {
    chapter: &'static str,
    text: String,
    known: Vec<(String, String)>,
}

impl Recorded {
    pub fn new(chapter: &'static str) -> Self {
        Self {
            chapter,
            text: String::new(),
            known: Vec::new(),
        }
    }

    /// Shows this text by a name from now on, so that the record tells one id from another.
    pub fn call(&mut self, text: impl ToString, name: &str) -> String {
        let text = text.to_string();
        self.known.push((text.clone(), format!("<{name}>")));
        text
    }

    /// As `call`, for a member of an answer.
    pub fn call_member(&mut self, answer: &Value, pointer: &str, name: &str) -> String {
        let text = answer.pointer(pointer).and_then(Value::as_str);
        self.call(
            text.unwrap_or_else(|| panic!("no {pointer}: {answer}")),
            name,
        )
    }

    /// Sends a request with the file's token and records what came.
    pub async fn ask(
        &mut self,
        app: &TestApp,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Value {
        let request = app
            .http
            .request(method, format!("{}{path}", app.admin))
            .bearer_auth(TOKEN);
        self.send(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    }

    pub async fn get(&mut self, app: &TestApp, path: &str) -> Value {
        self.ask(app, Method::GET, path, None).await
    }

    pub async fn post(&mut self, app: &TestApp, path: &str, body: Option<Value>) -> Value {
        self.ask(app, Method::POST, path, body).await
    }

    /// Sends any request and records what came; null where that is no JSON.
    pub async fn send(&mut self, request: reqwest::RequestBuilder) -> Value {
        let request = request.build().expect("a request");
        let path = request
            .url()
            .as_str()
            .splitn(4, '/')
            .nth(3)
            .unwrap_or_default();
        let mut title = format!("{} /{path}", request.method());
        if let Some(body) = request
            .body()
            .and_then(|body| body.as_bytes())
            .filter(|b| b.len() < 999)
        {
            title = format!("{title} {}", String::from_utf8_lossy(body));
        }
        let response = client().execute(request).await.expect("an answer");
        let mut head = response.status().as_u16().to_string();
        for name in HEADERS {
            if let Some(value) = response.headers().get(name) {
                head += &format!("\n{name}: {}", value.to_str().expect("text"));
            }
        }
        let body = response.bytes().await.expect("a body");
        let json = serde_json::from_slice(&body).unwrap_or_default();
        let body = match std::str::from_utf8(&body) {
            Ok(text) if head.contains("json") => sorted_headers(&pretty(text)),
            Ok(text) => text.to_owned(),
            Err(_) => format!("<{} bytes>", body.len()),
        };
        self.write(&title, &format!("{head}\n{body}"));
        json
    }

    /// Records text under a title.
    pub fn write(&mut self, title: &str, text: &str) {
        let masked = self.masked(&format!("## {title}\n{}\n\n", text.trim_end()));
        self.text += &masked;
    }

    fn masked(&self, text: &str) -> String {
        let named = self
            .known
            .iter()
            .fold(text.to_owned(), |text, (id, name)| text.replace(id, name));
        masked(&named)
    }

    /// Holds the chapter against the one that is kept.
    pub fn finish(self) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/answers/{}.txt", self.chapter));
        if std::env::var_os("HOOKONCE_RECORD_ANSWERS").is_some() {
            std::fs::write(&path, &self.text).expect("the record");
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let differs = self
            .text
            .lines()
            .zip(kept.lines())
            .position(|(new, old)| new != old);
        if self.text != kept {
            let line =
                differs.unwrap_or_else(|| self.text.lines().count().min(kept.lines().count()));
            let around = |text: &str| {
                text.lines()
                    .skip(line.saturating_sub(8))
                    .take(16)
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            panic!(
                "{} differs from line {}:\n{}\n---- and now\n{}",
                path.display(),
                line + 1,
                around(&kept),
                around(&self.text)
            );
        }
    }
}

/// JSON in lines, its members in their order and its numbers as they are written.
pub fn pretty(json: &str) -> String {
    let (mut out, mut depth, mut name) = (String::new(), 0_usize, String::new());
    let mut rest = json.trim();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    while let Some(first) = rest.chars().next() {
        let end = token_end(rest);
        let (token, after) = rest.split_at(end);
        rest = after.trim_start();
        match first {
            '{' | '[' if rest.starts_with(['}', ']']) => {
                out.push_str(&format!("{token}{}", &rest[..1]));
                rest = rest[1..].trim_start();
            }
            '{' | '[' => {
                out.push_str(token);
                depth += 1;
                line(&mut out, depth);
            }
            '}' | ']' => {
                depth -= 1;
                line(&mut out, depth);
                out.push_str(token);
            }
            ',' => {
                out.push_str(token);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            '"' if rest.starts_with(':') => {
                token.trim_matches('"').clone_into(&mut name);
                out.push_str(token);
            }
            '"' if VOLATILE_TEXTS.contains(&&*name) => out.push_str("\"<text>\""),
            '0'..='9' | '-' if VOLATILE_NUMBERS.contains(&&*name) => {
                out.push_str(if token.contains('.') {
                    "<decimal>"
                } else {
                    "<integer>"
                });
            }
            _ => out.push_str(token),
        }
    }
    out
}

/// A request's headers come in no order of their own: they are kept in that of their names.
pub fn sorted_headers(pretty: &str) -> String {
    let mut lines: Vec<&str> = pretty.lines().collect();
    let mut at = 0;
    while at < lines.len() {
        let is_pairs = lines[at].ends_with("\"headers\": [");
        at += 1;
        let pairs = lines[at..]
            .chunks(4)
            .take_while(|pair| is_pairs && pair[0].ends_with('['))
            .count();
        let pair = |n: usize| {
            let start = at + n * 4;
            [
                lines[start],
                lines[start + 1],
                lines[start + 2],
                lines[start + 3].trim_end_matches(','),
            ]
        };
        let mut sorted: Vec<[&str; 4]> = (0..pairs).map(pair).collect();
        sorted.sort_unstable();
        for (n, pair) in sorted.iter().enumerate() {
            lines[at + n * 4..][..4].copy_from_slice(pair);
        }
        at += pairs * 4;
    }
    lines.join("\n")
}

fn token_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes[0] {
        b'"' => {
            let mut at = 1;
            while bytes[at] != b'"' {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            at + 1
        }
        b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
        _ => text.find([',', '}', ']', ' ', '\n']).unwrap_or(text.len()),
    }
}

/// Ids, times, ports, databases, new tokens and counts of a moment by their kind.
pub fn masked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (mut out, mut at) = (String::new(), 0);
    let kinds: [(&str, &str); 8] = [
        ("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "<uuid>"),
        ("9999-99-99T99:99:99.*Z", "<time>"),
        ("127.0.0.1:*", "127.0.0.1:<port>"),
        ("hookonce_test_*_*", "<database>"),
        ("hko_x*", "<token>"),
        // A node adds up what came every few seconds.
        ("\"accepted\": *", "\"accepted\": <count>"),
        ("\"delivered\": *", "\"delivered\": <count>"),
        ("\"retry\": *", "\"retry\": <count>"),
    ];
    while at < chars.len() {
        let found = kinds
            .iter()
            .find_map(|(kind, name)| Some((matched(&chars[at..], kind)?, name)));
        match found {
            Some((length, name)) => {
                out.push_str(name);
                at += length;
            }
            None => {
                out.push(chars[at]);
                at += 1;
            }
        }
    }
    out
}

/// How many characters are of this kind: `x` is a hex digit, `9` a digit, `*` any number of either,
/// `.*` a fraction that may be missing.
fn matched(chars: &[char], kind: &str) -> Option<usize> {
    let mut at = 0;
    let mut kinds = kind.chars().peekable();
    while let Some(kind) = kinds.next() {
        match kind {
            'x' | '9' => {
                let found = chars.get(at)?;
                if !(found.is_ascii_digit() || kind == 'x' && found.is_ascii_hexdigit()) {
                    return None;
                }
                at += 1;
            }
            '.' if kinds.peek() == Some(&'*') => {
                kinds.next();
                if chars.get(at) == Some(&'.') {
                    at += 1 + digits(&chars[at + 1..]);
                }
            }
            '*' => at += digits(&chars[at..]),
            other => {
                if *chars.get(at)? != other {
                    return None;
                }
                at += 1;
            }
        }
    }
    Some(at)
}

fn digits(chars: &[char]) -> usize {
    chars.iter().take_while(|c| c.is_ascii_hexdigit()).count()
}

#[test]
fn what_is_volatile_is_replaced_by_its_kind_and_nothing_else() {
    assert_eq!(
        masked(
            "a 01890000-0000-7000-8000-000000000000 2026-01-01T00:00:00.123Z 127.0.0.1:80/x 1.5"
        ),
        "a <uuid> <time> 127.0.0.1:<port>/x 1.5"
    );
    assert_eq!(
        masked("2026-01-01T00:00:00Z hookonce_test_1_2"),
        "<time> <database>"
    );
    let text = pretty(r#"{"b":1.10,"a":[],"c":{"ms":1.5,"x":null},"d":["a,]\"",-2]}"#);
    let kept = "{\n  \"b\": 1.10,\n  \"a\": [],\n  \"c\": {\n    \"ms\": <decimal>,\n    \"x\": null\n  },\
                \n  \"d\": [\n    \"a,]\\\"\",\n    -2\n  ]\n}";
    assert_eq!(text, kept);
}
