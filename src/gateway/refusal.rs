//! What a gateway says in its own name: problem details (RFC 9457), each with a stable `type`. When
//! it refuses is not decided here.

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

    fn problem(&self) -> GatewayProblem {
        let kind = self.kind();
        let problem = GatewayProblem {
            kind: format!("{URN}{}", kind.name),
            title: kind.title.to_owned(),
            status: kind.status.as_u16(),
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
        let Kind { status, .. } = self.kind();
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

    #[test]
    fn the_description_of_the_api_has_every_refusal() {
        let own: BTreeSet<(u16, &str)> = KINDS
            .iter()
            .map(|kind| (kind.status.as_u16(), kind.name))
            .collect();
        let described: BTreeSet<(u16, &str)> = GATEWAY_PROBLEMS.iter().copied().collect();
        assert_eq!(own, described);
    }
}
