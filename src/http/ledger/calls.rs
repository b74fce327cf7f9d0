//! The calls that change a step: claim, heartbeat, complete, release, resolve.

use std::{sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, Responder, body::BoxBody, web};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    contract::{EndedStep, Extended, Granted, OnLost, Settled, StepEnd, StepState},
    event::{GATEWAY_TENANT, digest_of},
    http::{
        answer::{Answers, Exact},
        error::ApiError,
        ledger::{
            emit::{self, EmitBody},
            place::{TenantQuery, apart, lease_seconds, name, place_of, tenant_of},
        },
        object::Object,
        sketch::Sketch,
        tokens::Grant,
    },
    ids,
    ledger::{Ledger, kept::KeptAnswer},
    port::is_gone,
    store::ledger::{self, Claim, Claimed, Completion, Fenced, NewClaim, Resolution, StepAddress},
};

const LEASE_MS: u64 = 30_000;

type StepPath = web::Path<(String, String)>;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimBody {
    claim_id: String,
    owner: Option<String>,
    lease_ms: Option<u64>,
    input_hash: Option<String>,
    #[serde(default)]
    on_lost: OnLost,
    #[serde(default)]
    wait_ms: u64,
}

pub async fn claim(
    request: HttpRequest,
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    path: StepPath,
    query: web::Query<TenantQuery>,
    web::Json(Object(body)): web::Json<Object<ClaimBody>>,
) -> Result<ClaimAnswer, ApiError> {
    let tenant = tenant_of(&grant, query.into_inner().tenant)?;
    let (run, place) = place_of(&tenant, &path)?;
    name("claim_id", &body.claim_id)?;
    body.owner
        .as_deref()
        .map(|owner| name("owner", owner))
        .transpose()?;
    body.input_hash
        .as_deref()
        .map(|hash| name("input_hash", hash))
        .transpose()?;
    let claim = NewClaim {
        place,
        tenant,
        run,
        id: ids::new(),
        claim_id: body.claim_id,
        owner: body.owner,
        lease_seconds: lease_seconds(&ledger, body.lease_ms.unwrap_or(LEASE_MS))?,
        on_lost: body.on_lost,
        input_hash: body.input_hash,
    };
    let wait = Duration::from_millis(body.wait_ms).min(ledger.settings.load().ledger.wait_max.0);
    // A client that has gone while it waited must not get the step.
    claim_answer(ledger.claim(&claim, wait, || !is_gone(&request)).await?)
}

/// The answer to a claim that is not refused.
pub enum ClaimAnswer {
    Granted(Granted),
    Ended(Arc<Claimed>),
}

impl Responder for ClaimAnswer {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        match self {
            Self::Granted(granted) => HttpResponse::Created().json(granted),
            // This is an `EndedStep`, written by hand so that its result stays as it is, byte for
            // byte, without being parsed.
            Self::Ended(row) => {
                let result = row.result.as_deref().unwrap_or("null");
                let body = format!(r#"{{"status":"{}","result":{result}}}"#, row.state);
                HttpResponse::Ok()
                    .content_type("application/json")
                    .body(body)
            }
        }
    }
}

impl Answers for ClaimAnswer {
    fn describe(sketch: &mut Sketch<'_>) {
        sketch.answer::<Granted>(201);
        sketch.answer::<EndedStep>(200);
    }
}

fn claim_answer(claim: Claim) -> Result<ClaimAnswer, ApiError> {
    match claim {
        Claim::Granted(row) => Ok(ClaimAnswer::Granted(Granted {
            attempt: row.attempt,
            effect_key: row.id,
            fence: row.fence,
            lease_until: row.lease_until.map(Into::into),
        })),
        Claim::Ended(row) => Ok(ClaimAnswer::Ended(row)),
        Claim::Running(row) => Err(ApiError::StepRunning {
            fence: row.fence,
            owner: row.owner.clone(),
            lease_left_seconds: row.lease_left.unwrap_or_default(),
        }),
        Claim::Unknown(row) => Err(ApiError::OutcomeUnknown(row.fence)),
        Claim::InputChanged(_) => Err(ApiError::InputChanged),
    }
}

/// The value, or the refusal if the fence was not in force.
fn in_force<T>(fenced: Fenced<T>, given: i64, path: &(String, String)) -> Result<T, ApiError> {
    match fenced {
        Fenced::Done(value) => Ok(value),
        Fenced::Stale(fence, state) => Err(ApiError::StaleFence {
            given,
            fence,
            state,
        }),
        Fenced::Missing => Err(ApiError::NotFound(format!(
            "run {:?} has no step {:?}",
            path.0, path.1
        ))),
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatBody {
    fence: i64,
    lease_ms: Option<u64>,
}

pub async fn heartbeat(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    path: StepPath,
    query: web::Query<TenantQuery>,
    web::Json(Object(body)): web::Json<Object<HeartbeatBody>>,
) -> Result<Exact<Extended>, ApiError> {
    let (_, place) = place_of(&tenant_of(&grant, query.into_inner().tenant)?, &path)?;
    let (fence, lease) = (
        body.fence,
        lease_seconds(&ledger, body.lease_ms.unwrap_or(LEASE_MS))?,
    );
    let pool = ledger.pool.clone();
    let until = in_force(
        apart(async move { ledger::heartbeat(&pool, &place, fence, lease).await }).await?,
        fence,
        &path,
    )?;
    Ok(Exact(Extended {
        fence,
        lease_until: until.into(),
    }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompleteBody {
    fence: i64,
    #[schemars(with = "Option<serde_json::Value>")]
    result: Option<Box<RawValue>>,
    #[schemars(with = "Option<serde_json::Value>")]
    error: Option<Box<RawValue>>,
    #[serde(default)]
    #[schemars(with = "Vec<EmitBody>")]
    emit: Vec<Object<EmitBody>>,
}

/// How the step ended, and the JSON of its result or error.
fn end_of(
    result: Option<Box<RawValue>>,
    error: Option<Box<RawValue>>,
) -> Result<(StepEnd, String), ApiError> {
    match (result, error) {
        (Some(_), Some(_)) => Err(ApiError::MalformedBody(
            "a step has a result or an error, not both".into(),
        )),
        (None, Some(error)) => Ok((StepEnd::Failed, Box::<str>::from(error).into())),
        (result, None) => Ok((
            StepEnd::Done,
            result.map_or_else(
                || "null".to_owned(),
                |result| Box::<str>::from(result).into(),
            ),
        )),
    }
}

pub async fn complete(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    path: StepPath,
    query: web::Query<TenantQuery>,
    web::Json(Object(body)): web::Json<Object<CompleteBody>>,
) -> Result<Exact<Settled>, ApiError> {
    let tenant = tenant_of(&grant, query.into_inner().tenant)?;
    let (run, place) = place_of(&tenant, &path)?;
    let CompleteBody {
        fence,
        result,
        error,
        emit,
    } = body;
    let emit: Vec<EmitBody> = emit.into_iter().map(|Object(event)| event).collect();
    let (end, result) = end_of(result, error)?;
    if result.len() > ledger.settings.load().ledger.result_max.bytes() {
        return Err(ApiError::TooLarge);
    }
    let digest = emit
        .iter()
        .fold(digest_of([end.as_str(), &result]), |digest, event| {
            event.digest_after(&digest)
        });
    let emit = emit::events(
        &ledger.settings.load(),
        &grant,
        &tenant,
        &run,
        &place.step,
        emit,
    )?;
    let is_relayed = emit.iter().any(|event| !event.deliveries.is_empty());
    let keep_seconds = ledger.keep_seconds(&tenant, &run);
    let completion = Completion {
        place: place.clone(),
        fence,
        end,
        result,
        digest,
        keep_seconds,
        emit,
    };
    in_force(ledger.complete(completion).await?, fence, &path)?;
    if is_relayed {
        ledger.hint.notify_one();
    }
    Ok(Exact(Settled {
        fence,
        status: end.into(),
    }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseBody {
    fence: i64,
}

pub async fn release(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    path: StepPath,
    query: web::Query<TenantQuery>,
    web::Json(Object(body)): web::Json<Object<ReleaseBody>>,
) -> Result<Exact<Settled>, ApiError> {
    let tenant = tenant_of(&grant, query.into_inner().tenant)?;
    let (run, place) = place_of(&tenant, &path)?;
    let (fence, keep) = (body.fence, ledger.keep_seconds(&tenant, &run));
    let (pool, at) = (ledger.pool.clone(), place.clone());
    in_force(
        apart(async move { ledger::release(&pool, &at, fence, keep, false).await }).await?,
        fence,
        &path,
    )?;
    ledger.waiters.wake(&place);
    Ok(Exact(Settled {
        fence,
        status: StepState::Released,
    }))
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Done,
    Failed,
    NotExecuted,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveBody {
    expected_fence: i64,
    outcome: Outcome,
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
    let tenant = tenant_of(&grant, query.into_inner().tenant)?;
    let (run, place) = place_of(&tenant, &path)?;
    let keep_seconds = ledger.keep_seconds(&tenant, &run);
    let is_answer = tenant.starts_with(GATEWAY_TENANT);
    let resolution = resolution(
        body,
        keep_seconds,
        ledger.settings.load().ledger.result_max.bytes(),
    )?;
    if let (true, Some(result)) = (is_answer, resolution.result.as_deref()) {
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
    let fence = resolve_at(&ledger, &place, resolution, &path, given).await?;
    ledger.waiters.wake(&place);
    Ok(Exact(Settled { fence, status }))
}

fn resolution(
    body: ResolveBody,
    keep_seconds: f64,
    result_bytes_max: usize,
) -> Result<Resolution, ApiError> {
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
        Outcome::Done => Some(StepEnd::Done),
        Outcome::Failed => Some(StepEnd::Failed),
        Outcome::NotExecuted if result.is_some() => {
            return Err(ApiError::MalformedBody(
                "a step that was not executed has no result".into(),
            ));
        }
        Outcome::NotExecuted => None,
    };
    let result = end.map(|_| {
        result.map_or_else(
            || "null".to_owned(),
            |result| Box::<str>::from(result).into(),
        )
    });
    if result
        .as_deref()
        .unwrap_or_default()
        .len()
        .max(evidence.len())
        > result_bytes_max
    {
        return Err(ApiError::TooLarge);
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

async fn resolve_at(
    ledger: &Ledger,
    place: &StepAddress,
    resolution: Resolution,
    path: &(String, String),
    given: i64,
) -> Result<i64, ApiError> {
    let (pool, place) = (ledger.pool.clone(), place.clone());
    in_force(
        apart(async move { ledger::resolve(&pool, &place, &resolution).await }).await?,
        given,
        path,
    )
}
