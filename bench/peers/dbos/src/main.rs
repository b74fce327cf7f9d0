//! A DBOS workflow of one step behind an HTTP handler, the request's idempotency key as its id, as
//! DBOS' own documents have it: the same key again joins the workflow or gives what it returned.
//! Settings by environment: PORT and DBOS_DATABASE_URL.

use axum::{
    Json, Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use dbos::{Config, DBOS, RunOptions, WorkflowRef, step};
use serde_json::{Value, json};

/// More than DBOS' default of 10: at that, 64 callers wait for a connection.
const CONNECTIONS_MAX: u32 = 32;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::var("PORT")?.parse()?;
    let config = Config { app_version: Some("1".to_owned()), max_connections: CONNECTIONS_MAX, ..Config::from_env("bench") };
    let dbos = DBOS::new(config);
    let charge: WorkflowRef<String, String> = dbos.register_workflow("charge", |id: String| async move {
        step("charge", move || {
            let id = id.clone();
            async move { dbos::Result::Ok(id) }
        })
        .await
    })?;
    dbos.launch().await?;
    let receive = async move |headers: HeaderMap, body: Bytes| {
        let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).ok_or(StatusCode::BAD_REQUEST)?;
        let event: Value = serde_json::from_slice(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
        let id = event["id"].as_str().unwrap_or_default().to_owned();
        match charge.run_with(id, RunOptions { workflow_id: Some(key), ..RunOptions::default() }).await {
            Ok(id) => Ok(Json(json!({ "id": id }))),
            Err(error) => {
                eprintln!("{error}");
                Err(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, Router::new().route("/{*path}", post(receive))).await?;
    Ok(())
}
