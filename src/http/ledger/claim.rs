//! Claims: who asks to execute a step, and what each outcome is answered with.

use std::{sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, Responder, body::BoxBody, web};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::place::{
    TenantQuery, claim_id_of, lease_seconds, maybe_name, name, of_step, place_of, tenant_of,
};
use crate::{
    contract::{EndedStep, Granted, OnLost},
    http::{
        answer::Answers, error::ApiError, ledger::calls::StepPath, object::Object, sketch::Sketch,
        tokens::Grant,
    },
    ids,
    ledger::Ledger,
    port::is_gone,
    store::ledger::{Claim, Claimed, NewClaim},
};

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
    let claim_id = body.claim_id.clone();
    of_step(&path, Some(&claim_id), async {
        let (claim, wait) = read(&ledger, &grant, &path, query.into_inner(), body)?;
        // A client that has gone while it waited must not get the step.
        let decided = ledger.claim(&claim, wait, || !is_gone(&request)).await?;
        answer(decided, &path, claim.claim_id)
    })
    .await
}

/// The claim, and how long it may wait.
fn read(
    ledger: &Ledger,
    grant: &Grant,
    path: &(String, String),
    query: TenantQuery,
    body: ClaimBody,
) -> Result<(NewClaim, Duration), ApiError> {
    let tenant = tenant_of(grant, query.tenant)?;
    let (run, place) = place_of(&tenant, path)?;
    name("claim_id", &body.claim_id)?;
    maybe_name("owner", body.owner.as_deref())?;
    maybe_name("input_hash", body.input_hash.as_deref())?;
    let claim = NewClaim {
        place,
        tenant,
        run,
        id: ids::new(),
        claim_id: body.claim_id,
        owner: body.owner,
        lease_seconds: lease_seconds(ledger, body.lease_ms)?,
        on_lost: body.on_lost,
        input_hash: body.input_hash,
        about: None,
    };
    Ok((
        claim,
        Duration::from_millis(body.wait_ms).min(ledger.wait_max()),
    ))
}

/// The answer to a claim that is not refused.
pub enum ClaimAnswer {
    Granted(Granted),
    Ended(EndedAnswer),
}

/// A step that has ended, and what the call named.
pub struct EndedAnswer {
    pub row: Arc<Claimed>,
    pub run: String,
    pub step: String,
    pub claim_id: Option<String>,
}

impl EndedAnswer {
    fn into_json(self) -> Result<String, serde_json::Error> {
        let raw = |text: &Option<String>| text.clone().map(RawValue::from_string).transpose();
        serde_json::to_string(&EndedStep {
            status: self.row.state,
            result: raw(&self.row.result)?.unwrap_or_default(),
            result_not_kept: raw(&self.row.result_not_kept)?,
            claim_id: self.claim_id,
            effect_key: self.row.id,
            ended_at: self.row.ended_at.map(Into::into),
            fence: self.row.fence,
            owner: self.row.owner.clone(),
            replayed_at: self.row.at.into(),
            run: self.run,
            step: self.step,
        })
    }
}

impl Responder for EndedAnswer {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        match self.into_json() {
            Ok(body) => HttpResponse::Ok()
                .content_type("application/json")
                .body(body),
            Err(error) => {
                tracing::error!(%error, "a kept result is no JSON");
                HttpResponse::InternalServerError().finish()
            }
        }
    }
}

impl Answers for EndedAnswer {
    fn describe(sketch: &mut Sketch<'_>) {
        sketch.answer::<EndedStep>(200);
    }
}

impl Responder for ClaimAnswer {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        match self {
            Self::Granted(granted) => HttpResponse::Created().json(granted),
            Self::Ended(ended) => ended.respond_to(request),
        }
    }
}

impl Answers for ClaimAnswer {
    fn describe(sketch: &mut Sketch<'_>) {
        sketch.answer::<Granted>(201);
        EndedAnswer::describe(sketch);
    }
}

fn answer(
    decided: Claim,
    (run, step): &(String, String),
    claim_id: String,
) -> Result<ClaimAnswer, ApiError> {
    let (run, step) = (run.clone(), step.clone());
    match decided {
        Claim::Granted(row) => Ok(ClaimAnswer::Granted(Granted {
            attempt: row.attempt,
            claim_id,
            effect_key: row.id,
            fence: row.fence,
            lease_until: row.lease_until.map(Into::into),
            run,
            step,
        })),
        Claim::Ended(row) => Ok(ClaimAnswer::Ended(EndedAnswer {
            row,
            run,
            step,
            claim_id: claim_id_of(claim_id),
        })),
        Claim::Running(row) => Err(ApiError::StepRunning {
            fence: row.fence,
            owner: row.owner.clone(),
            lease_left_seconds: row.lease_left.unwrap_or_default(),
        }),
        Claim::Unknown(row) => Err(ApiError::OutcomeUnknown(row)),
        Claim::InputChanged(_) => Err(ApiError::InputChanged),
        Claim::ClaimIdReused(row) => Err(ApiError::ClaimIdReused(row)),
    }
}
