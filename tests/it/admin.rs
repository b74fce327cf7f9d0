//! The admin API: who may use it, and what it changes.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    process::Stdio,
    sync::{Arc, Mutex},
};

use hookonce::{clock::Clock, node::application::Addresses};
use reqwest::Method;
use serde_json::json;

use crate::{app::*, process::*};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_takes_its_token_alone_and_no_strangers_page() {
    let app = spawn_app(&config(&[])).await;
    let url = format!("{}/api/v1/events", app.admin);
    let status = |request: reqwest::RequestBuilder| async move {
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(status(app.http.get(&url)).await, 401);
    assert_eq!(status(app.http.get(&url).bearer_auth("wrong")).await, 401);
    assert_eq!(status(app.http.get(&url).bearer_auth(TOKEN)).await, 200);
    assert_eq!(
        status(
            app.http
                .get(&url)
                .bearer_auth(TOKEN)
                .header("origin", "https://evil.example")
        )
        .await,
        403
    );
    assert_eq!(
        status(
            app.http
                .get(&url)
                .bearer_auth(TOKEN)
                .header("host", "evil.example")
        )
        .await,
        403
    );
    for path in ["/livez", "/readyz"] {
        assert_eq!(
            status(app.http.get(format!("{}{path}", app.admin))).await,
            200
        );
        assert_eq!(
            status(app.http.get(format!("{}{path}", app.url))).await,
            200
        );
    }
    assert_eq!(
        status(
            app.http
                .get(format!("{}/api/v1/events", app.url))
                .bearer_auth(TOKEN)
        )
        .await,
        404
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_port_has_hooks_and_health_alone() {
    let app = spawn_app(&config(&[])).await;
    let answer = async |method: Method, path: &str| {
        let answer = app
            .http
            .request(method, format!("{}{path}", app.url))
            .send()
            .await
            .expect("an answer");
        let allow = answer
            .headers()
            .get("allow")
            .map(|allow| allow.to_str().expect("text").to_owned());
        (answer.status().as_u16(), allow.unwrap_or_default())
    };
    for path in [
        "/",
        "/hooks",
        "/hooksstripe",
        "/livez/",
        "/api/v1/events",
        "/metrics",
    ] {
        assert_eq!(
            answer(Method::GET, path).await,
            (404, String::new()),
            "{path}"
        );
    }
    for path in [
        "/hooks/",
        "/hooks/nobody",
        "/hooks/stripe/",
        "/hooks//stripe",
    ] {
        assert_eq!(
            answer(Method::POST, path).await,
            (404, String::new()),
            "{path}"
        );
    }
    assert_eq!(answer(Method::POST, "/readyz").await, (405, "GET".into()));
    assert_eq!(
        answer(Method::GET, "/hooks/stripe").await,
        (405, "POST".into())
    );
    assert_eq!(answer(Method::POST, "/hooks/stripe?a=b").await.0, 401);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_destination_gets_nothing_until_it_is_resumed() {
    let (paused, other) = (
        Handler::start(Vec::new()).await,
        Handler::start(Vec::new()).await,
    );
    let app = spawn_app(&config(&[
        ("p", &paused.url(), ""),
        ("o", &other.url(), ""),
    ]))
    .await;
    assert_eq!(
        app.api(Method::POST, "/destinations/p/pause", None)
            .await
            .status,
        200
    );
    app.stripe("evt_1", "x").await;
    other.received(1).await;
    app.until(
        "select count(*) from delivery where destination = 'p' and state = 'paused'",
        1,
    )
    .await;
    assert_eq!(paused.count(), 0);
    assert_eq!(
        app.api(Method::POST, "/destinations/p/resume", None)
            .await
            .status,
        200
    );
    paused.received(1).await;
    app.until("select count(*) from delivery where state = 'delivered'", 2)
        .await;
    assert_eq!(
        app.api(Method::POST, "/destinations/nobody/pause", None)
            .await
            .status,
        404
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_delivery_is_retried_and_an_open_one_cancelled() {
    let handler = Handler::start(vec![
        Reply::Status(410),
        Reply::Status(200),
        Reply::Status(500),
    ])
    .await;
    let app = spawn_app(&config(&[(
        "h",
        &handler.url(),
        "concurrency = 1\nretry = { schedule = [\"1h\"] }",
    )]))
    .await;
    app.stripe("evt_1", "x").await;
    app.until("select count(*) from delivery where state = 'dead'", 1)
        .await;
    let list = app
        .api(Method::GET, "/deliveries?state=dead", None)
        .await
        .json();
    let id = list["items"][0]["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{list}"))
        .to_owned();
    assert_eq!(
        app.api(Method::POST, &format!("/deliveries/{id}/retry"), None)
            .await
            .status,
        200
    );
    app.until("select count(*) from delivery where state = 'delivered'", 1)
        .await;
    let shown = app
        .api(Method::GET, &format!("/deliveries/{id}"), None)
        .await
        .json();
    assert_eq!(
        shown["attempts"]
            .as_array()
            .map_or(shown["attempts"].as_u64(), |list| Some(list.len() as u64)),
        Some(2),
        "{shown}"
    );
    app.stripe("evt_2", "x").await;
    app.until(
        "select count(*) from delivery where state = 'pending' and attempts = 1",
        1,
    )
    .await;
    let list = app
        .api(Method::GET, "/deliveries?state=pending", None)
        .await
        .json();
    let id = list["items"][0]["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{list}"))
        .to_owned();
    assert_eq!(
        app.api(Method::POST, &format!("/deliveries/{id}/cancel"), None)
            .await
            .status,
        200
    );
    app.until("select count(*) from delivery where state = 'cancelled'", 1)
        .await;
    assert_eq!(
        app.api(Method::GET, "/deliveries/nonsense", None)
            .await
            .status,
        400
    );
    assert_eq!(
        app.api(Method::GET, &format!("/events/{}", uuid::Uuid::nil()), None)
            .await
            .status,
        404
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_is_being_tried_is_not_retried_and_a_cancelled_ones_answer_changes_nothing()
{
    let handler = Handler::start(vec![Reply::Hang]).await;
    let app = spawn_app(&config(&[("h", &handler.url(), "")])).await;
    app.stripe("evt_1", "x").await;
    handler.received(1).await;
    let list = app
        .api(Method::GET, "/deliveries?state=leased", None)
        .await
        .json();
    let id = list["items"][0]["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{list}"))
        .to_owned();
    let said = app
        .api(Method::POST, &format!("/deliveries/{id}/retry"), None)
        .await;
    assert_eq!(
        (said.status, said.json()["type"].as_str()),
        (409, Some("urn:hookonce:problem:delivery-leased")),
        "{said:?}"
    );
    assert_eq!(said.headers["content-type"], "application/problem+json");
    assert_eq!(
        app.api(Method::POST, &format!("/deliveries/{id}/cancel"), None)
            .await
            .status,
        200
    );
    handler.release();
    app.stripe("evt_2", "x").await;
    app.until("select count(*) from delivery where state = 'delivered'", 1)
        .await;
    assert_eq!(
        app.count("select count(*) from delivery where state = 'cancelled'")
            .await,
        1
    );
    assert_eq!(
        app.api(Method::POST, &format!("/deliveries/{id}/cancel"), None)
            .await
            .status,
        409
    );
    assert_eq!(
        app.api(
            Method::POST,
            &format!("/deliveries/{}/retry", uuid::Uuid::nil()),
            None
        )
        .await
        .status,
        404
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_keeps_the_events_id_counts_first_and_goes_on_where_it_stood() {
    let (handler, other) = (
        Handler::start(Vec::new()).await,
        Handler::start(Vec::new()).await,
    );
    let app =
        spawn_app(&(config(&[("h", &handler.url(), "")]) + "[egress]\nallow = [\"127.0.0.1\"]\n"))
            .await;
    for n in 0..5 {
        app.stripe(
            &format!("evt_{n}"),
            if n < 3 {
                "invoice.paid"
            } else {
                "charge.failed"
            },
        )
        .await;
    }
    let first = handler.received(5).await;
    app.until("select count(*) from delivery where state = 'delivered'", 5)
        .await;
    let dry = app
        .api(
            Method::POST,
            "/replays",
            Some(json!({ "type": "invoice.*", "dry_run": true })),
        )
        .await;
    assert_eq!(dry.status, 200, "{dry:?}");
    assert_eq!(app.count("select count(*) from replay").await, 0);
    let replay = app
        .api(
            Method::POST,
            "/replays",
            Some(json!({ "type": "invoice.*" })),
        )
        .await
        .json();
    let id = replay["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{replay}"))
        .to_owned();
    let advance = format!("/replays/{id}/advance");
    assert_eq!(
        app.api(Method::POST, &advance, Some(json!({ "limit": 2 })))
            .await
            .json()["created"],
        2
    );
    assert_eq!(
        app.api(Method::POST, &advance, Some(json!({ "limit": 2 })))
            .await
            .json()["created"],
        1
    );
    let received = handler.received(8).await;
    let replayed = received
        .iter()
        .filter(|request| request.header("hookonce-replay").is_some())
        .collect::<Vec<_>>();
    assert_eq!(replayed.len(), 3);
    for request in replayed {
        assert_eq!(request.header("hookonce-replay"), Some(id.as_str()));
        assert!(first.iter().any(|before| before.header("webhook-id")
            == request.header("webhook-id")
            && before.body == request.body));
    }
    let to = app
        .api(
            Method::POST,
            "/replays",
            Some(json!({ "type": "charge.*", "to": other.url() })),
        )
        .await
        .json();
    let advance = format!(
        "/replays/{}/advance",
        to["id"].as_str().unwrap_or_else(|| panic!("{to}"))
    );
    app.api(Method::POST, &advance, Some(json!({ "limit": 10 })))
        .await;
    assert_eq!(other.received(2).await.len(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pruning_drops_old_days_and_forgotten_keys_but_not_what_is_open() {
    let handler = Handler::start(vec![Reply::Status(500)]).await;
    let config = config(&[("h", &handler.url(), "retry = { schedule = [\"1h\"] }")]);
    let app = spawn_app(&config).await;
    let key = uuid::Uuid::now_v7();
    for day in ["20240101", "20240102"] {
        let (from, to) = if day == "20240101" {
            (1_704_067_200_000, 1_704_153_600_000)
        } else {
            (1_704_153_600_000, 1_704_240_000_000)
        };
        let (from, to) = (
            hookonce::event::id_floor(from),
            hookonce::event::id_floor(to),
        );
        let sql = format!(
            "create table public.event_{day} partition of event for values from ('{from}') to ('{to}')"
        );
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .execute(&app.pool)
            .await
            .expect("a partition");
    }
    let open = hookonce::event::id_floor(1_704_153_600_001);
    sqlx::query(
        "insert into outbox (id, key, event_id, source, destination, body_bytes, state, epoch, due_at) \
         values ($1, $2, $3, 's', 'nowhere', 0, 'pending', 0, now() + interval '1 day')",
    )
    .bind(uuid::Uuid::now_v7())
    .bind(key)
    .bind(open)
    .execute(&app.pool)
    .await
    .expect("an open delivery");
    sqlx::query("insert into event_key (key, event_id, body_digest, expires_at) values ($1, $1, sha256('x'), now() - interval '1 second')")
        .bind(key)
        .execute(&app.pool)
        .await
        .expect("a key");
    let pruned = app.api(Method::POST, "/prune", None).await;
    assert_eq!(pruned.status, 200, "{pruned:?}");
    let pruned = pruned.json();
    assert_eq!(
        (&pruned["partitions"], &pruned["held"]),
        (&json!(["event_20240101"]), &json!(["event_20240102"]))
    );
    assert_eq!(pruned["keys"], 1);
    app.stop_with_open(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_the_callers_error_and_nothing_comes_of_it() {
    let handler = Handler::start(Vec::new()).await;
    let app = spawn_app(&config(&[("h", &handler.url(), "")])).await;
    app.stripe("evt", "x").await;
    app.until("select count(*) from delivery where state = 'delivered'", 1)
        .await;
    let replay = app
        .api(
            Method::POST,
            "/replays",
            Some(json!({ "status": "any", "source": "github" })),
        )
        .await
        .json();
    let advance = format!(
        "/replays/{}/advance",
        replay["id"].as_str().unwrap_or_else(|| panic!("{replay}"))
    );
    let long = "x".repeat(100_000);
    for (method, path, body) in [
        (Method::GET, "/events?source=a%00b", None),
        (Method::GET, "/events?type=a%00*", None),
        (Method::GET, "/deliveries?destination=%00", None),
        (Method::GET, "/deliveries?source=%00", None),
        (Method::GET, "/conflicts?source=%00", None),
        (Method::GET, "/steps?run=%00", None),
        (Method::GET, "/steps?tenant=%00", None),
        (Method::POST, "/replays", Some(json!({ "source": "a\0b" }))),
        (
            Method::POST,
            "/replays",
            Some(json!({ "type": "a\0b", "dry_run": true })),
        ),
        (
            Method::POST,
            "/replays",
            Some(json!({ "status": "any", "to": "http://x\0.example/" })),
        ),
        // As a list a struct's fields would be taken by place: all would be left out.
        (Method::POST, "/replays", Some(json!([]))),
        (Method::POST, "/replays", Some(json!({}))),
        (Method::POST, "/replays", Some(json!({ "dry_run": true }))),
        (Method::POST, "/replays", Some(json!({ "ids": [] }))),
        (
            Method::POST,
            "/replays",
            Some(json!({ "status": "any", "to": format!("http://x.example/{long}") })),
        ),
        (Method::POST, &*advance, Some(json!([]))),
        (Method::POST, &*advance, Some(json!({ "limits": 1 }))),
        (Method::POST, "/tokens", Some(json!([["read"]]))),
        (
            Method::POST,
            "/tokens",
            Some(json!({ "scopes": ["ledger"], "tenant": "a\0b" })),
        ),
        (Method::POST, "/destinations/a%00b/pause", None),
    ] {
        let said = app.api(method, path, body).await;
        assert!(
            (400..500).contains(&said.status) && said.json()["detail"].is_string(),
            "{path}: {said:?}"
        );
    }
    for (path, body) in [
        ("/v1/runs/r/steps/s/claim", json!(["a"])),
        ("/v1/runs/r/steps/s/claim", json!({ "claim_id": "a\0b" })),
        ("/v1/runs/a%00b/steps/s/claim", json!({ "claim_id": "a" })),
        (
            "/v1/runs/r/steps/s/complete",
            json!({ "fence": 1, "emit": [["stripe", "x", "k", 1]] }),
        ),
        (
            "/v1/runs/r/steps/s/complete",
            json!({ "fence": 1, "emit": [{ "key": "a\0b", "data": 1 }] }),
        ),
        ("/v1/dedup/d", json!(["k", "1h"])),
    ] {
        let said = app
            .http
            .post(format!("{}{path}", app.admin))
            .bearer_auth(TOKEN)
            .json(&body)
            .send()
            .await
            .expect("an answer");
        assert_eq!(said.status(), 400, "{path}");
    }
    assert_eq!(app.count("select count(*) from replay").await, 1);
    assert_eq!(app.count("select count(*) from token").await, 0);
    assert_eq!(
        app.api(Method::POST, &advance, None).await.json()["done"],
        true
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_neither_kept_nor_taken_for_another_type() {
    let app = spawn_app(&config(&[])).await;
    let wrong = app
        .http
        .get(format!("{}/v1/runs/r/steps", app.admin))
        .bearer_auth("wrong")
        .send()
        .await
        .expect("an answer");
    let right = app.api(Method::GET, "/events", None).await;
    let missing = app.api(Method::GET, "/nothing", None).await;
    assert_eq!(
        (wrong.status().as_u16(), right.status, missing.status),
        (401, 200, 404)
    );
    for headers in [wrong.headers(), &right.headers, &missing.headers] {
        assert!(
            headers["cache-control"] == "no-store"
                && headers["x-content-type-options"] == "nosniff",
            "{headers:?}"
        );
    }
    app.stop().await;
}

/// The status that a port answers `/readyz` with, asked from a thread that may wait.
fn readyz(address: SocketAddr) -> String {
    let mut stream = std::net::TcpStream::connect(address).expect("the port");
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_ready_only_once_its_admin_address_is_told() {
    let said = Arc::new(Mutex::new(String::new()));
    let heard = said.clone();
    let announce = Box::new(move |addresses: Addresses| {
        *heard.lock().expect("the answer") = readyz(addresses.admin);
    });
    let app = spawn_announced(&config(&[]), database().await, Clock::System, announce).await;
    assert_eq!(*said.lock().expect("the answer"), "503", "while it is told");
    assert_eq!(readyz(app.app.admin), "200");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_sees_ready_finds_the_admin_address() {
    let port = free_port();
    let place =
        Place::new(&config(&[]).replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1)).await;
    let served = Served(
        place
            .command(&["serve"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("serve"),
    );
    let (http, url) = (client(), format!("http://127.0.0.1:{port}/readyz"));
    let ready = async {
        while !http
            .get(&url)
            .send()
            .await
            .is_ok_and(|answer| answer.status() == 200)
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, ready).await.expect("ready");
    let address = std::fs::read_to_string(place.folder.path().join("data/admin.address"))
        .expect("the address");
    assert_eq!(readyz(address.parse().expect("an address")), "200");
    served.signal("TERM");
    assert!(served.ended().await.success());
    assert!(!place.folder.path().join("data/admin.address").exists());
}
