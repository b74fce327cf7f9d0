//! Completions: the result of a step, or its error, or why there is none, with the events that it
//! emits.

use actix_web::web;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    contract::{ResultNotKept, Settled, StepEnd},
    event::digest_of,
    http::{
        answer::Exact,
        error::ApiError,
        ledger::{
            calls::{StepPath, settled},
            emit::{self, EmitBody},
            place::{TenantQuery, in_force, maybe_name, of_step, place_of, tenant_of},
        },
        object::Object,
        tokens::Grant,
    },
    ledger::Ledger,
    store::ledger::Completion,
};

const DETAIL_CHARS_MAX: usize = 1000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompleteBody {
    fence: i64,
    #[schemars(with = "Option<serde_json::Value>")]
    result: Option<Box<RawValue>>,
    #[schemars(with = "Option<serde_json::Value>")]
    error: Option<Box<RawValue>>,
    /// In place of a result: the step was executed, and its result can't be kept.
    #[schemars(with = "Option<ResultNotKept>")]
    result_not_kept: Option<Object<ResultNotKept>>,
    #[serde(default)]
    #[schemars(with = "Vec<EmitBody>")]
    emit: Vec<Box<RawValue>>,
    /// Refusals name it.
    claim_id: Option<String>,
}

/// How a step ended.
struct End {
    end: StepEnd,
    /// The JSON of its result or error.
    result: String,
    /// JSON.
    not_kept: Option<String>,
}

impl End {
    fn of(
        result: Option<Box<RawValue>>,
        error: Option<Box<RawValue>>,
        not_kept: Option<ResultNotKept>,
    ) -> Result<Self, ApiError> {
        let text = |json: Option<Box<RawValue>>| {
            json.map_or_else(|| "null".to_owned(), |json| Box::<str>::from(json).into())
        };
        let (end, result) = match (result, error, &not_kept) {
            (result, None, None) => (StepEnd::Done, text(result)),
            (None, error @ Some(_), None) => (StepEnd::Failed, text(error)),
            (None, None, Some(_)) => (StepEnd::Done, text(None)),
            _ => {
                let message = "a step has one of result, error and result_not_kept";
                return Err(ApiError::MalformedBody(message.into()));
            }
        };
        Ok(Self {
            end,
            result,
            not_kept: not_kept.as_ref().map(not_kept_text).transpose()?,
        })
    }
}

fn not_kept_text(not_kept: &ResultNotKept) -> Result<String, ApiError> {
    let detail = not_kept.detail.as_deref().unwrap_or_default();
    if detail.chars().count() > DETAIL_CHARS_MAX || detail.contains('\0') {
        return Err(ApiError::InvalidParameter(format!(
            "result_not_kept.detail: at most {DETAIL_CHARS_MAX} characters, none of them U+0000"
        )));
    }
    serde_json::to_string(not_kept).map_err(|error| ApiError::MalformedBody(error.to_string()))
}

pub async fn complete(
    ledger: web::Data<Ledger>,
    grant: web::ReqData<Grant>,
    path: StepPath,
    query: web::Query<TenantQuery>,
    web::Json(Object(body)): web::Json<Object<CompleteBody>>,
) -> Result<Exact<Settled>, ApiError> {
    let claim_id = body.claim_id.clone();
    of_step(&path, claim_id.as_deref(), async {
        maybe_name("claim_id", claim_id.as_deref())?;
        let fence = body.fence;
        let completion = read(&ledger, &grant, &path, query.into_inner(), body)?;
        let end = completion.end;
        let is_relayed = completion
            .emit
            .iter()
            .any(|event| !event.deliveries.is_empty());
        let claim_id = in_force(ledger.complete(completion).await?, fence, &path)?;
        if is_relayed {
            ledger.hint.notify_one();
        }
        Ok(Exact(settled(&path, claim_id, fence, end.into())))
    })
    .await
}

fn read(
    ledger: &Ledger,
    grant: &Grant,
    path: &(String, String),
    query: TenantQuery,
    body: CompleteBody,
) -> Result<Completion, ApiError> {
    let tenant = tenant_of(grant, query.tenant)?;
    let (run, place) = place_of(&tenant, path)?;
    let not_kept = body.result_not_kept.map(|Object(not_kept)| not_kept);
    let is_error = body.error.is_some();
    let End {
        end,
        result,
        not_kept,
    } = End::of(body.result, body.error, not_kept)?;
    let settings = ledger.settings.load();
    let limit = settings.ledger.result_max.bytes();
    if result.len() > limit {
        return Err(ApiError::TooLarge {
            what: if is_error { "error" } else { "result" },
            limit,
            size: Some(result.len()),
        });
    }
    let emit = emit::read(body.emit)?;
    let parts = [end.as_str(), &result]
        .into_iter()
        .chain(not_kept.as_deref());
    let digest = emit.iter().fold(digest_of(parts), |digest, event| {
        event.digest_after(&digest)
    });
    let emit = emit::events(&settings, grant, &tenant, &run, &place.step, emit)?;
    Ok(Completion {
        keep_seconds: ledger.keep_seconds(&tenant, &run),
        place,
        fence: body.fence,
        end,
        result,
        result_not_kept: not_kept,
        digest,
        emit,
    })
}
