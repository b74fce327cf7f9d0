//! What the ledger answers, recorded: steps in each state, and dedup.

use serde_json::{Value, json};

use crate::{app::*, recorded::Recorded};

fn claim(id: &str) -> Value {
    json!({ "claim_id": id, "owner": format!("worker {id}"), "lease_ms": 60_000, "input_hash": "h" })
}

fn short(on_lost: &str) -> Value {
    json!({ "claim_id": "a", "lease_ms": 1, "on_lost": on_lost })
}

const STEPS: &str = "/v1/runs/r/steps";

/// Claims, changes and reads a step in each of its states.
async fn through_its_states(record: &mut Recorded, app: &TestApp) {
    let calls = [
        ("s", "claim", claim("a")),
        ("s", "claim", claim("a")),
        ("s", "claim", claim("b")),
        (
            "s",
            "claim",
            json!({ "claim_id": "c", "input_hash": "other" }),
        ),
        ("s", "heartbeat", json!({ "fence": 1, "lease_ms": 60_000 })),
        ("s", "heartbeat", json!({ "fence": 2 })),
        ("s", "complete", json!({ "fence": 2 })),
        (
            "s",
            "complete",
            json!({ "fence": 1, "result": { "b": 1, "a": [null] }, "emit": [{ "type": "t", "data": {} }] }),
        ),
        ("s", "complete", json!({ "fence": 1, "result": 2 })),
        ("s", "claim", claim("b")),
        ("failed", "claim", claim("a")),
        ("failed", "complete", json!({ "fence": 1, "error": "no" })),
        ("failed", "claim", claim("a")),
        ("released", "claim", claim("a")),
        ("released", "release", json!({ "fence": 2 })),
        ("released", "release", json!({ "fence": 1 })),
        ("none", "claim", claim("a")),
        ("none", "complete", json!({ "fence": 1 })),
        ("none", "claim", claim("a")),
        ("unknown", "claim", short("hold")),
        ("lost", "claim", short("retry")),
        ("running", "claim", claim("a")),
    ];
    for (step, action, body) in calls {
        let answer = record
            .post(app, &format!("{STEPS}/{step}/{action}"), Some(body))
            .await;
        if let Some(key) = answer["effect_key"].as_str() {
            record.call(key, &format!("effect key of {step}"));
        }
    }
    app.until("select count(*) from step where lease_until < now()", 2)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps() {
    let app = spawn_app(&config(&[])).await;
    let mut record = Recorded::new("steps");
    record.get(&app, STEPS).await;
    record.get(&app, "/api/v1/steps").await;
    through_its_states(&mut record, &app).await;
    for step in [
        "s", "failed", "released", "none", "unknown", "lost", "running", "nothing",
    ] {
        record.get(&app, &format!("{STEPS}/{step}")).await;
    }
    let run = record.get(&app, &format!("{STEPS}?limit=2")).await;
    record
        .get(
            &app,
            &format!(
                "{STEPS}?limit=9&cursor={}",
                run["next"].as_str().expect("a cursor")
            ),
        )
        .await;
    record.get(&app, "/api/v1/steps").await;
    record.get(&app, "/api/v1/steps?limit=2").await;
    for status in ["running", "unknown", "released", "done", "failed"] {
        record
            .get(
                &app,
                &format!("/api/v1/steps?status={status}&since=1h&run=r"),
            )
            .await;
    }
    let resolve = |step: &str| format!("{STEPS}/{step}/resolve");
    let evidence = json!({ "seen": "by hand" });
    for (step, body) in [
        ("unknown", claim("b")),
        (
            "unknown",
            json!({ "expected_fence": 2, "outcome": "done", "evidence": evidence }),
        ),
        (
            "unknown",
            json!({ "expected_fence": 1, "outcome": "done", "result": [1], "evidence": evidence }),
        ),
        (
            "lost",
            json!({ "expected_fence": 1, "outcome": "not-executed", "evidence": "x" }),
        ),
        (
            "nothing",
            json!({ "expected_fence": 1, "outcome": "failed", "evidence": "x" }),
        ),
        (
            "lost",
            json!({ "expected_fence": 1, "outcome": "not-executed", "result": 1, "evidence": "x" }),
        ),
        (
            "lost",
            json!({ "expected_fence": 1, "outcome": "done", "evidence": {} }),
        ),
        (
            "lost",
            json!({ "expected_fence": 1, "outcome": "maybe", "evidence": "x" }),
        ),
    ] {
        let action = if body["claim_id"].is_string() {
            format!("{STEPS}/{step}/claim")
        } else {
            resolve(step)
        };
        record.post(&app, &action, Some(body)).await;
    }
    for step in ["unknown", "lost"] {
        record.get(&app, &format!("{STEPS}/{step}")).await;
    }
    app.stop().await;
    record.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_ledger_refuses_and_tenants() {
    let app = spawn_app(&config(&[])).await;
    let mut record = Recorded::new("steps_refused");
    let body = json!({ "scopes": ["ledger"], "tenant": "t" });
    let made = app
        .api(reqwest::Method::POST, "/tokens", Some(body))
        .await
        .json();
    let tenants = made["token"].as_str().expect("a token").to_owned();
    let url = format!("{}{STEPS}", app.admin);
    record
        .send(
            app.http
                .post(format!("{url}/s/claim"))
                .bearer_auth(&tenants)
                .json(&claim("a")),
        )
        .await;
    record
        .send(
            app.http
                .get(&url)
                .bearer_auth(&tenants)
                .query(&[("tenant", "u")]),
        )
        .await;
    let emit = json!({ "fence": 1, "emit": [{ "source": "stripe", "data": 1 }] });
    record
        .send(
            app.http
                .post(format!("{url}/s/complete"))
                .bearer_auth(&tenants)
                .json(&emit),
        )
        .await;
    record.get(&app, &format!("{STEPS}?tenant=t")).await;
    record.get(&app, "/api/v1/steps?tenant=t").await;
    let long = "a".repeat(256);
    for (path, body) in [
        ("s/claim", json!({})),
        ("s/claim", json!([])),
        ("s/claim", json!({ "claim_id": long })),
        ("s/claim", json!({ "claim_id": "a", "lease_ms": 0 })),
        ("s/claim", json!({ "claim_id": "a", "on_lost": "what" })),
        ("s/complete", json!({ "fence": 1, "result": 1, "error": 2 })),
        (
            "s/complete",
            json!({ "fence": 1, "emit": [{ "source": "nobody", "data": 1 }] }),
        ),
        (
            "s/complete",
            json!({ "fence": 1, "emit": [{ "key": "", "data": 1 }] }),
        ),
        (
            "s/complete",
            json!({ "fence": 1, "result": "x".repeat(1 << 20) }),
        ),
        ("s/release", json!({ "fence": 1 })),
        ("s/heartbeat", json!({ "fence": "1" })),
    ] {
        record
            .post(&app, &format!("{STEPS}/{path}"), Some(body))
            .await;
    }
    for query in ["?limit=0", "?cursor=1", "?a=1"] {
        record.get(&app, &format!("{STEPS}{query}")).await;
    }
    for query in ["?status=maybe", "?limit=0", "?since=yesterday"] {
        record.get(&app, &format!("/api/v1/steps{query}")).await;
    }
    app.stop().await;
    record.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dedup() {
    let app = spawn_app(&config(&[])).await;
    let mut record = Recorded::new("dedup");
    let plain = json!({ "key": "a", "window": "1h" });
    let leased =
        |id: &str| json!({ "key": "b", "window": "1h", "lease_ms": 60_000, "claim_id": id });
    for body in [
        plain.clone(),
        plain,
        leased("x"),
        leased("x"),
        leased("y"),
        json!({}),
        json!({ "key": "", "window": "1h" }),
        json!({ "key": "c", "window": "1x" }),
        json!({ "key": "c", "window": "1000d" }),
        json!({ "key": "c", "window": "1s", "lease_ms": 2000 }),
    ] {
        record.post(&app, "/v1/dedup/s", Some(body)).await;
    }
    for body in [
        json!({ "key": "b", "fence": 9 }),
        json!({ "key": "b", "fence": 1 }),
        json!({ "key": "b", "fence": 1 }),
        json!({ "key": "nobody's", "fence": 1 }),
    ] {
        record.post(&app, "/v1/dedup/s/done", Some(body)).await;
    }
    record.post(&app, "/v1/dedup/s", Some(leased("z"))).await;
    app.stop().await;
    record.finish();
}
