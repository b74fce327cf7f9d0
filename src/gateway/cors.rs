//! Whether a browser lets a page's script read what the gateway says in its own name. That is the
//! upstream's decision, so the gateway does as the upstream did when that page's origin asked it
//! last. It answers no preflight: those pass through.

use actix_web::{HttpRequest, http::header};
use http::{
    HeaderMap, HeaderValue,
    header::{ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN},
};
use quick_cache::sync::Cache;

/// How many origins are remembered at a time, each with at most this many bytes.
const ORIGINS_MAX: usize = 1000;
const ORIGIN_BYTES_MAX: usize = 255;
/// What a refusal has besides the headers that every script may read.
const EXPOSED: &str = "link, retry-after";

/// What an origin may read, in the words of an answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Allowed {
    origin: HeaderValue,
    with_credentials: bool,
}

pub struct Cors {
    /// The origins that the settings name.
    named: Vec<String>,
    seen: Cache<String, Allowed>,
}

impl Cors {
    pub fn new(named: &[String]) -> Self {
        Self {
            named: named.to_vec(),
            seen: Cache::new(ORIGINS_MAX),
        }
    }

    /// Takes from an answer of the upstream whether this request's origin may read it. An answer
    /// without a word about it counts only if it was asked about it: by a preflight.
    pub fn learn(&self, request: &HttpRequest, answer: &HeaderMap) {
        let Some(origin) = origin(request) else {
            return;
        };
        let said = answer
            .get(ACCESS_CONTROL_ALLOW_ORIGIN)
            .filter(|value| *value == "*" || *value == origin);
        let is_preflight = request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        match said {
            Some(value) => {
                let allowed = Allowed {
                    origin: value.clone(),
                    with_credentials: answer
                        .get(ACCESS_CONTROL_ALLOW_CREDENTIALS)
                        .is_some_and(|value| value == "true"),
                };
                if self.seen.get(origin).as_ref() != Some(&allowed) {
                    self.seen.insert(origin.to_owned(), allowed);
                }
            }
            None if is_preflight => drop(self.seen.remove(origin)),
            None => {}
        }
    }

    /// Adds to an answer of the gateway's own what lets this request's origin read it.
    pub fn allow(&self, request: &HttpRequest, own: &mut header::HeaderMap) {
        let Some(origin) = origin(request) else {
            return;
        };
        // The answer is another one for another origin (Fetch, "CORS protocol and HTTP caches").
        own.append(header::VARY, header::HeaderValue::from_static("Origin"));
        let Some(allowed) = self.allowed(origin) else {
            return;
        };
        let Ok(value) = header::HeaderValue::from_bytes(allowed.origin.as_bytes()) else {
            return;
        };
        own.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
        own.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            header::HeaderValue::from_static(EXPOSED),
        );
        if allowed.with_credentials {
            own.insert(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                header::HeaderValue::from_static("true"),
            );
        }
    }

    /// The upstream's own word is stronger than the settings'.
    fn allowed(&self, origin: &str) -> Option<Allowed> {
        if let Some(allowed) = self.seen.get(origin) {
            return Some(allowed);
        }
        let is_named = |name: &str| self.named.iter().any(|named| named == name);
        if is_named(origin) {
            return Some(Allowed {
                origin: HeaderValue::from_str(origin).ok()?,
                with_credentials: true,
            });
        }
        is_named("*").then_some(Allowed {
            origin: HeaderValue::from_static("*"),
            with_credentials: false,
        })
    }
}

fn origin(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(header::ORIGIN)?.to_str().ok()?;
    (value.len() <= ORIGIN_BYTES_MAX).then_some(value)
}

#[cfg(test)]
mod tests {
    use actix_web::{http::Method, test::TestRequest};

    use super::*;

    const SHOP: &str = "https://shop.test";

    fn from(origin: &str) -> HttpRequest {
        TestRequest::default()
            .insert_header(("origin", origin))
            .to_http_request()
    }

    fn preflight() -> HttpRequest {
        TestRequest::default()
            .method(Method::OPTIONS)
            .insert_header(("origin", SHOP))
            .insert_header(("access-control-request-method", "POST"))
            .to_http_request()
    }

    fn answer(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    http::HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    /// The origin that may read, and whether with credentials.
    fn said(cors: &Cors, request: &HttpRequest) -> Option<(String, bool)> {
        let mut own = header::HeaderMap::new();
        cors.allow(request, &mut own);
        assert_eq!(
            own.contains_key("vary"),
            request.headers().contains_key("origin")
        );
        let origin = own.get("access-control-allow-origin")?;
        assert_eq!(own.get("access-control-expose-headers").unwrap(), EXPOSED);
        Some((
            origin.to_str().unwrap().to_owned(),
            own.contains_key("access-control-allow-credentials"),
        ))
    }

    #[test]
    fn an_origin_reads_refusals_as_it_read_answers() {
        let cors = Cors::new(&[]);
        assert_eq!(said(&cors, &from(SHOP)), None);
        cors.learn(
            &preflight(),
            &answer(&[
                ("access-control-allow-origin", SHOP),
                ("access-control-allow-credentials", "true"),
            ]),
        );
        assert_eq!(said(&cors, &from(SHOP)), Some((SHOP.into(), true)));
        assert_eq!(said(&cors, &from("https://other.test")), None);
        assert_eq!(said(&cors, &TestRequest::default().to_http_request()), None);
        // An error page often says nothing of it; a preflight that says nothing forbids it.
        cors.learn(&from(SHOP), &answer(&[]));
        assert_eq!(said(&cors, &from(SHOP)), Some((SHOP.into(), true)));
        cors.learn(
            &from(SHOP),
            &answer(&[("access-control-allow-origin", "*")]),
        );
        assert_eq!(said(&cors, &from(SHOP)), Some(("*".into(), false)));
        cors.learn(&preflight(), &answer(&[]));
        assert_eq!(said(&cors, &from(SHOP)), None);
        // What is another origin's is not this one's.
        cors.learn(
            &from(SHOP),
            &answer(&[("access-control-allow-origin", "https://other.test")]),
        );
        assert_eq!(said(&cors, &from(SHOP)), None);
    }

    #[test]
    fn named_origins_need_no_answer() {
        let named = |names: &[&str]| {
            Cors::new(&names.iter().map(|name| (*name).into()).collect::<Vec<_>>())
        };
        let one = named(&[SHOP]);
        assert_eq!(said(&one, &from(SHOP)), Some((SHOP.into(), true)));
        assert_eq!(said(&one, &from("null")), None);
        let all = named(&[SHOP, "*"]);
        assert_eq!(said(&all, &from(SHOP)), Some((SHOP.into(), true)));
        assert_eq!(said(&all, &from("null")), Some(("*".into(), false)));
    }

    #[test]
    fn the_origins_that_are_remembered_are_bounded() {
        let cors = Cors::new(&[]);
        for number in 0..3 * ORIGINS_MAX {
            cors.learn(
                &from(&format!("https://{number}.test")),
                &answer(&[("access-control-allow-origin", "*")]),
            );
        }
        let long = format!("https://{}.test", "x".repeat(300));
        cors.learn(
            &from(&long),
            &answer(&[("access-control-allow-origin", "*")]),
        );
        assert!(cors.seen.len() <= ORIGINS_MAX);
        assert_eq!(cors.allowed(&long), None);
    }
}
