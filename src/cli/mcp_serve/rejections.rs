//! Tools about rejections: list them, and why one was refused.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    arguments::{ExplainRejection, ListRejections, Within},
    events::shortened,
    session::{Reporter, Session},
};
use crate::contract::{Explained, Rejections};

const DEFAULT_ROWS: u32 = 20;

pub async fn list(
    session: Arc<Session>,
    asked: ListRejections,
    _: Reporter,
) -> anyhow::Result<Value> {
    let query = [
        ("source", asked.source),
        ("reason", asked.reason),
        ("since", asked.since),
        ("until", asked.until),
        (
            "limit",
            Some(Within::or(asked.limit, DEFAULT_ROWS).to_string()),
        ),
    ];
    let found: Rejections = session.client()?.ask("/api/v1/rejections", &query).await?;
    Ok(json!({ "rejections": found.items, "counts": found.counts }))
}

pub async fn explain(
    session: Arc<Session>,
    asked: ExplainRejection,
    _: Reporter,
) -> anyhow::Result<Value> {
    let path = format!("/api/v1/rejections/{}/explain", asked.id);
    let mut explained: Explained = session.client()?.get(&path).await?;
    let shown = Within::or(asked.body_bytes, 0);
    explained.body_prefix = shortened(explained.body_prefix, shown);
    explained.body_prefix_base64 = shortened(explained.body_prefix_base64, shown);
    let mut whole = serde_json::to_value(&explained)?;
    if !asked.headers
        && let Some(members) = whole.as_object_mut()
    {
        members.remove("headers");
    }
    Ok(json!({ "rejection": whole }))
}
