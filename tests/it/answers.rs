//! What the admin API answers of events, deliveries, destinations and rejections, recorded in their
//! most telling states. The rest is in `answers_node`, `answers_ledger` and `answers_commands`.

use reqwest::Method;
use serde_json::json;

use crate::{app::*, recorded::Recorded};

const BATCHED: &str = r#"
[providers.batched]
algorithm = "hmac-sha256"
key = "body:id"
type = "body:kind"
items = "body:events"
signature = { from = "header:x-sig" }
[sources.batched]
provider = "batched"
secret = "s"
"#;

async fn batched(app: &TestApp, body: &str) -> Said {
    use hmac::{KeyInit as _, Mac as _};
    let mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"s")
        .expect("a key")
        .chain_update(body);
    let headers = vec![("x-sig".to_owned(), hex::encode(mac.finalize().into_bytes()))];
    app.post("/hooks/batched", &headers, body.to_owned()).await
}

/// Asks for what is not there and for what can't be.
async fn refusals(record: &mut Recorded, app: &TestApp, asked: &[(Method, &str)]) {
    for (method, path) in asked {
        record.ask(app, method.clone(), path, None).await;
    }
}

/// Ids of rejections go by the millisecond: within one their order is nobody's.
async fn next_millisecond() {
    let now = hookonce::clock::Clock::System.unix_ms();
    while hookonce::clock::Clock::System.unix_ms() <= now {
        tokio::task::yield_now().await;
    }
}

pub const NOBODY: &str = "01890000-0000-7000-8000-000000000000";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events() {
    let app = spawn_app(&(config(&[]) + BATCHED)).await;
    let mut record = Recorded::new("events");
    record.get(&app, "/api/v1/events").await;
    let first = record.call(app.github("d-1", r#"{"n":1}"#).await.event(), "event d-1");
    app.github("d-1", r#"{"n":2}"#).await;
    record.call(app.github("d-2", r#"{"n":1}"#).await.event(), "event d-2");
    let bytes = record.call(
        app.post(
            "/hooks/github",
            &github_headers(GITHUB_SECRET, "d-3", b"\xff"),
            &b"\xff"[..],
        )
        .await
        .event(),
        "event d-3",
    );
    let mut headers = github_headers(GITHUB_SECRET, "d-4", b"{}");
    headers[1].1 = "a".repeat(256);
    let dropped = record.call(
        app.post("/hooks/github", &headers, "{}").await.event(),
        "event d-4",
    );
    batched(
        &app,
        r#"{"events":[{"id":"a","kind":"sent"},{"id":"b","kind":"other"}]}"#,
    )
    .await;
    let page = record.get(&app, "/api/v1/events?limit=2").await;
    let part = record.call_member(&page, "/items/0/id", "event b");
    let cursor = record.call_member(&page, "/next", "event a");
    record
        .get(&app, &format!("/api/v1/events?limit=2&cursor={cursor}"))
        .await;
    record
        .get(
            &app,
            "/api/v1/events?source=github&type=pu*&since=1h&until=2999-01-01&limit=1",
        )
        .await;
    record.get(&app, "/api/v1/events?source=stripe").await;
    for query in ["key=d-2", "key=d-2&source=stripe", "key=d"] {
        record.get(&app, &format!("/api/v1/events?{query}")).await;
    }
    for id in [&first, &bytes, &dropped, &part] {
        record.get(&app, &format!("/api/v1/events/{id}")).await;
    }
    for path in ["body", "original"] {
        record
            .get(&app, &format!("/api/v1/events/{part}/{path}"))
            .await;
    }
    record
        .get(&app, &format!("/api/v1/events/{bytes}/body"))
        .await;
    record
        .get(&app, &format!("/api/v1/events/{first}/original"))
        .await;
    for path in ["", "/body", "/original"] {
        record
            .get(&app, &format!("/api/v1/events/{NOBODY}{path}"))
            .await;
    }
    for query in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "since=yesterday",
        "sorce=github",
        "cursor=1",
    ] {
        record.get(&app, &format!("/api/v1/events?{query}")).await;
    }
    record.get(&app, "/api/v1/events/17").await;
    app.stop().await;
    record.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts() {
    let handler = Handler::start(Vec::new()).await;
    let held = "provider = \"github\"\nreplay_guard = \"hold\"";
    let config = config(&[("h", &handler.url(), "")]).replace("provider = \"github\"", held);
    let app = spawn_app(&config).await;
    let mut record = Recorded::new("conflicts");
    record.get(&app, "/api/v1/conflicts").await;
    record.call(
        app.github("d-1", r#"{"id":1,"state":"open","old":true}"#)
            .await
            .event(),
        "event d-1",
    );
    app.github("d-1", r#"{"id":1,"state":"closed","new":[1]}"#)
        .await;
    let held = record.call(app.github("d-2", r#"{"n":1}"#).await.event(), "event d-2");
    app.github("d-3", r#"{"n":1}"#).await;
    record.call(app.github("d-4", "[1]").await.event(), "event d-4");
    app.github("d-4", "[1] ").await;
    let page = record.get(&app, "/api/v1/conflicts?limit=2").await;
    let spaces = record.call_member(&page, "/items/0/id", "conflict of d-4");
    let same = record.call_member(&page, "/items/1/id", "conflict of d-2");
    let next = record
        .get(&app, &format!("/api/v1/conflicts?limit=2&cursor={same}"))
        .await;
    let other = record.call_member(&next, "/items/0/id", "conflict of d-1");
    record
        .get(
            &app,
            "/api/v1/conflicts?source=stripe&since=1h&until=2999-01-01",
        )
        .await;
    for id in [&other, &same, &spaces] {
        record.get(&app, &format!("/api/v1/conflicts/{id}")).await;
    }
    let relayed = record
        .post(&app, &format!("/api/v1/conflicts/{other}/relay"), None)
        .await;
    record.call_member(&relayed, "/event", "relayed event");
    record
        .post(&app, &format!("/api/v1/conflicts/{other}/relay"), None)
        .await;
    record.get(&app, "/api/v1/conflicts").await;
    sqlx::query("delete from event where id = $1::uuid")
        .bind(&held)
        .execute(&app.pool)
        .await
        .expect("SQL");
    record.get(&app, &format!("/api/v1/conflicts/{same}")).await;
    record
        .post(&app, &format!("/api/v1/conflicts/{same}/relay"), None)
        .await;
    let (gone, relay) = (
        format!("/api/v1/conflicts/{NOBODY}"),
        format!("/api/v1/conflicts/{NOBODY}/relay"),
    );
    refusals(
        &mut record,
        &app,
        &[
            (Method::GET, &gone),
            (Method::POST, &relay),
            (Method::GET, "/api/v1/conflicts?limit=0"),
            (Method::GET, "/api/v1/conflicts/17"),
            (Method::GET, "/api/v1/conflicts?sorce=x"),
        ],
    )
    .await;
    app.stop().await;
    record.finish();
}

/// A service with a delivery in each state; the handler that hangs is to be released.
async fn with_deliveries(record: &mut Recorded) -> (TestApp, Handler, Vec<String>) {
    let done = Handler::start(Vec::new()).await;
    let dead = Handler::start(vec![Reply::Status(410)]).await;
    let later = Handler::start(vec![Reply::Status(500)]).await;
    let hung = Handler::start(vec![Reply::Hang; 9]).await;
    let once = "retry = { schedule = [\"1h\"] }";
    let app = spawn_app(&config(&[
        ("done", &done.url(), ""),
        ("dead", &dead.url(), ""),
        ("later", &later.url(), once),
        ("paused", &done.url(), ""),
        ("hung", &hung.url(), ""),
        ("refused", "http://127.0.0.1:1/", once),
    ]))
    .await;
    app.api(Method::POST, "/destinations/paused/pause", None)
        .await;
    let event = app.github("d-1", r#"{"n":1}"#).await.event().to_string();
    record.call(&event, "event d-1");
    hung.received(1).await;
    app.until("select count(*) from delivery_ended", 2).await;
    app.until(
        "select count(*) from outbox where state = 'pending' and attempts = 1",
        2,
    )
    .await;
    let rows: Vec<(String, String)> =
        sqlx::query_as("select destination, id::text from delivery order by id")
            .fetch_all(&app.pool)
            .await
            .expect("the deliveries");
    let ids = ["done", "dead", "later", "paused", "hung", "refused"].map(|name| {
        let (_, id) = rows
            .iter()
            .find(|(destination, _)| destination == name)
            .expect("a delivery");
        record.call(id, &format!("delivery {name}"))
    });
    (app, hung, ids.to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries() {
    let mut record = Recorded::new("deliveries");
    let (app, hung, ids) = with_deliveries(&mut record).await;
    let post = |id: &str, action: &str| format!("/api/v1/deliveries/{id}/{action}");
    record.get(&app, "/api/v1/deliveries?source=stripe").await;
    record
        .get(
            &app,
            "/api/v1/deliveries?destination=done&event=01890000-0000-7000-8000-000000000000",
        )
        .await;
    record.post(&app, &post(&ids[5], "cancel"), None).await;
    record.post(&app, &post(&ids[5], "cancel"), None).await;
    let page = record.get(&app, "/api/v1/deliveries?limit=4").await;
    record
        .get(
            &app,
            &format!(
                "/api/v1/deliveries?limit=4&cursor={}",
                page["next"].as_str().expect("a cursor")
            ),
        )
        .await;
    for state in [
        "pending",
        "paused",
        "leased",
        "delivered",
        "dead",
        "cancelled",
    ] {
        record
            .get(&app, &format!("/api/v1/deliveries?state={state}"))
            .await;
    }
    for id in &ids {
        record.get(&app, &format!("/api/v1/deliveries/{id}")).await;
    }
    record
        .get(
            &app,
            &format!(
                "/api/v1/events/{}",
                page["items"][0]["event"].as_str().expect("an id")
            ),
        )
        .await;
    record.post(&app, &post(&ids[3], "retry"), None).await;
    record.post(&app, &post(&ids[4], "retry"), None).await;
    let sql = [
        "update attempt set response = '\\xff'",
        "update delivery_ended set destination = 'http://x.example/'",
    ];
    for sql in sql {
        sqlx::query(sql).execute(&app.pool).await.expect("SQL");
    }
    record
        .get(&app, &format!("/api/v1/deliveries/{}", ids[1]))
        .await;
    let token = app
        .api(Method::POST, "/tokens", Some(json!({ "scopes": ["read"] })))
        .await
        .json();
    let url = format!("{}/api/v1/deliveries/{}", app.admin, ids[1]);
    record
        .send(
            app.http
                .get(url)
                .bearer_auth(token["token"].as_str().expect("a token")),
        )
        .await;
    sqlx::query("delete from event")
        .execute(&app.pool)
        .await
        .expect("SQL");
    record.post(&app, &post(&ids[1], "retry"), None).await;
    let gone = [
        format!("/api/v1/deliveries/{NOBODY}"),
        post(NOBODY, "retry"),
        post(NOBODY, "cancel"),
    ];
    refusals(
        &mut record,
        &app,
        &[
            (Method::GET, &gone[0]),
            (Method::POST, &gone[1]),
            (Method::POST, &gone[2]),
            (Method::GET, "/api/v1/deliveries?state=alive"),
            (Method::GET, "/api/v1/deliveries?event=17"),
            (Method::GET, "/api/v1/deliveries?limit=0"),
            (Method::GET, "/api/v1/deliveries/17"),
        ],
    )
    .await;
    hung.release();
    app.stop_with_open(2).await;
    record.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn destinations() {
    let mut record = Recorded::new("destinations");
    let (app, hung, _) = with_deliveries(&mut record).await;
    sqlx::query(
        "update delivery_ended set destination = 'http://x.example/' where destination = 'dead'",
    )
    .execute(&app.pool)
    .await
    .expect("SQL");
    record.get(&app, "/api/v1/destinations").await;
    for path in [
        "hung/pause",
        "hung/pause",
        "hung/resume",
        "hung/resume",
        "nobody/pause",
        "nobody/resume",
    ] {
        record
            .post(&app, &format!("/api/v1/destinations/{path}"), None)
            .await;
    }
    record
        .post(
            &app,
            "/api/v1/destinations/http%3A%2F%2Fx.example%2F/pause",
            None,
        )
        .await;
    hung.release();
    app.stop_with_open(3).await;
    record.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejections() {
    let more = "[sources.other]\nprovider = \"github\"\nsecret = \"the other's\"\n";
    let app = spawn_app(&(config(&[]) + more)).await;
    let mut record = Recorded::new("rejections");
    record.get(&app, "/api/v1/rejections").await;
    let mut headers = github_headers("the other's", "d-1", b"{}");
    headers.push(("authorization".into(), "Bearer topsecret".into()));
    next_millisecond().await;
    app.post("/hooks/github?token=topsecret", &headers, "{}")
        .await;
    next_millisecond().await;
    app.post("/hooks/nobody", &[], "{}").await;
    next_millisecond().await;
    app.post("/hooks/stripe", &[], r#"{"livemode":true}"#).await;
    let encoded = [("content-encoding".to_owned(), "br".to_owned())];
    next_millisecond().await;
    app.post("/hooks/github", &encoded, "{}").await;
    next_millisecond().await;
    app.post(
        "/hooks/github",
        &github_headers("wrong", "d-2", b"\xff"),
        &b"\xff"[..],
    )
    .await;
    let page = record.get(&app, "/api/v1/rejections").await;
    let ids: Vec<&str> = page["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|item| item["id"].as_str())
        .collect();
    for (number, id) in ids.iter().enumerate() {
        record.call(id, &format!("rejection {number}"));
    }
    for id in &ids {
        record
            .get(&app, &format!("/api/v1/rejections/{id}/explain"))
            .await;
    }
    let next = record.get(&app, "/api/v1/rejections?limit=2").await["next"].clone();
    record
        .get(
            &app,
            &format!(
                "/api/v1/rejections?limit=2&cursor={}",
                next.as_str().expect("a cursor")
            ),
        )
        .await;
    record
        .get(
            &app,
            "/api/v1/rejections?source=github&reason=no_match&since=1h&until=2999-01-01",
        )
        .await;
    let gone = format!("/api/v1/rejections/{NOBODY}/explain");
    let wrong = [
        "/api/v1/rejections?limit=0",
        "/api/v1/rejections/17/explain",
        "/api/v1/rejections?sorce=x",
    ];
    for path in [gone.as_str()].into_iter().chain(wrong) {
        record.get(&app, path).await;
    }
    app.stop().await;
    record.finish();
}
