//! `GET /metrics`: what it counts, who may read it, and that the document has every name.

use std::collections::BTreeSet;

use crate::app::*;

async fn scrape(app: &TestApp, token: Option<&str>) -> Said {
    let mut request = app.http.get(format!("{}/metrics", app.admin));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    said(request).await
}

fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(series))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_attempts_and_batches_are_counted() {
    let handler = Handler::start(vec![Reply::Status(500), Reply::Status(200)]).await;
    let more = "retry.base = \"10ms\"";
    let app = spawn_app(&config(&[("shop", &handler.url(), more)])).await;
    app.stripe("evt_1", "charge.succeeded").await;
    app.stripe("evt_1", "charge.succeeded").await;
    app.stripe("evt_1", "charge.failed").await;
    app.post("/hooks/stripe", &[], "{}").await;
    app.post("/hooks/nobody", &[], "{}").await;
    handler.received(2).await;
    app.until("select count(*) from outbox", 0).await;
    let said = scrape(&app, Some(TOKEN)).await;
    let text = &said.text;
    assert!(text.ends_with("# EOF\n"), "{text}");
    for (series, expected) in [
        (
            r#"hookonce_requests_total{source="stripe",outcome="accepted"}"#,
            1.0,
        ),
        (
            r#"hookonce_requests_total{source="stripe",outcome="duplicate"}"#,
            1.0,
        ),
        (
            r#"hookonce_requests_total{source="stripe",outcome="conflict"}"#,
            1.0,
        ),
        (
            r#"hookonce_requests_total{source="stripe",outcome="rejected"}"#,
            1.0,
        ),
        (
            r#"hookonce_rejected_requests_total{source="stripe",reason="missing_signature"}"#,
            1.0,
        ),
        (
            r#"hookonce_acknowledgement_seconds_count{source="stripe"}"#,
            3.0,
        ),
        (
            r#"hookonce_attempts_total{destination="shop",result="retry"}"#,
            1.0,
        ),
        (
            r#"hookonce_attempts_total{destination="shop",result="delivered"}"#,
            1.0,
        ),
        (r#"hookonce_arrival_seconds_count{destination="shop"}"#, 1.0),
        (
            r#"hookonce_breaker{destination="shop",state="closed"}"#,
            1.0,
        ),
        ("hookonce_database_up", 1.0),
        ("hookonce_partitions_prepared_days", 7.0),
        ("hookonce_config_last_reload_successful", 1.0),
    ] {
        assert_eq!(value(text, series), Some(expected), "{series}\n{text}");
    }
    assert!(value(text, r#"hookonce_batch_rows_sum{queue="events"}"#) >= Some(1.0));
    assert!(!text.contains("nobody"), "a stranger's path is no series");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_have_a_token_of_their_own() {
    let own = "[metrics]\ntoken = \"scrape-me\"\n";
    let app = spawn_app(&format!("{}{own}", config(&[]))).await;
    assert_eq!(scrape(&app, None).await.status, 401);
    assert_eq!(scrape(&app, Some("wrong")).await.status, 401);
    assert_eq!(scrape(&app, Some("scrape-me")).await.status, 200);
    let events = format!("{}/api/v1/events", app.admin);
    let events = app.http.get(events).bearer_auth("scrape-me").send().await;
    assert_eq!(events.expect("an answer").status(), 401);
    app.stop().await;
    let open = format!("{}[metrics]\nopen = true\n", config(&[]));
    let app = spawn_app(&open).await;
    assert_eq!(scrape(&app, None).await.status, 200);
    app.stop().await;
}

/// Whoever looks a name up finds it, and whoever reads the document gets what it promises.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_has_every_metric() {
    let handler = Handler::start(vec![Reply::Status(500)]).await;
    let more = "retry.base = \"1h\"";
    let app = spawn_app(&config(&[("shop", &handler.url(), more)])).await;
    app.stripe("evt_1", "charge.succeeded").await;
    app.post("/hooks/stripe", &[], "{}").await;
    app.until("select count(*) from attempt", 1).await;
    let said = scrape(&app, Some(TOKEN)).await;
    let told: BTreeSet<&str> = said
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let document = std::fs::read_to_string("docs/metrics.md").expect("the document");
    let written: BTreeSet<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `hookonce_")?.split('`').next())
        .collect();
    let told: BTreeSet<&str> = told
        .iter()
        .filter_map(|name| name.strip_prefix("hookonce_"))
        .collect();
    assert_eq!(told, written);
    app.stop_with_open(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_by_minute_outlive_the_node_and_add_up_over_nodes() {
    let database = database().await;
    for id in ["evt_1", "evt_2"] {
        let app = spawn_on(&config(&[]), database.clone()).await;
        app.stripe(id, "charge.succeeded").await;
        app.stop().await;
    }
    let app = spawn_on(&config(&[]), database).await;
    let counted = "select coalesce(sum(total), 0)::bigint from hour_count where name = 'stripe' and word = 'accepted'";
    assert_eq!(app.count(counted).await, 2);
    let by_minute =
        "select sum(came)::bigint from hour_count, unnest(minutes) as came where word = 'accepted'";
    assert_eq!(app.count(by_minute).await, 2);
    app.stop().await;
}

/// The exit code of `hookonce status` and what it prints.
async fn status(app: &TestApp) -> (Option<i32>, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_hookonce"));
    command.args(["status", "--server", &app.admin]);
    command.env("HOOKONCE_TOKEN", TOKEN).kill_on_drop(true);
    let output = command.output().await.expect("the command");
    let said = String::from_utf8(output.stdout).expect("text");
    (output.status.code(), said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_is_one_screen_and_fails_where_a_person_is_needed() {
    let handler = Handler::start(vec![Reply::Status(200), Reply::Status(500)]).await;
    let more = "retry.base = \"1h\"";
    let app = spawn_app(&config(&[("shop", &handler.url(), more)])).await;
    app.stripe("evt_1", "charge.succeeded").await;
    app.until("select count(*) from delivery_ended", 1).await;
    let (code, said) = status(&app).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Nothing needs a person."), "{said}");
    assert!(said.lines().all(|line| line.len() <= 110), "{said}");
    app.stripe("evt_2", "charge.succeeded").await;
    app.until("select count(*) from attempt", 2).await;
    let (code, said) = status(&app).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("destination shop: attempts fail with status, 1 open\n    hookonce deliveries list --destination shop --state pending"),
        "{said}"
    );
    app.stop_with_open(1).await;
}
