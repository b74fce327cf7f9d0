//! What all routes of the API and the ledger have in common: their bounds, and the refusal of calls
//! that match no route or bound.

use actix_web::{
    HttpRequest, Scope,
    error::{JsonPayloadError, PathError, QueryPayloadError},
    http::header,
    middleware::DefaultHeaders,
    web,
};

use super::error::ApiError;

/// Answers a call that cannot be read with a problem.
pub fn with_errors(scope: Scope) -> Scope {
    scope
        .app_data(web::QueryConfig::default().error_handler(query_error))
        .app_data(web::PathConfig::default().error_handler(path_error))
}

/// The headers of every answer, refusals included: it must not be cached, and no browser may guess
/// another type.
pub fn headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add((header::CACHE_CONTROL, "no-store"))
        .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
}

/// Accepts JSON bodies of at most this size.
pub fn json_config(bytes_max: usize) -> web::JsonConfig {
    web::JsonConfig::default()
        .limit(bytes_max)
        .error_handler(body_error)
}

pub async fn no_such_method() -> Result<&'static str, ApiError> {
    Err(ApiError::MethodNotAllowed)
}

pub async fn no_such_path(request: HttpRequest) -> Result<&'static str, ApiError> {
    Err(ApiError::NotFound(format!(
        "the API has no {}",
        request.path()
    )))
}

fn body_error(error: JsonPayloadError, _: &HttpRequest) -> actix_web::Error {
    match error {
        JsonPayloadError::Overflow { limit } => too_large(limit, None),
        JsonPayloadError::OverflowKnownLength { length, limit } => too_large(limit, Some(length)),
        JsonPayloadError::Deserialize(error) => {
            ApiError::MalformedBody(format!("the body is not what is asked for: {error}")).into()
        }
        JsonPayloadError::ContentType => {
            ApiError::MalformedBody("send the body as application/json".into()).into()
        }
        error => ApiError::MalformedBody(format!("the body can't be read: {error}")).into(),
    }
}

fn too_large(limit: usize, size: Option<usize>) -> actix_web::Error {
    let what = "the body of the call";
    ApiError::TooLarge { what, limit, size }.into()
}

fn query_error(error: QueryPayloadError, _: &HttpRequest) -> actix_web::Error {
    let QueryPayloadError::Deserialize(error) = error else {
        return ApiError::InvalidParameter(error.to_string()).into();
    };
    ApiError::InvalidParameter(error.to_string()).into()
}

fn path_error(_: PathError, request: &HttpRequest) -> actix_web::Error {
    ApiError::InvalidParameter(format!("{}: an id is a UUID", request.path())).into()
}
