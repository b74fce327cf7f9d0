//! Who may use the routes of the admin port and the ledger's port: the holder of a bearer token
//! with the scope that the route asks for (`table`). A call from a web page is accepted only if the
//! page is of this machine. A rebound name or another site's page is refused before the token is
//! looked at.

use std::net::IpAddr;

use actix_web::{
    Error, HttpMessage as _, ResponseError as _,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header,
    middleware::Next,
    web,
};

use secrecy::ExposeSecret as _;
use subtle::ConstantTimeEq as _;

use crate::{
    http::{
        error::ApiError,
        state::AdminState,
        tokens::{Need, digest},
    },
    port::ambiguous,
    settings::Metrics,
};

/// This machine's own name in lower case, if it has one.
pub fn own_names() -> Vec<String> {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .map(|name| name.to_ascii_lowercase())
        .into_iter()
        .collect()
}

/// Refuses a call that is not allowed. Otherwise the handler finds the `Grant` in the request.
pub async fn guard<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
    need: Need,
    own_host: bool,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    match check(&request, need, own_host).await {
        Ok(()) => next
            .call(request)
            .await
            .map(ServiceResponse::map_into_left_body),
        Err(error) => Ok(request
            .into_response(error.error_response())
            .map_into_right_body()),
    }
}

async fn check(request: &ServiceRequest, need: Need, own_host: bool) -> Result<(), ApiError> {
    let state = request
        .app_data::<web::Data<AdminState>>()
        .ok_or(ApiError::Unauthorized)?;
    let text = |name| {
        request
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    let host = text(header::HOST)
        .or_else(|| {
            request
                .uri()
                .authority()
                .map(|authority| authority.as_str())
        })
        .unwrap_or_default();
    if own_host {
        check_host(host, &state.own_names)?;
    }
    check_origin(host, text(header::ORIGIN))?;
    if let Some(name) = ambiguous(request.headers()) {
        return Err(ApiError::InvalidParameter(format!(
            "the header {name} comes twice: send it once"
        )));
    }
    let authorization = text(header::AUTHORIZATION);
    if need == Need::Metrics && may_scrape(&state.settings.load().metrics, authorization) {
        return Ok(());
    }
    let token = authorization
        .and_then(bearer)
        .ok_or(ApiError::Unauthorized)?;
    let address = request.peer_addr().map(|peer| peer.ip());
    let grant = state
        .tokens
        .grant(token, address)
        .await?
        .ok_or(ApiError::Unauthorized)?;
    if !grant.allows(need) {
        return Err(ApiError::InsufficientScope(need));
    }
    request.extensions_mut().insert(grant);
    Ok(())
}

/// Whether the settings let this caller read the metrics.
fn may_scrape(metrics: &Metrics, authorization: Option<&str>) -> bool {
    let is_the_token = || {
        let (given, token) = (authorization.and_then(bearer)?, metrics.token.as_ref()?);
        let token = token.read().ok()?;
        Some(bool::from(
            digest(given).ct_eq(&digest(token.expose_secret())),
        ))
    };
    metrics.open || is_the_token().unwrap_or(false)
}

/// The token of an Authorization header. The scheme's case does not matter (RFC 9110, 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim())
        .filter(|token| !token.is_empty())
}

/// Refuses a Host that may be another site's rebound name. An address, localhost or our own name
/// cannot be one.
fn check_host(host: &str, own_names: &[String]) -> Result<(), ApiError> {
    let name = host_name(host).to_ascii_lowercase();
    let is_ours = name.parse::<IpAddr>().is_ok()
        || name == "localhost"
        || name.ends_with(".localhost")
        || own_names.contains(&name);
    if is_ours {
        return Ok(());
    }
    Err(ApiError::ForbiddenOrigin(
        "the Host header is not a name of this machine: call it by its address or as localhost",
    ))
}

/// Refuses an Origin, which browsers send, unless it is the page of that same host.
fn check_origin(host: &str, origin: Option<&str>) -> Result<(), ApiError> {
    let Some(origin) = origin else { return Ok(()) };
    let authority = origin
        .split_once("://")
        .map_or("", |(_, authority)| authority);
    if authority.eq_ignore_ascii_case(host) {
        Ok(())
    } else {
        Err(ApiError::ForbiddenOrigin(
            "the Origin header names another site than the Host header",
        ))
    }
}

/// The host without its port, and an IPv6 address without its brackets.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or("", |(address, _)| address);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_hosts_and_pages_pass() {
        let own = ["box.example".to_owned()];
        for (host, origin, expected) in [
            ("127.0.0.1:8081", None, true),
            ("[::1]:8081", None, true),
            ("10.0.0.7", None, true),
            ("localhost:8081", None, true),
            ("LOCALHOST", None, true),
            ("box.example:8081", None, true),
            ("evil.example:8081", None, false),
            ("localhost.evil.example", None, false),
            ("", None, false),
            ("127.0.0.1.evil.example", None, false),
            ("localhost:8081", Some("http://localhost:8081"), true),
            ("localhost:8081", Some("http://localhost:3000"), false),
            ("localhost:8081", Some("https://evil.example"), false),
            ("localhost:8081", Some("null"), false),
        ] {
            assert_eq!(
                check_host(host, &own)
                    .and_then(|()| check_origin(host, origin))
                    .is_ok(),
                expected,
                "{host} {origin:?}"
            );
        }
    }

    #[test]
    fn a_bearer_token_is_read_as_the_rfc_has_it() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer abc"), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("Bearer "), None);
        assert_eq!(bearer("abc"), None);
    }
}
