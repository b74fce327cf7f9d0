//! Tokens: create, list, revoke. A token is shown only in the answer that makes it.

use actix_web::web;
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    contract::{NewToken, OwnToken, Page, Scope, Token},
    event::GATEWAY_TENANT,
    http::{
        admin::parameters::{PageQuery, next, page_rows},
        answer::{Answer, Created, Exact},
        error::ApiError,
        object::Object,
        state::AdminState,
        tokens::{self, Grant},
    },
    ids,
    store::token::{self, TokenRow},
};

impl From<TokenRow> for Token {
    fn from(row: TokenRow) -> Self {
        Self {
            id: row.id,
            scopes: row
                .scopes
                .iter()
                .filter_map(|scope| Scope::parse(scope))
                .collect(),
            tenant: row.tenant,
            created_at: row.created_at.into(),
            revoked_at: row.revoked_at.map(Into::into),
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
) -> Result<Created<NewToken>, ApiError> {
    let CreateBody { scopes, tenant } = body;
    let mut scopes: Vec<String> = scopes
        .into_iter()
        .map(|scope| scope.as_str().to_owned())
        .collect();
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() {
        return Err(ApiError::InvalidParameter(
            "scopes: at least one of read, operate, admin, ledger".into(),
        ));
    }
    if let Some(tenant) = &tenant {
        if tenant.is_empty() || tenant.len() > 255 || tenant.chars().any(char::is_control) {
            return Err(ApiError::InvalidParameter(
                "tenant: 1 to 255 bytes without control characters".into(),
            ));
        }
        if tenant.starts_with(GATEWAY_TENANT) {
            return Err(ApiError::InvalidParameter(format!(
                "tenant: {GATEWAY_TENANT}… are the keys of gateways"
            )));
        }
        if scopes != ["ledger"] {
            return Err(ApiError::InvalidParameter(
                "tenant: only steps and dedup keys are kept by tenant, so its token has the scope ledger and no other".into(),
            ));
        }
    }
    let secret = tokens::generate();
    let id = ids::new();
    let row = token::create(
        &state.pool,
        id,
        &tokens::digest(&secret),
        &scopes,
        tenant.as_deref(),
    )
    .await?;
    let Token {
        id,
        scopes,
        tenant,
        created_at,
        revoked_at,
    } = row.into();
    Ok(Created(NewToken {
        id,
        scopes,
        tenant,
        created_at,
        revoked_at,
        token: secret,
    }))
}

pub async fn own(grant: web::ReqData<Grant>) -> Answer<OwnToken> {
    let held = [
        (grant.read, Scope::Read),
        (grant.operate, Scope::Operate),
        (grant.admin, Scope::Admin),
        (grant.ledger, Scope::Ledger),
    ];
    Answer(OwnToken {
        scopes: held
            .into_iter()
            .filter_map(|(held, scope)| held.then_some(scope))
            .collect(),
        tenant: grant.tenant.as_deref().map(str::to_owned),
    })
}

pub async fn list(
    state: web::Data<AdminState>,
    query: web::Query<PageQuery>,
) -> Result<Answer<Page<Token>>, ApiError> {
    let limit = page_rows(query.limit)?;
    let rows = token::list(&state.pool, query.cursor, limit).await?;
    let next = next(&rows, limit, |row| row.id.0);
    Ok(Answer(Page {
        items: rows.into_iter().map(Token::from).collect(),
        next,
    }))
}

pub async fn revoke(
    state: web::Data<AdminState>,
    id: web::Path<Uuid>,
) -> Result<Exact<Token>, ApiError> {
    let revoked = token::revoke(&state.pool, *id).await?;
    state.tokens.forget();
    match revoked {
        Some(row) => Ok(Exact(row.into())),
        None => Err(ApiError::NotFound(format!("there is no token {id}"))),
    }
}
