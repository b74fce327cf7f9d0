//! What the admin API answers of replays, sources, the node and tokens, recorded; the problems that
//! any call may get, the stream, and the description of it all.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{answers::NOBODY, app::*, recorded::Recorded};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays() {
    let handler = Handler::start(Vec::new()).await;
    let app = spawn_app(&config(&[("h", &handler.url(), "")])).await;
    let mut record = Recorded::new("replays");
    record.get(&app, "/api/v1/replays").await;
    for id in ["d-1", "d-2"] {
        record.call(
            app.github(id, &format!(r#"{{"id":"{id}"}}"#)).await.event(),
            &format!("event {id}"),
        );
    }
    let event = record.call(app.stripe("evt_1", "x").await.event(), "event evt_1");
    app.until("select count(*) from delivery_ended", 3).await;
    let url = "/api/v1/replays";
    record
        .post(
            &app,
            url,
            Some(json!({ "source": "github", "dry_run": true })),
        )
        .await;
    record
        .post(
            &app,
            url,
            Some(json!({ "status": "dead", "dry_run": true })),
        )
        .await;
    let whole = json!({ "source": "github", "type": "pu*", "since": "1h", "until": "2999-01-01",
        "status": "delivered", "limit": 5 });
    let replay = record.post(&app, url, Some(whole)).await;
    let id = record.call_member(&replay, "/id", "replay 1");
    let one = record
        .post(
            &app,
            url,
            Some(json!({ "ids": [event], "to": "http://X.example/a b" })),
        )
        .await;
    let other = record.call_member(&one, "/id", "replay 2");
    for body in [Some(json!({ "limit": 1 })), Some(json!({})), None, None] {
        record
            .post(&app, &format!("{url}/{id}/advance"), body)
            .await;
    }
    for id in [&id, &other] {
        record.get(&app, &format!("{url}/{id}")).await;
    }
    record.get(&app, "/api/v1/replays?limit=1").await;
    record
        .get(&app, &format!("/api/v1/replays?cursor={other}"))
        .await;
    for body in [
        json!({}),
        json!({ "ids": [] }),
        json!({ "ids": [NOBODY] }),
        json!({ "limit": 0 }),
        json!({ "status": "alive" }),
        json!({ "status": "any", "to": "nowhere" }),
        json!({ "status": "any", "since": "yesterday" }),
        json!([]),
    ] {
        record.post(&app, url, Some(body)).await;
    }
    sqlx::query("update replay set filter = '{\"a\":1}'")
        .execute(&app.pool)
        .await
        .expect("SQL");
    for (id, body) in [
        (&*other, json!({})),
        (NOBODY, json!({})),
        (&*other, json!({ "a": 1 })),
        (&*other, json!({ "limit": 0 })),
    ] {
        record
            .post(&app, &format!("{url}/{id}/advance"), Some(body))
            .await;
    }
    record.get(&app, &format!("{url}/{NOBODY}")).await;
    app.stop().await;
    record.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_and_the_node() {
    let learning =
        |name: &str| format!("[sources.{name}]\nprovider = \"asana\"\nlearn_secret = true\n");
    let more = learning("asana") + &learning("open");
    let app = spawn_app(&(config(&[("h", "http://127.0.0.1:1/", "")]) + &more)).await;
    let mut record = Recorded::new("node");
    record.get(&app, "/api/v1/status").await;
    app.post(
        "/hooks/asana",
        &[("x-hook-secret".to_owned(), "first".to_owned())],
        "{}",
    )
    .await;
    app.github("d-1", r#"{"n":1}"#).await;
    app.github("d-2", r#"{"n":1}"#).await;
    app.github("d-1", r#"{"n":2}"#).await;
    record.get(&app, "/api/v1/sources").await;
    let (secret, forget) = (
        "/api/v1/sources/asana/secret",
        "/api/v1/sources/asana/secret/forget",
    );
    record.get(&app, secret).await;
    record.post(&app, forget, None).await;
    record.post(&app, forget, None).await;
    record.get(&app, secret).await;
    app.api(Method::POST, "/destinations/h/pause", None).await;
    record.get(&app, "/api/v1/status").await;
    let old = "create table event_20200101 partition of event for values \
               from ('016f5e66-e800-0000-0000-000000000000') to ('016f638d-4400-0000-0000-000000000000')";
    sqlx::query(old)
        .execute(&app.pool)
        .await
        .expect("a partition");
    record.post(&app, "/api/v1/prune", None).await;
    record.post(&app, "/api/v1/prune", None).await;
    for path in ["/livez", "/readyz"] {
        record.get(&app, path).await;
        record
            .send(app.http.get(format!("{}{path}", app.url)))
            .await;
    }
    app.stop_with_open(2).await;
    record.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens() {
    let app = spawn_app(&config(&[])).await;
    let mut record = Recorded::new("tokens");
    let url = "/api/v1/tokens";
    record.get(&app, url).await;
    let made = record
        .post(
            &app,
            url,
            Some(json!({ "scopes": ["operate", "read", "read"] })),
        )
        .await;
    let id = record.call_member(&made, "/id", "token 1");
    let tenants = record
        .post(
            &app,
            url,
            Some(json!({ "scopes": ["ledger"], "tenant": "t" })),
        )
        .await;
    record.call_member(&tenants, "/id", "token 2");
    record.get(&app, &format!("{url}?limit=1")).await;
    let revoked = record.post(&app, &format!("{url}/{id}/revoke"), None).await;
    assert!(revoked["revoked_at"].is_string());
    record.get(&app, url).await;
    for body in [
        json!({ "scopes": [] }),
        json!({ "scopes": ["root"] }),
        json!({ "scopes": ["read"], "tenant": "t" }),
        json!({ "scopes": ["ledger"], "tenant": "" }),
        json!({ "scopes": ["ledger"], "tenant": "gateway:x" }),
        json!({ "scopes": ["read"], "a": 1 }),
        json!([]),
    ] {
        record.post(&app, url, Some(body)).await;
    }
    record
        .post(&app, &format!("{url}/{NOBODY}/revoke"), None)
        .await;
    record.get(&app, &format!("{url}?limit=0")).await;
    record.get(&app, "/api/v1/token").await;
    app.stop().await;
    record.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn problems_that_any_call_may_get() {
    let app = spawn_app(&config(&[])).await;
    let mut record = Recorded::new("problems");
    let events = format!("{}/api/v1/events", app.admin);
    let tokens = format!("{}/api/v1/tokens", app.admin);
    let made = app
        .api(Method::POST, "/tokens", Some(json!({ "scopes": ["read"] })))
        .await
        .json();
    let read = made["token"].as_str().expect("a token");
    let get = || app.http.get(&events);
    let post = || app.http.post(&tokens).bearer_auth(TOKEN);
    for request in [
        get(),
        get().bearer_auth("wrong"),
        get()
            .bearer_auth(TOKEN)
            .header("origin", "https://evil.example"),
        get().bearer_auth(TOKEN).header("host", "evil.example"),
        app.http
            .get(format!("{}/api/v1/nothing", app.admin))
            .bearer_auth(TOKEN),
        app.http
            .get(format!("{}/v1/nothing", app.admin))
            .bearer_auth(TOKEN),
        app.http.delete(&events).bearer_auth(TOKEN),
        app.http
            .post(format!("{}/v1/runs/r/steps", app.admin))
            .bearer_auth(TOKEN),
        app.http
            .post(format!("{}/api/v1/prune", app.admin))
            .bearer_auth(read),
        app.http
            .post(format!("{}/api/v1/replays", app.admin))
            .bearer_auth(read),
        app.http
            .post(format!("{}/v1/dedup/s", app.admin))
            .bearer_auth(read),
        app.http.get(&tokens).bearer_auth(read),
        post(),
        post().body("{}"),
        post().header("content-type", "application/json").body("{"),
        post().header("content-type", "application/json").body("[]"),
        post()
            .header("content-type", "application/json")
            .body("x".repeat(2 << 20)),
        get().bearer_auth(TOKEN).query(&[("source", "\0")]),
    ] {
        record.send(request).await;
    }
    let wrong = || {
        app.http
            .get(&events)
            .bearer_auth(hookonce::http::tokens::generate())
    };
    while wrong().send().await.expect("an answer").status() != 429 {}
    record.send(wrong()).await;
    app.stop().await;
    record.finish();
}

/// The lines of the stream until so many have come, in the order of their texts.
async fn lines(stream: &mut reqwest::Response, count: usize) -> Vec<String> {
    let mut text = String::new();
    while text.matches("data: ").count() < count {
        let chunk = tokio::time::timeout(LONG, stream.chunk())
            .await
            .expect("a line in time");
        text += &String::from_utf8_lossy(&chunk.expect("a chunk").expect("a line"));
    }
    let mut lines: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(crate::recorded::pretty)
        .collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream() {
    let handler = Handler::start(vec![
        Reply::Status(200),
        Reply::Status(410),
        Reply::Status(500),
    ])
    .await;
    let more = "[sources.asana]\nprovider = \"asana\"\nlearn_secret = true\n";
    let once = "retry = { schedule = [\"1h\"] }\nconcurrency = 1";
    let app = spawn_app(&(config(&[("h", &handler.url(), once)]) + more)).await;
    let mut record = Recorded::new("stream");
    let request = app
        .http
        .get(format!("{}/api/v1/stream", app.admin))
        .bearer_auth(TOKEN);
    let mut stream = request.send().await.expect("a stream");
    let kind = stream.headers()["content-type"]
        .to_str()
        .expect("text")
        .to_owned();
    let first = stream.chunk().await.expect("a chunk").expect("a line");
    record.write(
        "GET /api/v1/stream",
        &format!(
            "{}\n{kind}\n{}",
            stream.status(),
            String::from_utf8_lossy(&first)
        ),
    );
    for (title, id, body, count) in [
        ("new, delivered", "d-1", r#"{"n":1}"#, 2),
        ("duplicate", "d-1", r#"{"n":1}"#, 1),
        ("conflict", "d-1", r#"{"n":2}"#, 1),
        ("new, dead", "d-2", r#"{"n":3}"#, 2),
        ("new, to be tried again", "d-3", r#"{"n":4}"#, 2),
    ] {
        app.github(id, body).await;
        record.write(title, &lines(&mut stream, count).await.join("\n"));
    }
    app.post(
        "/hooks/github",
        &github_headers("wrong", "d-4", b"{}"),
        "{}",
    )
    .await;
    record.write("rejected", &lines(&mut stream, 1).await.join("\n"));
    app.post(
        "/hooks/asana",
        &[("x-hook-secret".to_owned(), "first".to_owned())],
        "{}",
    )
    .await;
    record.write("handshake", &lines(&mut stream, 1).await.join("\n"));
    let mut headers = github_headers(GITHUB_SECRET, "d-5", b"[]");
    headers[1].1 = "a".repeat(256);
    app.post("/hooks/github", &headers, "[]").await;
    record.write(
        "without its type",
        &lines(&mut stream, 2).await[1..].join("\n"),
    );
    drop(stream);
    app.stop_with_open(1).await;
    record.finish();
}

/// The description, held against docs/openapi.json. After a change that is meant:
/// HOOKONCE_DUMP_OPENAPI=1 cargo test the_description_is_the_reviewed_one
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_is_the_reviewed_one() {
    let app = spawn_app(&config(&[])).await;
    let document: Value = app.api(Method::GET, "/openapi.json", None).await.json();
    let text = serde_json::to_string_pretty(&document).expect("JSON") + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    if std::env::var_os("HOOKONCE_DUMP_OPENAPI").is_some() {
        std::fs::write(path, &text).expect("the dump");
    }
    let reviewed = std::fs::read_to_string(path).expect("docs/openapi.json");
    assert!(
        text == reviewed,
        "the API is described otherwise: dump it anew, then look at the difference"
    );
    app.stop().await;
}
