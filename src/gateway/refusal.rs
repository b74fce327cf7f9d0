//! What a gateway says in its own name: problem details (RFC 9457), each with a stable `type`, and
//! the same as an error of Stripe's API. When it refuses is not decided here.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
};
use http::HeaderValue;
use url::Url;

use crate::{
    contract::{GatewayProblem, StripeError, URN},
    port::body::BodyError,
    problem::{self, retry_after_seconds},
};

#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    KeyMissing(String),
    #[error("{0}")]
    KeyMalformed(&'static str),
    #[error("the key was sent before with another request: a key is one operation")]
    KeyReused,
    #[error(
        "the first request with this key is being answered: send it again later, or wait for it with \"Prefer: wait=n\""
    )]
    InProgress { lease_left_seconds: f64 },
    #[error(
        "the request was sent to the upstream and what came of it is not known: find out, then resolve it"
    )]
    OutcomeUnknown {
        key: String,
        caller: String,
        fence: i64,
    },
    #[error(
        "the request was executed and answered {status}; the answer's body was too large to be kept"
    )]
    BodyNotRetained { status: u16, bytes: Option<u64> },
    #[error(
        "the request with this key was executed; the time in which its answer is given again is over"
    )]
    KeyExpired,
    #[error("the request was not sent: {0}. The key is free")]
    NeverSent(String),
    #[error("the upstream did not answer, and knows the key: send the request again. {0}")]
    SendAgain(String),
    #[error("too many requests are being answered, or waiting to be")]
    Busy,
    #[error("the database did not answer in time: nothing was sent")]
    Unavailable,
    #[error("the key can't be stored")]
    Refused,
    #[error("the body is larger than gateways take with a key")]
    TooLarge,
    #[error("the body did not arrive in time")]
    BodyTimeout,
    #[error("the body could not be read")]
    BodyBroken,
    #[error("a gateway passes requests on and opens no tunnel: no Upgrade, no WebSocket")]
    Upgrade,
    #[error("a gateway does not pass this method on")]
    Method,
    #[error("the request's target is no path")]
    Target,
    #[error("the header {0} comes twice: send it once")]
    Ambiguous(String),
    #[error("of expectations only 100-continue can be met")]
    Expectation,
    #[error("{0}")]
    UpstreamUnreachable(String),
    #[error("{0}")]
    UpstreamFailed(String),
    #[error("{0}")]
    UpstreamLate(String),
    #[error("the call came to no end here")]
    Internal,
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::TooLarge,
            BodyError::TimedOut => Self::BodyTimeout,
            BodyError::Broken => Self::BodyBroken,
            BodyError::Busy => Self::Busy,
        }
    }
}

/// Who is told. Stripe's libraries name themselves by a header; see
/// <https://docs.stripe.com/api/errors> for what they expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    Any,
    StripeLibrary,
}

impl Listener {
    pub fn of(request: &HttpRequest) -> Self {
        if request.headers().contains_key("x-stripe-client-user-agent") {
            Self::StripeLibrary
        } else {
            Self::Any
        }
    }
}

/// The value of `Link` that names a page as the description (draft-ietf-httpapi-idempotency-key-
/// header-07, 2.7). None if it is no URL.
pub fn described_by(url: &str) -> Option<HeaderValue> {
    // Written anew, a URL is ASCII and has no angle bracket.
    let url = Url::parse(url).ok()?;
    HeaderValue::from_str(&format!("<{url}>; rel=\"describedby\"")).ok()
}

/// What all refusals of one kind have in common.
#[derive(Clone, Copy)]
struct Kind {
    status: StatusCode,
    /// The end of the problem's `type`, after `URN`.
    name: &'static str,
    title: &'static str,
}

/// Makes a constant of each kind, and the list that the test compares with the described ones. The
/// compiler rejects a kind that is not in the table, and warns of one that no refusal has.
macro_rules! kinds {
    ($($name:ident: $status:ident, $kind:literal, $title:literal;)*) => {
        $(const $name: Kind = Kind {
            status: StatusCode::$status,
            name: $kind,
            title: $title,
        };)*

        #[cfg(test)]
        const KINDS: &[Kind] = &[$($name),*];
    };
}

kinds! {
    KEY_MISSING: BAD_REQUEST, "key-missing", "The Idempotency-Key is missing";
    KEY_MALFORMED: BAD_REQUEST, "key-malformed", "The Idempotency-Key is malformed";
    KEY_REUSED: UNPROCESSABLE_ENTITY, "key-reused", "The Idempotency-Key is another request's";
    IN_PROGRESS: CONFLICT, "in-progress", "The first request is being answered";
    OUTCOME_UNKNOWN: CONFLICT, "outcome-unknown", "The outcome is not known";
    BODY_NOT_RETAINED: CONFLICT, "body-not-retained", "The answer was not kept";
    KEY_EXPIRED: GONE, "key-expired", "The Idempotency-Key has expired";
    UPSTREAM_UNREACHABLE: SERVICE_UNAVAILABLE,
        "upstream-unreachable", "The upstream can't be reached";
    SEND_AGAIN: SERVICE_UNAVAILABLE, "upstream-failed", "The upstream did not answer";
    BUSY: SERVICE_UNAVAILABLE, "busy", "Too many requests";
    UNAVAILABLE: SERVICE_UNAVAILABLE, "unavailable", "The database is not available";
    TOO_LARGE: PAYLOAD_TOO_LARGE, "too-large", "The body is too large";
    BODY_TIMEOUT: REQUEST_TIMEOUT, "body-timeout", "The body came too slowly";
    AMBIGUOUS: BAD_REQUEST, "ambiguous-header", "A header comes twice";
    BODY_BROKEN: BAD_REQUEST, "malformed-body", "The body can't be read";
    UPGRADE: NOT_IMPLEMENTED, "upgrade-not-supported", "Upgrades are not supported";
    METHOD: METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed";
    TARGET: BAD_REQUEST, "malformed-target", "The target can't be read";
    EXPECTATION: EXPECTATION_FAILED, "expectation-failed", "The expectation can't be met";
    UPSTREAM_FAILED: BAD_GATEWAY, "upstream-failed", "The upstream did not answer";
    UPSTREAM_LATE: GATEWAY_TIMEOUT, "upstream-timeout", "The upstream did not answer in time";
    INTERNAL: INTERNAL_SERVER_ERROR, "internal", "Something went wrong here";
}

impl Refusal {
    fn kind(&self) -> Kind {
        match self {
            Self::KeyMissing(_) => KEY_MISSING,
            Self::KeyMalformed(_) | Self::Refused => KEY_MALFORMED,
            Self::KeyReused => KEY_REUSED,
            Self::InProgress { .. } => IN_PROGRESS,
            Self::OutcomeUnknown { .. } => OUTCOME_UNKNOWN,
            Self::BodyNotRetained { .. } => BODY_NOT_RETAINED,
            Self::KeyExpired => KEY_EXPIRED,
            Self::NeverSent(_) | Self::UpstreamUnreachable(_) => UPSTREAM_UNREACHABLE,
            Self::SendAgain(_) => SEND_AGAIN,
            Self::Busy => BUSY,
            Self::Unavailable => UNAVAILABLE,
            Self::TooLarge => TOO_LARGE,
            Self::BodyTimeout => BODY_TIMEOUT,
            Self::Ambiguous(_) => AMBIGUOUS,
            Self::BodyBroken => BODY_BROKEN,
            Self::Upgrade => UPGRADE,
            Self::Method => METHOD,
            Self::Target => TARGET,
            Self::Expectation => EXPECTATION,
            Self::UpstreamFailed(_) => UPSTREAM_FAILED,
            Self::UpstreamLate(_) => UPSTREAM_LATE,
            Self::Internal => INTERNAL,
        }
    }

    /// The status, which the libraries of Stripe take for an idempotency error only if it is 400.
    fn status(&self, listener: Listener) -> StatusCode {
        match self {
            Self::KeyReused
            | Self::OutcomeUnknown { .. }
            | Self::BodyNotRetained { .. }
            | Self::KeyExpired
                if listener == Listener::StripeLibrary =>
            {
                StatusCode::BAD_REQUEST
            }
            _ => self.kind().status,
        }
    }

    /// Whether it is the key, or what the key stands for, that is refused.
    fn is_of_the_key(&self) -> bool {
        matches!(
            self,
            Self::InProgress { .. } | Self::OutcomeUnknown { .. } | Self::BodyNotRetained { .. }
        ) || self.kind().name.starts_with("key-")
    }

    fn error(&self) -> StripeError {
        let kind = self.kind();
        StripeError {
            code: match self {
                // Stripe's own word for it.
                Self::InProgress { .. } => "idempotency_key_in_use".to_owned(),
                _ => kind.name.replace('-', "_"),
            },
            message: self.to_string(),
            kind: match kind.status {
                _ if self.is_of_the_key() => "idempotency_error",
                status if status.is_server_error() => "api_error",
                _ => "invalid_request_error",
            }
            .to_owned(),
        }
    }

    fn problem(&self, status: StatusCode) -> GatewayProblem {
        let kind = self.kind();
        let problem = GatewayProblem {
            kind: format!("{URN}{}", kind.name),
            title: kind.title.to_owned(),
            status: status.as_u16(),
            detail: Some(self.to_string()),
            error: self.error(),
            ..GatewayProblem::default()
        };
        match self {
            Self::OutcomeUnknown { key, caller, fence } => GatewayProblem {
                run: Some(caller.clone()),
                step: Some(key.clone()),
                fence: Some(*fence),
                ..problem
            },
            Self::BodyNotRetained { status, bytes } => GatewayProblem {
                upstream_status: Some(*status),
                body_bytes: Some(*bytes),
                ..problem
            },
            _ => problem,
        }
    }

    /// After how many seconds the same request may have another answer; None if never by itself.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::InProgress { lease_left_seconds } => {
                Some(retry_after_seconds(*lease_left_seconds))
            }
            _ if self.kind().status == StatusCode::SERVICE_UNAVAILABLE => Some(1),
            _ => None,
        }
    }

    /// `described_by`: the value of `Link`.
    pub fn into_response(self, listener: Listener, described_by: &HeaderValue) -> HttpResponse {
        let status = self.status(listener);
        let mut response = problem::response(status, &self.problem(status));
        let headers = response.headers_mut();
        if let Ok(link) = header::HeaderValue::from_bytes(described_by.as_bytes()) {
            headers.insert(header::LINK, link);
        }
        let retry_after = self.retry_after();
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        // Without it, Stripe's libraries send again whatever is 409 or above 499, and nothing else.
        let should = match retry_after {
            Some(_) => Some("true"),
            None => self.is_of_the_key().then_some("false"),
        };
        if let (Listener::StripeLibrary, Some(should)) = (listener, should) {
            headers.insert(
                header::HeaderName::from_static("stripe-should-retry"),
                header::HeaderValue::from_static(should),
            );
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::problem::GATEWAY_PROBLEMS;

    #[test]
    fn the_description_of_the_api_has_every_refusal() {
        let own: BTreeSet<(u16, &str)> = KINDS
            .iter()
            .map(|kind| (kind.status.as_u16(), kind.name))
            .collect();
        let described: BTreeSet<(u16, &str)> = GATEWAY_PROBLEMS.iter().copied().collect();
        assert_eq!(own, described);
    }

    fn said(refusal: Refusal, listener: Listener) -> (u16, Option<String>, StripeError) {
        let link = described_by("https://shop.test/a b#<c>").unwrap();
        assert_eq!(
            link,
            r#"<https://shop.test/a%20b#%3Cc%3E>; rel="describedby""#
        );
        let problem = refusal.problem(refusal.status(listener));
        let response = refusal.into_response(listener, &link);
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        assert_eq!(header("link").as_deref(), link.to_str().ok());
        assert_eq!(problem.status, response.status().as_u16());
        (problem.status, header("stripe-should-retry"), problem.error)
    }

    #[test]
    fn stripes_libraries_are_told_in_their_own_words() {
        let unknown = || Refusal::OutcomeUnknown {
            key: "k".into(),
            caller: "c".into(),
            fence: 1,
        };
        let in_progress = || Refusal::InProgress {
            lease_left_seconds: 1.0,
        };
        type Case = (
            fn() -> Refusal,
            [u16; 2],
            Option<&'static str>,
            &'static str,
        );
        let cases: [Case; 6] = [
            (unknown, [409, 400], Some("false"), "outcome_unknown"),
            (
                || Refusal::KeyReused,
                [422, 400],
                Some("false"),
                "key_reused",
            ),
            (
                || Refusal::KeyExpired,
                [410, 400],
                Some("false"),
                "key_expired",
            ),
            (
                in_progress,
                [409, 409],
                Some("true"),
                "idempotency_key_in_use",
            ),
            (|| Refusal::Busy, [503, 503], Some("true"), "busy"),
            (|| Refusal::TooLarge, [413, 413], None, "too_large"),
        ];
        for (refusal, [plain, theirs], should_retry, code) in cases {
            let (status, should, error) = said(refusal(), Listener::StripeLibrary);
            let kind = match code {
                "busy" => "api_error",
                "too_large" => "invalid_request_error",
                _ => "idempotency_error",
            };
            assert_eq!(
                (
                    status,
                    should.as_deref(),
                    error.kind.as_str(),
                    error.code.as_str()
                ),
                (theirs, should_retry, kind, code)
            );
            assert!(!error.message.is_empty());
            let (status, should, _) = said(refusal(), Listener::Any);
            assert_eq!((status, should), (plain, None), "{code}");
        }
    }
}
