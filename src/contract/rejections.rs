//! Rejections: requests that were refused, and why.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Header, RejectionId, Time, named::named};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Rejection {
    pub id: RejectionId,
    /// Null where the path names none.
    pub source: Option<String>,
    /// A stable code.
    pub reason: Cow<'static, str>,
    pub detail: String,
    pub method: String,
    /// Path and query, the query's values masked.
    pub target: String,
    pub rejected_at: Option<Time>,
    /// Null where the body was not read to its end.
    pub body_bytes: Option<usize>,
}

/// How often a source's requests were refused for a reason since the process started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RejectionCount {
    pub source: Option<String>,
    pub reason: Cow<'static, str>,
    pub count: u64,
}

/// A page of rejections, newest first, and how many there were.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Rejections {
    pub items: Vec<Rejection>,
    /// The `cursor` of the next page; null where this is the last.
    pub next: Option<Uuid>,
    pub counts: Vec<RejectionCount>,
}

/// A rejection with its checks, and a name for its mistake.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Explained {
    #[serde(flatten)]
    pub rejection: Rejection,
    /// What is secret in them is masked.
    pub headers: Vec<Header>,
    /// SHA-256 in hex. Left out where the body was not read to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub body_digest: Option<String>,
    /// The body's first bytes. Left out where it was not read to its end, where it is no UTF-8, or
    /// where it carries the credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub body_prefix: Option<String>,
    /// Of a body that is no UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub body_prefix_base64: Option<String>,
    pub checks: Vec<Check>,
    /// The first eight hex digits of the SHA-256 of each of the source's secrets.
    pub secrets: Vec<String>,
    pub diagnoses: Vec<Diagnosis>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// `source`, `request`, `headers`, `signature`, `form`, `time` or `digest`.
    pub check: Cow<'static, str>,
    /// Null where an earlier check failed, or where there is nothing to check.
    pub passed: Option<bool>,
    pub found: String,
}

named! {
    /// A known mistake.
    pub enum DiagnosisCode {
        ClockSkew = "clock_skew",
        RetiredSecret = "retired_secret",
        OtherSource = "other_source",
        SecretForm = "secret_form",
        BodyChanged = "body_changed",
        UrlDiffers = "url_differs",
        OtherProvider = "other_provider",
        TestMode = "test_mode",
        BodyNotKept = "body_not_kept",
        KeyUnavailable = "key_unavailable",
        SecretDoubtful = "secret_doubtful",
    }
}

/// What probably went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnosis {
    pub code: DiagnosisCode,
    pub text: String,
}
