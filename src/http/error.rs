//! The only place that turns errors of the API and the ledger into statuses: RFC 9457 problem
//! details, each with a stable `type`.

use std::sync::Arc;

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use serde_json::value::RawValue;

use crate::{
    contract::{Problem, StepState, URN},
    group_commit::CommitError,
    http::tokens::{Need, TokenError},
    problem::{self, retry_after_seconds},
    store::ledger::Claimed,
};

/// Why a request is refused. `detail` is for people and may change; `type` is for programs and
/// stays.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("{0}")]
    InvalidParameter(String),
    #[error("{0}")]
    MalformedBody(String),
    #[error("send a token that is in force as \"Authorization: Bearer …\"")]
    Unauthorized,
    #[error("this address has sent too many wrong tokens")]
    TooManyTokens,
    #[error("the token's scope does not include this: it takes {}", scopes(*.0))]
    InsufficientScope(Need),
    #[error("{0}")]
    OtherTenant(&'static str),
    #[error("{0}")]
    ForbiddenOrigin(&'static str),
    #[error("{0}")]
    NotFound(String),
    #[error("this resource does not have that method")]
    MethodNotAllowed,
    /// The resource's state does not allow it. `kind` is a code for this case.
    #[error("{detail}")]
    Conflict { kind: &'static str, detail: String },
    #[error("{0}")]
    Gone(String),
    #[error("{what} is too large: {}at most {limit} bytes", size.map(|size| format!("{size} bytes, ")).unwrap_or_default())]
    TooLarge {
        what: &'static str,
        limit: usize,
        /// None if it was not read to its end.
        size: Option<usize>,
    },
    #[error("another is executing the step: wait, or ask again later")]
    StepRunning {
        fence: i64,
        owner: Option<String>,
        lease_left_seconds: f64,
    },
    #[error(
        "who executed the step was lost, and what came of it is not known: find out, then resolve it with fence {} and the evidence",
        .0.fence
    )]
    OutcomeUnknown(Arc<Claimed>),
    #[error("another owner holds the step under this claim_id: each claim has an id of its own")]
    ClaimIdReused(Arc<Claimed>),
    #[error("the step was claimed before with another input_hash: a step is one piece of work")]
    InputChanged,
    #[error("fence {given} no longer has the step: it is {state} under fence {fence}")]
    StaleFence {
        given: i64,
        fence: i64,
        state: StepState,
    },
    #[error("fence {0} no longer has the key")]
    StaleKeyFence(i64),
    #[error("another is handling the key: neither handle it nor take it as done")]
    KeyLeased { lease_left_seconds: f64 },
    #[error("{what}: there is no source {name:?}: leave it out, or configure it")]
    UnknownSource { what: String, name: String },
    #[error("{0}")]
    Undecided(#[from] CommitError),
    #[error("the database did not answer in time")]
    Unavailable(#[source] sqlx::Error),
    #[error("the database refused the query; the log has the reason")]
    Database(#[source] sqlx::Error),
    /// A refusal that names what the call was about.
    #[error("{error}")]
    About {
        about: About,
        claim_id: Option<String>,
        error: Box<Self>,
    },
}

/// What a call of the ledger is about. Its answer names it, so that the caller can tell that it is
/// the answer to this call.
#[derive(Clone, Debug)]
pub enum About {
    Step { run: String, step: String },
    Key { scope: String, key: String },
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::TooMany => Self::TooManyTokens,
            TokenError::Database(error) => error.into(),
        }
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Io(_)
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            error if has_bad_text(&error) => Self::InvalidParameter(
                "a value is too long, or holds U+0000, which no text in the database may".into(),
            ),
            error => Self::Database(error),
        }
    }
}

/// PostgreSQL's character_not_in_repertoire, untranslatable_character and program_limit_exceeded.
/// Only a caller's text causes them.
fn has_bad_text(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| matches!(&*code, "22021" | "22P05" | "54000"))
}

impl ApiError {
    /// The refusal of a call about this, with its claim id.
    pub fn about(self, about: About, claim_id: Option<String>) -> Self {
        Self::About {
            about,
            claim_id,
            error: Box::new(self),
        }
    }

    /// The code at the end of `type`, and the title.
    fn kind(&self) -> (&'static str, &'static str) {
        match self {
            Self::InvalidParameter(_) => ("invalid-parameter", "A parameter is not valid"),
            Self::MalformedBody(_) => ("malformed-body", "The body can't be read"),
            Self::Unauthorized => ("unauthorized", "The token is missing or wrong"),
            Self::InsufficientScope(_) => ("insufficient-scope", "The token may not do this"),
            Self::OtherTenant(_) => ("other-tenant", "The token is another tenant's"),
            Self::ForbiddenOrigin(_) => ("forbidden-origin", "The request comes from elsewhere"),
            Self::NotFound(_) => ("not-found", "There is no such thing"),
            Self::MethodNotAllowed => ("method-not-allowed", "The method is not allowed"),
            Self::Conflict { kind, .. } => (kind, "The state does not allow it"),
            Self::Gone(_) => ("event-expired", "The event is no longer kept"),
            Self::TooLarge { .. } => ("too-large", "It is too large"),
            Self::TooManyTokens => ("too-many-tokens", "Too many wrong tokens"),
            Self::StepRunning { .. } => ("step-running", "The step is being executed"),
            Self::OutcomeUnknown(_) => ("outcome-unknown", "The outcome is not known"),
            Self::ClaimIdReused(_) => ("claim-id-reused", "The claim_id is another owner's"),
            Self::InputChanged => ("input-changed", "The input has changed"),
            Self::StaleFence { .. } | Self::StaleKeyFence(_) => {
                ("stale-fence", "The lease was lost")
            }
            Self::KeyLeased { .. } => ("key-leased", "The key is being handled"),
            Self::UnknownSource { .. } => ("unknown-source", "There is no such source"),
            Self::Undecided(CommitError::Busy) => ("busy", "Too many calls are waiting"),
            Self::Undecided(CommitError::Unavailable) => {
                ("unavailable", "The database is not available")
            }
            Self::Undecided(CommitError::Refused) => ("malformed-body", "The body can't be stored"),
            Self::Unavailable(_) => ("unavailable", "The database is not available"),
            Self::Database(_) => ("internal", "Something went wrong here"),
            Self::About { error, .. } => error.kind(),
        }
    }

    /// The problem, with the members that a program needs beside the type.
    fn problem(&self) -> Problem {
        let (kind, title) = self.kind();
        let problem = Problem {
            kind: format!("{URN}{kind}"),
            title: title.to_owned(),
            status: self.status_code().as_u16(),
            detail: Some(self.to_string()),
            ..Problem::default()
        };
        match self {
            Self::StepRunning { fence, owner, .. } => Problem {
                fence: Some(*fence),
                owner: Some(owner.clone()),
                ..problem
            },
            Self::OutcomeUnknown(row) => Problem {
                claimed_at: Some(row.claimed_at.into()),
                effect_key: Some(row.id),
                error: row
                    .error
                    .clone()
                    .and_then(|error| RawValue::from_string(error).ok()),
                fence: Some(row.fence),
                owner: Some(row.owner.clone()),
                ..problem
            },
            Self::ClaimIdReused(row) => Problem {
                fence: Some(row.fence),
                owner: Some(row.owner.clone()),
                ..problem
            },
            Self::TooLarge { limit, size, .. } => Problem {
                limit: Some(*limit),
                size: *size,
                ..problem
            },
            Self::About {
                about,
                claim_id,
                error,
            } => {
                let problem = Problem {
                    claim_id: claim_id.clone(),
                    ..error.problem()
                };
                match about.clone() {
                    About::Step { run, step } => Problem {
                        run: Some(run),
                        step: Some(step),
                        ..problem
                    },
                    About::Key { scope, key } => Problem {
                        scope: Some(scope),
                        key: Some(key),
                        ..problem
                    },
                }
            }
            Self::StaleFence { fence, state, .. } => Problem {
                fence: Some(*fence),
                step_status: Some(*state),
                ..problem
            },
            _ => problem,
        }
    }

    /// The refusal without what it is about.
    fn bare(&self) -> &Self {
        match self {
            Self::About { error, .. } => error.bare(),
            other => other,
        }
    }

    fn log(&self) {
        if let Self::Unavailable(error) | Self::Database(error) = self.bare() {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "an admin request failed"
            );
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::InvalidParameter(_) | Self::MalformedBody(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::ForbiddenOrigin(_) | Self::InsufficientScope(_) | Self::OtherTenant(_) => {
                StatusCode::FORBIDDEN
            }
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict { .. }
            | Self::StepRunning { .. }
            | Self::OutcomeUnknown(_)
            | Self::ClaimIdReused(_)
            | Self::StaleFence { .. }
            | Self::StaleKeyFence(_)
            | Self::KeyLeased { .. } => StatusCode::CONFLICT,
            Self::InputChanged | Self::UnknownSource { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Undecided(CommitError::Refused) => StatusCode::BAD_REQUEST,
            Self::Undecided(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Gone(_) => StatusCode::GONE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooManyTokens => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Database(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::About { error, .. } => error.status_code(),
        }
    }

    fn error_response(&self) -> HttpResponse {
        self.log();
        let mut response = problem::response(self.status_code(), &self.problem());
        let mut set = |name, value: &str| {
            if let Ok(value) = header::HeaderValue::from_str(value) {
                response.headers_mut().insert(name, value);
            }
        };
        match self.bare() {
            Self::Unauthorized => set(header::WWW_AUTHENTICATE, "Bearer realm=\"hookonce\""),
            Self::InsufficientScope(_) => set(
                header::WWW_AUTHENTICATE,
                "Bearer realm=\"hookonce\", error=\"insufficient_scope\"",
            ),
            Self::TooManyTokens
            | Self::Unavailable(_)
            | Self::Undecided(CommitError::Busy | CommitError::Unavailable) => {
                set(header::RETRY_AFTER, "1")
            }
            Self::StepRunning {
                lease_left_seconds, ..
            }
            | Self::KeyLeased { lease_left_seconds } => {
                set(
                    header::RETRY_AFTER,
                    &retry_after_seconds(*lease_left_seconds).to_string(),
                );
            }
            _ => {}
        }
        response
    }
}

pub(super) fn scopes(need: Need) -> &'static str {
    match need {
        Need::Metrics | Need::Read => "read, operate or admin",
        Need::Operate => "operate or admin",
        Need::Admin => "admin",
        Need::LedgerRead => "ledger, read, operate or admin",
        Need::Ledger => "ledger, operate or admin",
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;

    use super::*;

    #[actix_web::test]
    async fn a_problem_has_its_type_title_status_and_detail() {
        let response = ApiError::NotFound("there is no event 1".into()).error_response();
        assert_eq!(response.status(), 404);
        assert_eq!(
            response.headers().get("content-type").unwrap(),
            "application/problem+json"
        );
        let body: serde_json::Value =
            serde_json::from_slice(&to_bytes(response.into_body()).await.unwrap()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "type": "urn:hookonce:problem:not-found", "title": "There is no such thing", "status": 404, "detail": "there is no event 1"
            })
        );
    }

    #[test]
    fn a_database_error_shows_no_details() {
        let error = ApiError::from(sqlx::Error::Protocol("secret detail".into()));
        assert_eq!(error.status_code(), 500);
        assert!(!error.to_string().contains("secret detail"));
    }
}
