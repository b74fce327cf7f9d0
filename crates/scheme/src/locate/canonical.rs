//! Parts of a request in the order and form in which some providers sign them: sorted parameters,
//! listed headers, the path. Pure; what a request lacks is None.

use std::borrow::Cow;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    encoding::push_escaped,
    request::{Request, is_form, query_of},
};

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Parameters by name, then by value.
fn sorted(text: &[u8]) -> Vec<Pair<'_>> {
    let mut pairs: Vec<Pair<'_>> = url::form_urlencoded::parse(text).collect();
    pairs.sort();
    pairs
}

/// Each form parameter once, sorted: its name, then its value. None if the body is no form.
pub(crate) fn form_sorted(request: &Request<'_>) -> Option<Vec<u8>> {
    let body = is_form(request.body).then_some(request.body)?;
    let mut pairs = sorted(body);
    pairs.dedup();
    Some(joined(&pairs, "").into_bytes())
}

fn joined(pairs: &[Pair<'_>], between: &str) -> String {
    pairs.iter().fold(String::new(), |text, (name, value)| {
        text + name + between + value
    })
}

/// The query's parameters in their escaped form, sorted.
pub(crate) fn query_sorted(request: &Request<'_>) -> Vec<u8> {
    let mut pairs: Vec<&str> = query(request)
        .split('&')
        .filter(|pair| !pair.is_empty())
        .collect();
    pairs.sort_unstable();
    pairs.join("&").into_bytes()
}

fn query<'a>(request: &Request<'a>) -> &'a str {
    request
        .url
        .and_then(query_of)
        .or(request.query)
        .unwrap_or_default()
}

/// The URL with its query sorted, then the form sorted behind a dot (Plivo, version 3). None if the
/// URL is not known or the body is no form.
pub(crate) fn url_and_form_sorted(request: &Request<'_>) -> Option<Vec<u8>> {
    let url = request.url?;
    let body = is_form(request.body).then_some(request.body)?;
    let (form, query) = (sorted(body), sorted(query(request).as_bytes()));
    let query: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mut text = base_of(url).to_owned();
    if !query.is_empty() || !form.is_empty() {
        text = format!("{text}?{}", query.join("&"));
    }
    if !query.is_empty() && !form.is_empty() {
        text.push('.');
    }
    Some((text + &joined(&form, "")).into_bytes())
}

/// The host, and the port if the URL has one.
pub(crate) fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host)
}

/// The URL without its query and fragment.
pub(crate) fn base_of(url: &str) -> &str {
    &url[..url.find(['?', '#']).unwrap_or(url.len())]
}

/// Path and query as they came.
pub(crate) fn path_of(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    let path = rest.find('/').map_or("/", |at| &rest[at..]);
    path.split_once('#').map_or(path, |(path, _)| path)
}

const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');
const URI: &AsciiSet = &COMPONENT
    .remove(b';')
    .remove(b',')
    .remove(b'/')
    .remove(b'?')
    .remove(b':')
    .remove(b'@')
    .remove(b'&')
    .remove(b'=')
    .remove(b'+')
    .remove(b'$')
    .remove(b'#');

/// Path and query, escaped once more, and the query twice, up to a second question mark.
/// Contentful's own library does so.
pub(crate) fn path_escaped(url: &str) -> String {
    let mut parts = path_of(url).split('?');
    let (path, query) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let path = utf8_percent_encode(path, URI).to_string();
    if query.is_empty() {
        return path;
    }
    let query = utf8_percent_encode(query, COMPONENT).to_string();
    format!("{path}?{}", utf8_percent_encode(&query, URI))
}

/// The URL with the escapes of these characters undone. All other bytes stay as they are.
pub(crate) fn url_decoded<'a>(url: &'a str, decode: Option<&str>) -> Cow<'a, [u8]> {
    let Some(decode) = decode.filter(|_| url.contains('%')) else {
        return Cow::Borrowed(url.as_bytes());
    };
    let mut decoded = Vec::with_capacity(url.len());
    let mut rest = url.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = if *first == b'%' {
            after
                .first_chunk::<2>()
                .and_then(|digits| hex::decode(digits).ok())
        } else {
            None
        };
        match escaped {
            Some(byte) if decode.as_bytes().contains(&byte[0]) => {
                decoded.push(byte[0]);
                rest = &rest[3..];
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    Cow::Owned(decoded)
}

/// The text with its non-ASCII characters, DEL and bare slashes escaped, as some JSON writers do
/// (Box). None if that changes nothing or the body is no text.
pub(crate) fn escaped(body: &[u8]) -> Option<Bytes> {
    let text = std::str::from_utf8(body).ok()?;
    let mut escaped = String::with_capacity(text.len() + text.len() / 4);
    for c in text.chars() {
        match c {
            '/' if !escaped.ends_with('\\') => escaped.push_str("\\/"),
            c if c < '\u{7f}' => escaped.push(c),
            c => push_escaped(&mut escaped, c),
        }
    }
    (escaped != text).then(|| escaped.into())
}

/// Bounds the listed headers, because each is looked for among all.
const LISTED_MAX: usize = 64;

/// The headers that this one lists, as `name:value`, sorted and joined with semicolons. None if it
/// is missing, does not list itself, lists a header that appears twice, or lists more than are ever
/// sent.
pub(crate) fn listed_headers(request: &Request<'_>, header: &str) -> Option<Vec<u8>> {
    let list = std::str::from_utf8(
        &request
            .headers
            .iter()
            .find(|(name, _)| *name == header)?
            .1
            .to_ascii_lowercase(),
    )
    .ok()?
    .to_owned();
    let mut names: Vec<&str> = list
        .split(',')
        .map(str::trim)
        .take(LISTED_MAX + 1)
        .collect();
    (names.len() <= LISTED_MAX).then_some(())?;
    names.sort_unstable();
    names.dedup();
    names.contains(&header).then_some(())?;
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for name in names {
        let mut values = request
            .headers
            .iter()
            .filter(|(known, _)| *known == name)
            .map(|(_, value)| value.trim_ascii());
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return None;
        }
        lines.push([name.as_bytes(), b":", value].concat());
    }
    Some(lines.join(&b';'))
}

/// The same URL without a port, and with the default one. Senders differ in which they sign.
pub(crate) fn other_ports(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Vec::new();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host_start = authority.rfind('@').map_or(0, |at| at + 1);
    // A colon in brackets is a part of an IPv6 address.
    let bracket = authority.rfind(']').unwrap_or(host_start).max(host_start);
    let host = authority[bracket..]
        .find(':')
        .map_or(authority, |colon| &authority[..bracket + colon]);
    let port = if scheme.eq_ignore_ascii_case("https") {
        443
    } else {
        80
    };
    let mut urls = vec![format!("{scheme}://{host}{path}")];
    if host == authority {
        urls.push(format!("{scheme}://{host}:{port}{path}"));
    }
    urls.retain(|other| other != url);
    urls
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn of(url: &str, body: &str, made: impl Fn(&Request<'_>) -> Option<Vec<u8>>) -> Option<String> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let headers: &[(&str, &[u8])] = &[
            ("b", b" 2 "),
            ("list", b"b,List, a,gone"),
            ("a", b"1"),
            ("twice", b"1"),
            ("twice", b"2"),
        ];
        let request = Request {
            method: "POST",
            url: Some(url),
            query: None,
            headers,
            body: &body,
        };
        made(&request).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn parameters_are_sorted() {
        let forms = |body| of("https://x.example/", body, form_sorted);
        assert_eq!(
            forms("b=2&a=1&b=1&b=2&c=%2B+").as_deref(),
            Some("a1b1b2c+ ")
        );
        assert_eq!(forms("").as_deref(), Some(""));
        assert_eq!(forms(r#" {"a":1}"#), None);
        let urls = |url, body| of(url, body, url_and_form_sorted);
        assert_eq!(
            urls("https://x.example/h?b=2&a=%20", "d=1&c=2").as_deref(),
            Some("https://x.example/h?a= &b=2.c2d1")
        );
        assert_eq!(
            urls("https://x.example/h", "d=1").as_deref(),
            Some("https://x.example/h?d1")
        );
        assert_eq!(
            urls("https://x.example/h", "").as_deref(),
            Some("https://x.example/h")
        );
        assert_eq!(
            of("https://x.example/?b=%20&a=1", "", |request| Some(
                query_sorted(request)
            ))
            .as_deref(),
            Some("a=1&b=%20")
        );
    }

    #[test]
    fn listed_headers_stand_in_order_and_once() {
        let listed = |header| {
            of("https://x.example/", "", |request| {
                listed_headers(request, header)
            })
        };
        assert_eq!(
            listed("list").as_deref(),
            Some("a:1;b:2;list:b,List, a,gone")
        );
        assert_eq!(listed("a"), None, "lists not itself");
        assert_eq!(listed("twice"), None);
        assert_eq!(listed("nowhere"), None);
    }

    #[test]
    fn what_is_not_ascii_is_escaped_by_its_units() {
        assert_eq!(
            escaped("{\"é\":\"日😀\\u00e9\"}".as_bytes()).unwrap(),
            r#"{"\u00e9":"\u65e5\ud83d\ude00\u00e9"}"#
        );
        assert_eq!(escaped(b"\x7f a/b c\\/d").unwrap(), r"\u007f a\/b c\/d");
        assert_eq!((escaped(b"plain"), escaped(b"\xff")), (None, None));
    }

    #[test]
    fn ports_come_and_go() {
        for (url, others) in [
            ("https://x.example/h:1", &["https://x.example:443/h:1"][..]),
            ("https://x.example:443/h", &["https://x.example/h"]),
            ("http://u:p@[::1]:81?q", &["http://u:p@[::1]?q"]),
            ("http://x.example", &["http://x.example:80"]),
            ("x", &[]),
        ] {
            assert_eq!(other_ports(url), others, "{url}");
        }
        assert_eq!(path_of("https://x.example/a?b#c"), "/a?b");
        assert_eq!(path_of("https://x.example"), "/");
        assert_eq!(
            path_escaped("https://x.example/a%20b?x=1"),
            "/a%2520b?x%253D1"
        );
        assert_eq!(path_escaped("https://x.example/a?"), "/a");
        assert_eq!(path_escaped("https://x.example/a?b=1?c=2"), "/a?b%253D1");
    }

    proptest! {
        #[test]
        fn any_url_and_body_is_survived(url in "\\PC*", body in "\\PC*") {
            let _ = (other_ports(&url), path_of(&url).len(), path_escaped(&url).len(), base_of(&url).len());
            let _ = of(&url, &body, form_sorted);
            let _ = of(&url, &body, url_and_form_sorted);
        }
    }
}
