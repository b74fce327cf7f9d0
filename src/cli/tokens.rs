//! `tokens`: create, list, revoke.

use clap::Subcommand;
use serde_json::json;

use super::{
    Exit, Globals,
    client::Client,
    output::{self, Column, columns},
};
use crate::contract::{NewToken, Scope, Token, TokenId};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a token and show it, this once
    Create {
        /// What its holder may do; several together
        #[arg(long, value_enum, required = true)]
        scope: Vec<Scope>,
        /// Whose steps and dedup keys it is for; with the scope ledger alone
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Newest first, without the tokens themselves
    List {
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// End its use: everywhere within seconds
    Revoke { id: TokenId },
}

const COLUMNS: [Column<Token>; 5] = columns!(
    Token;
    "TOKEN" => id,
    "SCOPES" => scopes,
    "TENANT" => tenant,
    "CREATED" => created_at,
    "REVOKED" => revoked_at,
);

pub async fn run(globals: &Globals, command: Command) -> anyhow::Result<Exit> {
    let client = Client::find(globals)?;
    match command {
        Command::Create { scope, tenant } => {
            let answer: NewToken = client
                .post(
                    "/api/v1/tokens",
                    Some(&json!({ "scopes": scope, "tenant": tenant })),
                )
                .await?;
            globals.note(&format!(
                "token {}: keep it now, it is not shown again",
                answer.id
            ));
            output::one(globals, &answer, |answer| answer.token.clone())?;
        }
        Command::List { limit } => output::list(
            globals,
            &client.list("/api/v1/tokens", &[], limit).await?,
            &COLUMNS,
        )?,
        Command::Revoke { id } => {
            let answer: Token = client
                .post(&format!("/api/v1/tokens/{id}/revoke"), None)
                .await?;
            output::one(globals, &answer, |_| format!("token {id} is revoked"))?;
        }
    }
    Ok(Exit::Done)
}
