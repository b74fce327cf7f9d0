//! Bearer tokens: what each may do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Time, TokenId, named::named};

named! {
    /// What a token's holder may do. Each includes what is weaker: admin all, operate read and
    /// ledger.
    pub enum Scope {
        Read = "read",
        Operate = "operate",
        Admin = "admin",
        Ledger = "ledger",
    }
}

/// A token without the token itself.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    pub id: TokenId,
    pub scopes: Vec<Scope>,
    pub tenant: Option<String>,
    pub created_at: Time,
    pub revoked_at: Option<Time>,
}

/// What the token of the very call may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OwnToken {
    /// Those that its scopes include are listed too.
    pub scopes: Vec<Scope>,
    /// The owner of the steps and keys that it sees; null where it sees all.
    pub tenant: Option<String>,
}

/// A token that was made now, shown this once.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct NewToken {
    pub id: TokenId,
    pub scopes: Vec<Scope>,
    pub tenant: Option<String>,
    pub created_at: Time,
    pub revoked_at: Option<Time>,
    pub token: String,
}
