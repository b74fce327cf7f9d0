//! Which headers of a request and of an answer are passed on (RFC 9110, 7.6), and which ones a
//! proxy adds. Bodies are not looked at.

use actix_web::{HttpRequest, http::Method as ActixMethod};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri,
    header::{
        CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
    },
};

use crate::{
    gateway::{refusal::Refusal, upstream::Upstream},
    port::ambiguous,
};

const VIA_US: &str = "1.1 hookonce";
const HOP_BY_HOP: [HeaderName; 5] = [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
/// Also meant for the neighbour alone, though some of them by custom only.
const HOP_BY_HOP_NAMES: [&str; 4] = [
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
];

/// Refuses requests that would make a proxy a tunnel, that can be read in two ways, or whose
/// expectation nobody can meet.
pub fn check(request: &HttpRequest) -> Result<(), Refusal> {
    if matches!(*request.method(), ActixMethod::CONNECT | ActixMethod::TRACE) {
        return Err(Refusal::Method);
    }
    let values = |name: &'static str| {
        request
            .headers()
            .get_all(name)
            .filter_map(|value| value.to_str().ok())
    };
    // An offer of HTTP/2 in clear text may be ignored (RFC 9110, 7.8). Whoever asks for a WebSocket
    // accepts nothing else.
    let wants = |protocol: &str| {
        !protocol.trim().is_empty() && !protocol.trim().eq_ignore_ascii_case("h2c")
    };
    if values("upgrade")
        .flat_map(|value| value.split(','))
        .any(wants)
    {
        return Err(Refusal::Upgrade);
    }
    if let Some(name) = ambiguous(request.headers()) {
        return Err(Refusal::Ambiguous(name.to_string()));
    }
    if values("expect").any(|value| !value.eq_ignore_ascii_case("100-continue")) {
        return Err(Refusal::Expectation);
    }
    Ok(())
}

/// A request for the upstream, without its body.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    /// Whether the request has a body.
    pub has_body: bool,
}

impl Outgoing {
    pub fn of(request: &HttpRequest, upstream: &Upstream) -> Result<Self, Refusal> {
        let target = request
            .uri()
            .path_and_query()
            .map(|target| target.as_str())
            .filter(|target| target.starts_with('/'));
        let uri = target
            .and_then(|target| upstream.uri(target))
            .ok_or(Refusal::Target)?;
        let method = Method::from_bytes(request.method().as_str().as_bytes())
            .map_err(|_| Refusal::Method)?;
        let received = request.headers().iter().filter_map(|(name, value)| {
            Some((
                HeaderName::from_bytes(name.as_str().as_bytes()).ok()?,
                HeaderValue::from_bytes(value.as_bytes()).ok()?,
            ))
        });
        let received: HeaderMap = received.fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        });
        let has_body = received.contains_key(TRANSFER_ENCODING)
            || received
                .get(CONTENT_LENGTH)
                .is_some_and(|length| length != "0");
        let host = received.get(HOST).cloned();
        let mut headers = end_to_end(received);
        // Host is made anew for the upstream's connection, and the expectation was met here.
        for name in [HOST, EXPECT] {
            headers.remove(name);
        }
        headers.remove("http2-settings");
        headers.append(VIA, HeaderValue::from_static(VIA_US));
        if let Some(from) = request
            .peer_addr()
            .and_then(|peer| HeaderValue::try_from(peer.ip().to_string()).ok())
        {
            headers.append("x-forwarded-for", from);
        }
        if let Some(host) = host {
            headers.entry("x-forwarded-host").or_insert(host);
        }
        headers
            .entry("x-forwarded-proto")
            .or_insert(HeaderValue::from_static("http"));
        Ok(Self {
            method,
            uri,
            headers,
            has_body,
        })
    }
}

/// An answer's headers for the caller, without Content-Length, which the body gives.
pub fn returned(headers: HeaderMap) -> HeaderMap {
    let mut headers = end_to_end(headers);
    headers.remove(CONTENT_LENGTH);
    headers.append(VIA, HeaderValue::from_static(VIA_US));
    headers
}

/// Removes the headers that are meant for the neighbour alone, by their name or because Connection
/// names them.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    for name in HOP_BY_HOP_NAMES
        .into_iter()
        .chain(named.iter().map(String::as_str))
    {
        headers.remove(name);
    }
    headers
}

/// Headers as a step's result has them: each byte of a value as one character.
pub fn to_pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                value.as_bytes().iter().map(|b| char::from(*b)).collect(),
            )
        })
        .collect()
}

pub fn from_pairs(pairs: &[(String, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let bytes: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(c).ok()).collect();
        if let (Ok(name), Some(Ok(value))) = (
            HeaderName::try_from(name),
            bytes.map(|bytes| HeaderValue::from_bytes(&bytes)),
        ) {
            headers.append(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn what_is_for_the_neighbour_stays_here() {
        let upstream = Upstream::parse("http://pay.test:90/base/").unwrap();
        let request = TestRequest::with_uri("/a%2fb/../c?q=%20")
            .insert_header(("host", "shop.test"))
            .insert_header(("connection", "close, X-Secret"))
            .append_header(("connection", "keep-alive"))
            .insert_header(("x-secret", "1"))
            .insert_header(("te", "trailers"))
            .insert_header(("keep-alive", "timeout=5"))
            .insert_header(("proxy-authorization", "Basic x"))
            .insert_header(("expect", "100-continue"))
            .insert_header(("authorization", "Bearer a"))
            .append_header(("cookie", "a"))
            .append_header(("cookie", "b"))
            .to_http_request();
        let outgoing = Outgoing::of(&request, &upstream).unwrap();
        assert_eq!(outgoing.uri, "http://pay.test:90/base/a%2fb/../c?q=%20");
        let names: Vec<&str> = outgoing
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names.iter().filter(|name| **name == "cookie").count(), 2);
        let mut names: Vec<&str> = outgoing.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "authorization",
                "cookie",
                "via",
                "x-forwarded-host",
                "x-forwarded-proto"
            ]
        );
        assert_eq!(outgoing.headers["x-forwarded-host"], "shop.test");
    }

    #[test]
    fn tunnels_and_unknown_expectations_are_refused() {
        let refused = |name: &'static str, value: &'static str| {
            check(
                &TestRequest::default()
                    .insert_header((name, value))
                    .to_http_request(),
            )
            .is_err()
        };
        assert!(
            refused("upgrade", "websocket")
                && refused("upgrade", "h2c, websocket")
                && refused("expect", "the-impossible")
        );
        assert!(!refused("upgrade", "h2c") && !refused("expect", "100-Continue"));
        assert!(
            check(
                &TestRequest::default()
                    .method(ActixMethod::TRACE)
                    .to_http_request()
            )
            .is_err()
        );
    }

    #[test]
    fn headers_come_back_from_a_step() {
        let mut headers = HeaderMap::new();
        headers.append("set-cookie", HeaderValue::from_static("a=1"));
        headers.append("set-cookie", HeaderValue::from_static("b=2"));
        headers.append("x-odd", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        assert_eq!(from_pairs(&to_pairs(&headers)), headers);
    }
}
