//! Resolutions: what somebody found out about a step whose holder was lost.

use actix_web::web;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    contract::{Settled, StepEnd, StepOutcome, StepState},
    event::{GATEWAY_TENANT, digest_of},
    http::{
        answer::Exact,
        error::ApiError,
        ledger::{
            calls::{StepPath, settled},
            place::{TenantQuery, apart, in_force, of_step, place_of, tenant_of},
        },
        object::Object,
        tokens::Grant,
    },
    ledger::{Ledger, kept::KeptAnswer},
    store::ledger::{self, Resolution},
};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveBody {
    expected_fence: i64,
    outcome: StepOutcome,
    #[schemars(with = "Option<serde_json::Value>")]
    result: Option<Box<RawValue>>,
    #[schemars(with = "serde_json::Value")]
    evidence: Box<RawValue>,
}

pub async fn resolve(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    path: StepPath,
    query: web::Query<TenantQuery>,
    web::Json(Object(body)): web::Json<Object<ResolveBody>>,
) -> Result<Exact<Settled>, ApiError> {
    of_step(&path, None, async {
        let tenant = tenant_of(&grant, query.into_inner().tenant)?;
        let (run, place) = place_of(&tenant, &path)?;
        let keep_seconds = ledger.keep_seconds(&tenant, &run);
        let limit = ledger.settings.load().ledger.result_max.bytes();
        let resolution = resolution(body, keep_seconds, limit)?;
        if let (true, Some(result)) = (
            tenant.starts_with(GATEWAY_TENANT),
            resolution.result.as_deref(),
        ) {
            KeptAnswer::read(result).map_err(|error| {
                ApiError::MalformedBody(format!(
                    "result: of a gateway's key it is its answer: {error}"
                ))
            })?;
        }
        let (given, status) = (
            resolution.expected_fence,
            resolution.end.map_or(StepState::Released, StepState::from),
        );
        let (pool, at) = (ledger.pool.clone(), place.clone());
        let resolved = apart(async move { ledger::resolve(&pool, &at, &resolution).await });
        let resolved = in_force(resolved.await?, given, &path)?;
        ledger.waiters.wake(&place);
        let error = resolved
            .error
            .and_then(|error| RawValue::from_string(error).ok());
        Ok(Exact(Settled {
            error,
            ..settled(&path, resolved.claim_id, resolved.fence, status)
        }))
    })
    .await
}

fn resolution(body: ResolveBody, keep_seconds: f64, limit: usize) -> Result<Resolution, ApiError> {
    let ResolveBody {
        expected_fence,
        outcome,
        result,
        evidence,
    } = body;
    let evidence: String = Box::<str>::from(evidence).into();
    if matches!(evidence.as_str(), "null" | "\"\"" | "{}" | "[]") {
        return Err(ApiError::MalformedBody(
            "evidence: say how you know, so that others can see why the step was resolved".into(),
        ));
    }
    let end = match outcome {
        StepOutcome::Done => Some(StepEnd::Done),
        StepOutcome::Failed => Some(StepEnd::Failed),
        StepOutcome::NotExecuted if result.is_some() => {
            return Err(ApiError::MalformedBody(
                "a step that was not executed has no result".into(),
            ));
        }
        StepOutcome::NotExecuted => None,
    };
    let result = end.map(|_| {
        result.map_or_else(
            || "null".to_owned(),
            |result| Box::<str>::from(result).into(),
        )
    });
    for (what, text) in [
        ("result", result.as_deref().unwrap_or_default()),
        ("evidence", evidence.as_str()),
    ] {
        if text.len() > limit {
            return Err(ApiError::TooLarge {
                what,
                limit,
                size: Some(text.len()),
            });
        }
    }
    let digest = digest_of([
        "resolve",
        end.map_or("", StepEnd::as_str),
        result.as_deref().unwrap_or_default(),
        &evidence,
    ]);
    Ok(Resolution {
        expected_fence,
        end,
        result,
        evidence,
        digest,
        keep_seconds,
    })
}
