//! The only place where errors become statuses: RFC 9457 problem details, each with a stable `type`.

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};

/// What a request is refused with. `detail` is for people and may change; `type` is for programs and does not.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("{0}")]
    InvalidParameter(String),
    #[error("{0}")]
    MalformedBody(String),
    #[error("send the admin token as \"Authorization: Bearer …\"")]
    Unauthorized,
    #[error("{0}")]
    ForbiddenOrigin(&'static str),
    #[error("{0}")]
    NotFound(String),
    #[error("this resource does not have that method")]
    MethodNotAllowed,
    /// The state of the thing does not allow it: a code of its own, and why.
    #[error("{detail}")]
    Conflict { kind: &'static str, detail: String },
    #[error("{0}")]
    Gone(String),
    #[error("the body is too large")]
    TooLarge,
    #[error("the database did not answer in time")]
    Unavailable(#[source] sqlx::Error),
    #[error("the database refused the query; the log has the reason")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => {
                Self::Unavailable(error)
            }
            error => Self::Database(error),
        }
    }
}

impl ApiError {
    /// The code at the end of `type`, and the title.
    fn kind(&self) -> (&'static str, &'static str) {
        match self {
            Self::InvalidParameter(_) => ("invalid-parameter", "A parameter is not valid"),
            Self::MalformedBody(_) => ("malformed-body", "The body can't be read"),
            Self::Unauthorized => ("unauthorized", "The token is missing or wrong"),
            Self::ForbiddenOrigin(_) => ("forbidden-origin", "The request comes from elsewhere"),
            Self::NotFound(_) => ("not-found", "There is no such thing"),
            Self::MethodNotAllowed => ("method-not-allowed", "The method is not allowed"),
            Self::Conflict { kind, .. } => (kind, "The state does not allow it"),
            Self::Gone(_) => ("event-expired", "The event is no longer kept"),
            Self::TooLarge => ("too-large", "The body is too large"),
            Self::Unavailable(_) => ("unavailable", "The database is not available"),
            Self::Database(_) => ("internal", "Something went wrong here"),
        }
    }

    fn log(&self) {
        if let Self::Unavailable(error) | Self::Database(error) = self {
            tracing::error!(error = error as &dyn std::error::Error, "an admin request failed");
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::InvalidParameter(_) | Self::MalformedBody(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::ForbiddenOrigin(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::Gone(_) => StatusCode::GONE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Database(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        self.log();
        let (kind, title) = self.kind();
        let mut response = problem(self.status_code(), kind, title, Some(&self.to_string()));
        match self {
            Self::Unauthorized => {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer realm=\"hookonce\""));
            }
            Self::Unavailable(_) => {
                response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

/// A response of `application/problem+json`. `kind` is the stable end of its `type`.
pub fn problem(status: StatusCode, kind: &str, title: &str, detail: Option<&str>) -> HttpResponse {
    let mut body = serde_json::json!({ "type": format!("urn:hookonce:problem:{kind}"), "title": title, "status": status.as_u16() });
    if let Some(detail) = detail {
        body["detail"] = detail.into();
    }
    HttpResponse::build(status)
        .insert_header((header::CONTENT_TYPE, "application/problem+json"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(body.to_string())
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;

    use super::*;

    #[actix_web::test]
    async fn a_problem_has_its_type_title_status_and_detail() {
        let response = ApiError::NotFound("there is no event 1".into()).error_response();
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers().get("content-type").unwrap(), "application/problem+json");
        let body: serde_json::Value = serde_json::from_slice(&to_bytes(response.into_body()).await.unwrap()).unwrap();
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
