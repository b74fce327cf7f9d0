//! Why a request gets no 200: the status and the code of each reason. The answer never says which
//! check failed.

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
};
use hookonce_scheme::{Reason, Rejection};

use super::answer::STATUS;
use crate::{
    contract::Refused,
    group_commit::CommitError,
    intake::{receiver::NotTaken, sources::Source},
    port::body::BodyError,
};

/// Why a request gets no 200.
#[derive(Debug)]
pub enum Refusal {
    UnknownSource,
    /// Its address has sent too many requests.
    Rate,
    Method,
    TooLarge,
    BodyTimeout,
    BodyBroken,
    Encoding,
    /// Other bodies take all the room.
    Busy,
    NotTaken(NotTaken),
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
    pub fn status(&self) -> StatusCode {
        match self {
            Self::UnknownSource => StatusCode::NOT_FOUND,
            Self::Rate => StatusCode::TOO_MANY_REQUESTS,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::Encoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotTaken(NotTaken::Rejected(Rejection {
                reason: Reason::MalformedRequest,
                ..
            })) => StatusCode::BAD_REQUEST,
            Self::NotTaken(NotTaken::Rejected(_)) => StatusCode::UNAUTHORIZED,
            Self::NotTaken(NotTaken::Record(CommitError::Refused)) => StatusCode::BAD_REQUEST,
            // The request may be right, so it is to be sent again.
            Self::NotTaken(NotTaken::Record(_) | NotTaken::KeyUnavailable(_)) | Self::Busy => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownSource => "unknown_source",
            Self::Rate => "rate",
            Self::Method => "method",
            Self::TooLarge => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::BodyBroken => "body_broken",
            Self::Encoding => "content_encoding",
            Self::Busy | Self::NotTaken(NotTaken::Record(CommitError::Busy)) => "busy",
            Self::NotTaken(NotTaken::Rejected(rejection)) => rejection.reason.code(),
            Self::NotTaken(NotTaken::KeyUnavailable(_)) => "key_unavailable",
            Self::NotTaken(NotTaken::Record(CommitError::Unavailable)) => "database_unavailable",
            Self::NotTaken(NotTaken::Record(CommitError::Refused)) => "unstorable",
        }
    }

    /// The details, for the reader of the rejection log.
    pub fn detail(&self) -> &str {
        match self {
            Self::NotTaken(NotTaken::Rejected(rejection)) => &rejection.detail,
            Self::NotTaken(NotTaken::KeyUnavailable(detail)) => detail,
            _ => "",
        }
    }

    /// Whether it counts as a rejection. A request that found no room or could not be stored is not
    /// at fault.
    pub fn is_the_requests_fault(&self) -> bool {
        !matches!(self, Self::Busy | Self::NotTaken(NotTaken::Record(_)))
    }

    /// `source` is given if there is one, because its provider may insist on how a refusal looks.
    pub fn response(&self, source: Option<&Source>) -> HttpResponse {
        let status = self.status();
        let mut response = HttpResponse::build(status);
        response
            .insert_header((header::CONTENT_TYPE, PROBLEM))
            .insert_header((STATUS, REFUSED));
        match status {
            StatusCode::SERVICE_UNAVAILABLE => response.insert_header((header::RETRY_AFTER, "5")),
            StatusCode::TOO_MANY_REQUESTS => response.insert_header((header::RETRY_AFTER, "1")),
            _ => &mut response,
        };
        if matches!(self, Self::TooLarge | Self::BodyTimeout | Self::BodyBroken) {
            response.force_close();
        }
        if matches!(self, Self::Method) {
            response.insert_header((header::ALLOW, "POST"));
        }
        let Some(source) = source else {
            return response.body(problem(status));
        };
        if status == StatusCode::UNAUTHORIZED
            && source
                .secret_headers
                .iter()
                .any(|name| name == "authorization")
        {
            // A 401 needs it (RFC 9110, section 15.5.2), and some senders show their credentials
            // only when they are asked this way.
            response.insert_header((header::WWW_AUTHENTICATE, source.asks_for()));
        }
        if source.bare_answers {
            return response.finish();
        }
        response.body(problem(status))
    }
}

const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const REFUSED: HeaderValue = HeaderValue::from_static("refused");

fn problem(status: StatusCode) -> String {
    let refused = Refused {
        kind: "about:blank".into(),
        title: status.canonical_reason().unwrap_or("Refused").into(),
        status: status.as_u16(),
    };
    serde_json::to_string(&refused).unwrap_or_default()
}
