//! What a gateway says in its own name: problem details, each with a stable `type`.

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
};

use crate::{
    contract::{GatewayProblem, URN},
    port::body::BodyError,
    problem::{self, retry_after_seconds},
};

#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    KeyMissing(&'static str),
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

impl Refusal {
    fn parts(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::KeyMissing(_) => (
                StatusCode::BAD_REQUEST,
                "key-missing",
                "The Idempotency-Key is missing",
            ),
            Self::KeyMalformed(_) => (
                StatusCode::BAD_REQUEST,
                "key-malformed",
                "The Idempotency-Key is malformed",
            ),
            Self::KeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "key-reused",
                "The Idempotency-Key is another request's",
            ),
            Self::InProgress { .. } => (
                StatusCode::CONFLICT,
                "in-progress",
                "The first request is being answered",
            ),
            Self::OutcomeUnknown { .. } => (
                StatusCode::CONFLICT,
                "outcome-unknown",
                "The outcome is not known",
            ),
            Self::BodyNotRetained { .. } => (
                StatusCode::CONFLICT,
                "body-not-retained",
                "The answer was not kept",
            ),
            Self::KeyExpired => (
                StatusCode::GONE,
                "key-expired",
                "The Idempotency-Key has expired",
            ),
            Self::NeverSent(_) | Self::UpstreamUnreachable(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "upstream-unreachable",
                "The upstream can't be reached",
            ),
            Self::SendAgain(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "upstream-failed",
                "The upstream did not answer",
            ),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "Too many requests"),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "The database is not available",
            ),
            Self::Refused => (
                StatusCode::BAD_REQUEST,
                "key-malformed",
                "The Idempotency-Key is malformed",
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                "The body is too large",
            ),
            Self::BodyTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                "body-timeout",
                "The body came too slowly",
            ),
            Self::Ambiguous(_) => (
                StatusCode::BAD_REQUEST,
                "ambiguous-header",
                "A header comes twice",
            ),
            Self::BodyBroken => (
                StatusCode::BAD_REQUEST,
                "malformed-body",
                "The body can't be read",
            ),
            Self::Upgrade => (
                StatusCode::NOT_IMPLEMENTED,
                "upgrade-not-supported",
                "Upgrades are not supported",
            ),
            Self::Method => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "The method is not allowed",
            ),
            Self::Target => (
                StatusCode::BAD_REQUEST,
                "malformed-target",
                "The target can't be read",
            ),
            Self::Expectation => (
                StatusCode::EXPECTATION_FAILED,
                "expectation-failed",
                "The expectation can't be met",
            ),
            Self::UpstreamFailed(_) => (
                StatusCode::BAD_GATEWAY,
                "upstream-failed",
                "The upstream did not answer",
            ),
            Self::UpstreamLate(_) => (
                StatusCode::GATEWAY_TIMEOUT,
                "upstream-timeout",
                "The upstream did not answer in time",
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Something went wrong here",
            ),
        }
    }

    fn problem(&self) -> GatewayProblem {
        let (status, kind, title) = self.parts();
        let problem = GatewayProblem {
            kind: format!("{URN}{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: Some(self.to_string()),
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

    pub fn into_response(self) -> HttpResponse {
        let (status, ..) = self.parts();
        let mut response = problem::response(status, &self.problem());
        let retry_after = match &self {
            Self::InProgress { lease_left_seconds } => {
                Some(retry_after_seconds(*lease_left_seconds))
            }
            _ if status == StatusCode::SERVICE_UNAVAILABLE => Some(1),
            _ => None,
        };
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::problem::GATEWAY_PROBLEMS;

    /// The statuses and kinds in this file's text: no variant can be left out.
    #[test]
    fn the_description_of_the_api_has_every_refusal() {
        let text = include_str!("refusal.rs")
            .split("fn problem")
            .next()
            .unwrap();
        let own: BTreeSet<(u16, String)> = text
            .split("(StatusCode::")
            .skip(1)
            .map(|part| {
                let status = part.split(',').next().unwrap();
                let status = (400..600)
                    .filter_map(|code| StatusCode::from_u16(code).ok())
                    .find(|known| {
                        known.canonical_reason().is_some_and(|reason| {
                            reason.to_uppercase().replace([' ', '-'], "_") == status
                        })
                    });
                (
                    status.unwrap().as_u16(),
                    part.split('"').nth(1).unwrap().to_owned(),
                )
            })
            .collect();
        let described: BTreeSet<(u16, String)> = GATEWAY_PROBLEMS
            .iter()
            .map(|(status, kind)| (*status, (*kind).to_owned()))
            .collect();
        assert_eq!(own, described);
    }
}
