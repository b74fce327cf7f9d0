//! Rejections: list, and explain one. Headers are shown with everything secret masked, queries
//! without their values.

use std::sync::Arc;

use actix_web::web;
use hookonce_scheme::Finding;
use schemars::JsonSchema;
use serde::Deserialize;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    contract::{Check, Explained, Rejection, RejectionId, Rejections, text_or_base64},
    http::{
        admin::parameters::{Window, next, page_rows},
        answer::Answer,
        error::ApiError,
        state::AdminState,
    },
    intake::{
        explain::Explainer,
        rejections::{Filter, Rejected},
    },
};

/// How many characters of a signature are shown: enough to tell two apart.
const SIGNATURE_CHARS_SHOWN: usize = 16;
/// Parts of the names of headers whose values are credentials, and of those whose values are
/// signatures.
const SECRET_NAMES: [&str; 6] = [
    "authorization",
    "cookie",
    "token",
    "secret",
    "password",
    "api-key",
];
const SIGNATURE_NAMES: [&str; 5] = ["signature", "hmac", "sign", "digest", "mac"];

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    source: Option<String>,
    reason: Option<String>,
    since: Option<String>,
    until: Option<String>,
    cursor: Option<Uuid>,
    limit: Option<u32>,
}

pub async fn list(
    state: web::Data<AdminState>,
    query: web::Query<ListQuery>,
) -> Result<Answer<Rejections>, ApiError> {
    let query = query.into_inner();
    let limit = page_rows(query.limit)?;
    let now = state.clock.unix_ms();
    let Window { from, below } = Window::new(
        query.since.as_deref(),
        query.until.as_deref(),
        query.cursor,
        now,
    )?;
    let filter = Filter {
        source: query.source.as_deref(),
        reason: query.reason.as_deref(),
        from,
        below,
    };
    let rejections = &state.intake.rejections;
    let found = rejections.list(filter, usize::try_from(limit).unwrap_or(0), now);
    let next = next(&found, limit, |rejected| rejected.id);
    let items = found.iter().map(|rejected| summary(rejected)).collect();
    Ok(Answer(Rejections {
        items,
        next,
        counts: rejections.counts(),
    }))
}

pub async fn explain(
    state: web::Data<AdminState>,
    id: web::Path<Uuid>,
) -> Result<Answer<Explained>, actix_web::Error> {
    let rejected = state.intake.rejections.get(*id, state.clock.unix_ms());
    let rejected = rejected.ok_or_else(|| {
        ApiError::NotFound(format!(
            "there is no rejection {id} (they are kept in memory, for a while)"
        ))
    })?;
    // Many guesses are tried, so this must not run on the thread that answers others.
    Ok(Answer(
        web::block(move || explained(&state, &rejected)).await?,
    ))
}

fn explained(state: &AdminState, rejected: &Arc<Rejected>) -> Explained {
    let (settings, catalog) = (state.settings.load(), state.catalog.load());
    let (sources, retired) = (state.intake.sources.load(), state.intake.retired.load());
    let explanation = Explainer {
        settings: &settings,
        catalog: &catalog,
        sources: &sources,
        retired: &retired,
    }
    .explain(rejected);
    let source = rejected
        .source
        .as_deref()
        .and_then(|name| sources.get(name));
    let is_secret = |name: &str| {
        source.is_some_and(|source| source.secret_headers.iter().any(|secret| secret == name))
    };
    let is_signature = |name: &str| {
        source.is_some_and(|source| {
            source
                .verifier
                .signature_headers()
                .any(|known| known == name)
        })
    };
    let headers = rejected.headers.iter().map(|(name, value)| {
        let secret = is_secret(name) || SECRET_NAMES.iter().any(|part| name.contains(part));
        let signature =
            is_signature(name) || SIGNATURE_NAMES.iter().any(|part| name.contains(part));
        (name.clone(), masked(value, secret, signature))
    });
    // A body that itself carries the credentials is not shown.
    let shows_body =
        source.is_none_or(|source| source.verifier.signature_headers().next().is_some());
    let prefix = rejected
        .body
        .as_ref()
        .filter(|_| shows_body)
        .map(|body| text_or_base64(body.prefix.to_vec()));
    let (body_prefix, body_prefix_base64) = prefix.unwrap_or_default();
    let check = |Finding {
                     check,
                     passed,
                     found,
                 }| Check {
        check: check.into(),
        passed,
        found,
    };
    Explained {
        rejection: summary(rejected),
        headers: headers.collect(),
        body_digest: rejected
            .body
            .as_ref()
            .map(|body| hex::encode(body.digest.0)),
        body_prefix,
        body_prefix_base64,
        checks: explanation.checks.into_iter().map(check).collect(),
        secrets: explanation.secrets,
        diagnoses: explanation.diagnoses,
    }
}

fn summary(rejected: &Rejected) -> Rejection {
    let at =
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(rejected.at_unix_ms) * 1_000_000).ok();
    Rejection {
        id: RejectionId(rejected.id),
        source: rejected.source.as_deref().map(str::to_owned),
        reason: rejected.reason.into(),
        detail: rejected.detail.clone(),
        method: rejected.method.clone(),
        target: without_values(&rejected.target),
        rejected_at: at.map(Into::into),
        body_bytes: rejected.body.as_ref().map(|body| body.bytes),
    }
}

fn masked(value: &[u8], is_secret: bool, is_signature: bool) -> String {
    let text: String = value.iter().map(|byte| char::from(*byte)).collect();
    if is_secret {
        return format!("*** ({} bytes)", value.len());
    }
    if is_signature && text.len() > SIGNATURE_CHARS_SHOWN {
        let shown: String = text.chars().take(SIGNATURE_CHARS_SHOWN).collect();
        return format!("{shown}… ({} bytes)", value.len());
    }
    text
}

/// The target with its query's names but without the values, since one may be a token.
fn without_values(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else {
        return target.to_owned();
    };
    let names: Vec<String> = query
        .split('&')
        .map(|pair| {
            pair.split_once('=')
                .map_or_else(|| "***".to_owned(), |(name, _)| format!("{name}=***"))
        })
        .collect();
    format!("{path}?{}", names.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_masked() {
        assert_eq!(masked(b"Bearer topsecret", true, false), "*** (16 bytes)");
        assert_eq!(
            masked(b"sha256=0123456789abcdef", false, true),
            "sha256=012345678… (23 bytes)"
        );
        assert_eq!(
            masked(b"application/json", false, false),
            "application/json"
        );
        assert_eq!(
            without_values("/hooks/x?token=topsecret&plain&a=b"),
            "/hooks/x?token=***&***&a=***"
        );
        assert_eq!(without_values("/hooks/x"), "/hooks/x");
    }
}
