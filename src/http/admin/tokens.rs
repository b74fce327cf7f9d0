//! Tokens: create, list, revoke. A token is shown in the answer that makes it and never again.

use actix_web::{HttpResponse, web};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::{
    event::GATEWAY_TENANT,
    http::{
        admin::parameters::{PageQuery, next, page_rows},
        error::ApiError,
        object::Object,
        state::AdminState,
        tokens,
    },
    ids,
    store::token,
};

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Scope {
    Read,
    Operate,
    Admin,
    Ledger,
}

impl Scope {
    fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
            Self::Ledger => "ledger",
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateBody {
    scopes: Vec<Scope>,
    tenant: Option<String>,
}

pub async fn create(
    state: web::Data<AdminState>,
    web::Json(Object(body)): web::Json<Object<CreateBody>>,
) -> Result<HttpResponse, ApiError> {
    let CreateBody { scopes, tenant } = body;
    let mut scopes: Vec<String> = scopes.into_iter().map(|scope| scope.as_str().to_owned()).collect();
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() {
        return Err(ApiError::InvalidParameter("scopes: at least one of read, operate, admin, ledger".into()));
    }
    if let Some(tenant) = &tenant {
        if tenant.is_empty() || tenant.len() > 255 || tenant.chars().any(char::is_control) {
            return Err(ApiError::InvalidParameter("tenant: 1 to 255 bytes without control characters".into()));
        }
        if tenant.starts_with(GATEWAY_TENANT) {
            return Err(ApiError::InvalidParameter(format!("tenant: {GATEWAY_TENANT}… are the keys of gateways")));
        }
        if scopes != ["ledger"] {
            return Err(ApiError::InvalidParameter(
                "tenant: only steps and dedup keys are kept by tenant, so its token has the scope ledger and no other".into(),
            ));
        }
    }
    let secret = tokens::generate();
    let id = ids::new();
    let row = token::create(&state.pool, id, &tokens::digest(&secret), &scopes, tenant.as_deref()).await?;
    let mut answer = json!(row);
    answer["token"] = secret.into();
    Ok(HttpResponse::Created().json(answer))
}

pub async fn list(state: web::Data<AdminState>, query: web::Query<PageQuery>) -> Result<HttpResponse, ApiError> {
    let limit = page_rows(query.limit)?;
    let rows = token::list(&state.pool, query.cursor, limit).await?;
    let next = next(&rows, limit, |row| row.id);
    Ok(HttpResponse::Ok().json(json!({ "items": rows, "next": next })))
}

pub async fn revoke(state: web::Data<AdminState>, id: web::Path<Uuid>) -> Result<HttpResponse, ApiError> {
    let revoked = token::revoke(&state.pool, *id).await?;
    state.tokens.forget();
    match revoked {
        Some(row) => Ok(HttpResponse::Ok().json(row)),
        None => Err(ApiError::NotFound(format!("there is no token {id}"))),
    }
}
