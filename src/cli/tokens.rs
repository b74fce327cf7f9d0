//! `tokens`: create, list, revoke.

use clap::{Subcommand, ValueEnum};
use serde_json::json;
use uuid::Uuid;

use super::{
    Exit, Globals,
    client::Client,
    output::{self, Column},
};

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
    Revoke { id: Uuid },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Scope {
    /// Look at everything
    Read,
    /// And retry, replay, pause, cancel; the ledger too
    Operate,
    /// And prune, and manage tokens
    Admin,
    /// Claim and complete steps, dedup; nothing else
    Ledger,
}

const COLUMNS: [Column; 5] =
    [("TOKEN", "id"), ("SCOPES", "scopes"), ("TENANT", "tenant"), ("CREATED", "created_at"), ("REVOKED", "revoked_at")];

pub async fn run(globals: &Globals, command: Command) -> anyhow::Result<Exit> {
    let client = Client::find(globals)?;
    match command {
        Command::Create { scope, tenant } => {
            let scopes: Vec<_> = scope.iter().filter_map(|scope| Some(scope.to_possible_value()?.get_name().to_owned())).collect();
            let answer = client.post("/api/v1/tokens", Some(&json!({ "scopes": scopes, "tenant": tenant }))).await?;
            globals.note(&format!("token {}: keep it now, it is not shown again", answer["id"].as_str().unwrap_or_default()));
            output::one(globals, &answer, |answer| answer["token"].as_str().unwrap_or_default().to_owned())?;
        }
        Command::List { limit } => output::list(globals, &client.list("/api/v1/tokens", &[], limit).await?, &COLUMNS)?,
        Command::Revoke { id } => {
            let answer = client.post(&format!("/api/v1/tokens/{id}/revoke"), None).await?;
            output::one(globals, &answer, |_| format!("token {id} is revoked"))?;
        }
    }
    Ok(Exit::Done)
}
