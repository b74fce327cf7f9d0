//! The ledger at its limits: many who wait, and results of the largest size.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::*;

const WAITERS: usize = 2000;

async fn post(app: &TestApp, step: &str, action: &str, body: &Value) -> Said {
    let url = format!("{}/v1/runs/r/steps/{step}/{action}", app.admin);
    said(
        app.http
            .request(Method::POST, url)
            .bearer_auth(TOKEN)
            .json(body),
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_wait_without_a_connection_each() {
    let app = std::sync::Arc::new(spawn_app(&config(&[])).await);
    let granted = post(
        &app,
        "s",
        "claim",
        &json!({ "claim_id": "holder", "lease_ms": 600_000 }),
    )
    .await;
    assert_eq!(granted.status, 201);
    let waiting: Vec<_> = (0..WAITERS)
        .map(|number| {
            let app = app.clone();
            tokio::spawn(async move {
                post(
                    &app,
                    "s",
                    "claim",
                    &json!({ "claim_id": format!("w{number}"), "wait_ms": 60_000 }),
                )
                .await
            })
        })
        .collect();
    // One more is refused at once when all of them sit: it does not wait, and so tells that calls
    // get through.
    let refused = post(&app, "s", "claim", &json!({ "claim_id": "one more" })).await;
    assert_eq!(refused.status, 409);
    let connections = app
        .count("select count(*) from pg_stat_activity where datname = current_database()")
        .await;
    assert!(connections <= 40, "{connections} connections");
    assert_eq!(
        post(
            &app,
            "s",
            "complete",
            &json!({ "fence": 1, "result": "for all" })
        )
        .await
        .status,
        200
    );
    for waiter in waiting {
        let said = waiter.await.expect("a waiter");
        let replay = said.json();
        assert_eq!(
            (said.status, &replay["status"], &replay["result"]),
            (200, &json!("done"), &json!("for all"))
        );
    }
    let connections = app
        .count("select count(*) from pg_stat_activity where datname = current_database()")
        .await;
    assert!(connections <= 40, "{connections} connections");
    std::sync::Arc::into_inner(app)
        .expect("no one else")
        .stop()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_may_have_the_limit_and_not_a_byte_more() {
    let app = spawn_app(&(config(&[]) + "[ledger]\nresult_max = \"1KiB\"\n")).await;
    assert_eq!(
        post(&app, "s", "claim", &json!({ "claim_id": "a" }))
            .await
            .status,
        201
    );
    // With its two quotes.
    let result = |bytes: usize| Value::from("x".repeat(bytes - 2));
    let too_large = post(
        &app,
        "s",
        "complete",
        &json!({ "fence": 1, "result": result(1025) }),
    )
    .await;
    assert_eq!(
        (too_large.status, &too_large.json()["type"]),
        (413, &json!("urn:hookonce:problem:too-large"))
    );
    let too_large = post(
        &app,
        "s",
        "complete",
        &json!({ "fence": 1, "error": result(1025) }),
    )
    .await;
    assert_eq!(too_large.status, 413);
    assert_eq!(
        post(
            &app,
            "s",
            "complete",
            &json!({ "fence": 1, "result": result(1024) })
        )
        .await
        .status,
        200
    );
    let read = post(&app, "s", "claim", &json!({ "claim_id": "b" })).await;
    assert_eq!((read.status, &read.json()["result"]), (200, &result(1024)));
    app.stop().await;
}
