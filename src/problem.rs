//! Problem details (RFC 9457), in the form that every face answers with. Each face decides which of
//! its errors is which problem.

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
};
use serde::Serialize;

/// The last part of `type` in a gateway's problems, with the statuses.
pub const GATEWAY_PROBLEMS: &[(u16, &str)] = &[
    (400, "key-missing"),
    (400, "key-malformed"),
    (400, "ambiguous-header"),
    (400, "malformed-body"),
    (400, "malformed-target"),
    (405, "method-not-allowed"),
    (408, "body-timeout"),
    (409, "in-progress"),
    (409, "outcome-unknown"),
    (409, "body-not-retained"),
    (410, "key-expired"),
    (413, "too-large"),
    (417, "expectation-failed"),
    (422, "key-reused"),
    (500, "internal"),
    (501, "upgrade-not-supported"),
    (502, "upstream-failed"),
    (503, "busy"),
    (503, "unavailable"),
    (503, "upstream-failed"),
    (503, "upstream-unreachable"),
    (504, "upstream-timeout"),
];

/// The longest Retry-After. The work may be done long before the lease ends, so nobody is sent away
/// for longer.
const RETRY_AFTER_SECONDS_MAX: f64 = 5.0;

pub fn retry_after_seconds(lease_left: f64) -> u64 {
    // The value is in 1..=5, so the cast loses nothing.
    lease_left.clamp(1.0, RETRY_AFTER_SECONDS_MAX).ceil() as u64
}

/// A response of `application/problem+json`: a `contract::Problem`, or a gateway's.
pub fn response(status: StatusCode, problem: &impl Serialize) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((header::CONTENT_TYPE, "application/problem+json"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(serde_json::to_string(problem).unwrap_or_default())
}
