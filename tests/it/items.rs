//! Requests of several events over HTTP: one answer, each item once, the original as it came.

use hmac::{KeyInit as _, Mac as _};
use reqwest::Method;
use sqlx::PgPool;

use crate::{
    app::*,
    crashes::{hold, waiting_for_the_lock},
};

const SOURCES: &str = r#"
[providers.batched]
algorithm = "hmac-sha256"
key = "body:id"
type = "body:kind"
items = "body:events"
signature = { from = "header:x-sig" }
[sources.batched]
provider = "batched"
secret = "s"
[[routes]]
source = "batched"
types = ["sent"]
destination = "handler"
"#;

async fn spawn(handler: &Handler) -> TestApp {
    spawn_app(&format!(
        "{}{SOURCES}",
        config(&[("handler", &handler.url(), "")])
    ))
    .await
}

fn signed(body: &str) -> Vec<(String, String)> {
    let mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"s")
        .expect("a key")
        .chain_update(body)
        .finalize();
    vec![
        ("x-sig".into(), hex::encode(mac.into_bytes())),
        (
            "content-type".into(),
            "application/json; charset=utf-8".into(),
        ),
    ]
}

async fn post(app: &TestApp, body: &str) -> Said {
    app.post("/hooks/batched", &signed(body), body.to_owned())
        .await
}

fn counts(said: &Said) -> [u64; 3] {
    let items = &said.json()["items"];
    ["accepted", "duplicate", "conflict"].map(|word| items[word].as_u64().expect("a count"))
}

fn batch(ids: impl Iterator<Item = usize>) -> String {
    let items: Vec<String> = ids
        .map(|id| format!(r#"{{"id":"e{id}","kind":"sent"}}"#))
        .collect();
    format!(r#"{{"events":[{}]}}"#, items.join(","))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_item_is_relayed_once_and_the_original_can_be_had() {
    let handler = Handler::start(Vec::new()).await;
    let app = spawn(&handler).await;
    let body = "{ \"events\": [ {\"id\": \"a\", \"kind\": \"sent\"}, {\"id\":\"b\",\"kind\":\"other\"},\n {\"id\":\"c\",\"kind\":\"sent\"} ] }\r\n";
    let said = post(&app, body).await;
    assert_eq!(
        (said.word(), counts(&said)),
        ("accepted".into(), [3, 0, 0]),
        "{said:?}"
    );
    let received = handler.received(2).await;
    let mut bodies: Vec<&[u8]> = received.iter().map(|request| &request.body[..]).collect();
    bodies.sort_unstable();
    assert_eq!(
        bodies,
        [
            br#"{"id": "a", "kind": "sent"}"#.as_slice(),
            br#"{"id":"c","kind":"sent"}"#
        ],
        "what a handler gets is the item"
    );
    let ids: std::collections::BTreeSet<&str> = received
        .iter()
        .filter_map(|request| request.header("webhook-id"))
        .collect();
    assert_eq!(ids.len(), 2, "each has its own id");
    for request in &received {
        assert_eq!(
            request.header("content-type"),
            Some("application/json; charset=utf-8")
        );
        let key = request.header("hookonce-event-key").expect("a key");
        assert!(String::from_utf8_lossy(&request.body).contains(key));
    }
    let events = app
        .api(Method::GET, "/events?source=batched", None)
        .await
        .json();
    let events = events["items"].as_array().expect("events");
    assert_eq!(events.len(), 3);
    for event in events {
        let id = event["id"].as_str().expect("an id");
        assert_eq!(
            app.api(Method::GET, &format!("/events/{id}/original"), None)
                .await
                .text,
            body
        );
        let shown = app
            .api(Method::GET, &format!("/events/{id}"), None)
            .await
            .json();
        assert_eq!(
            (
                &shown["original"]["items"],
                &shown["original"]["body_bytes"]
            ),
            (&3.into(), &body.len().into())
        );
    }
    assert_eq!(
        app.count("select count(*) from original").await,
        1,
        "the original is kept once"
    );
    let whole = app.stripe("evt_1", "a.b").await.event();
    let of_whole = app
        .api(Method::GET, &format!("/events/{whole}/original"), None)
        .await;
    assert!(
        of_whole.text.contains("evt_1"),
        "an event that is a whole request is its own original"
    );
    assert!(
        app.api(Method::GET, &format!("/events/{whole}"), None)
            .await
            .json()["original"]
            .is_null()
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_mixes_and_twins_are_told_apart() {
    let handler = Handler::start(Vec::new()).await;
    let app = spawn(&handler).await;
    let first = post(&app, &batch(0..3)).await;
    assert_eq!(
        (first.word(), counts(&first)),
        ("accepted".into(), [3, 0, 0])
    );
    let again = post(&app, &batch(0..3)).await;
    assert_eq!(
        (again.word(), counts(&again), again.event()),
        ("duplicate".into(), [0, 3, 0], first.event())
    );
    let mixed = post(&app, &batch(2..5)).await;
    assert_eq!(
        (mixed.word(), counts(&mixed)),
        ("accepted".into(), [2, 1, 0])
    );
    assert_ne!(mixed.event(), first.event());
    let twins = post(
        &app,
        r#"{"events":[{"id":"t"},{"id":"t"},{"id":"t","other":1},7,7]}"#,
    )
    .await;
    assert_eq!(
        (twins.word(), counts(&twins)),
        ("accepted".into(), [3, 1, 1]),
        "the first of the same key is the event; without one each is"
    );
    let conflict = post(
        &app,
        r#"{"events":[{"id":"e0","changed":true},{"id":"e1","kind":"sent"}]}"#,
    )
    .await;
    assert_eq!(
        (conflict.word(), counts(&conflict)),
        ("conflict".into(), [0, 1, 1])
    );
    let many = post(&app, &batch(1000..1900)).await;
    assert_eq!(
        counts(&many),
        [900, 0, 0],
        "more than one statement takes of requests that came singly"
    );
    let whole = post(&app, r#"{"events":[]}"#).await;
    assert_eq!(
        (whole.word(), &whole.json()["items"]),
        ("accepted".into(), &serde_json::Value::Null),
        "nothing to split: one event"
    );
    let forged = app
        .post("/hooks/batched", &signed("other"), batch(90..93))
        .await;
    assert_eq!(forged.status, 401);
    assert_eq!(
        app.count("select count(*) from event").await,
        3 + 2 + 3 + 900 + 1
    );
    assert_eq!(
        app.count("select count(*) from original").await,
        4,
        "only of requests that brought something new"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_at_once_of_one_batch_make_each_item_once() {
    let handler = Handler::start(Vec::new()).await;
    let app = spawn(&handler).await;
    // Overlapping ones in another order would deadlock, were they not sorted.
    let (there, back) = (batch(0..100), batch((0..100).rev()));
    let posts = (0..50).map(|n| post(&app, if n % 2 == 0 { &there } else { &back }));
    let said = futures_util::future::join_all(posts).await;
    let new: u64 = said.iter().map(|said| counts(said)[0]).sum();
    let known: u64 = said.iter().map(|said| counts(said)[1]).sum();
    assert_eq!((new, known), (100, 49 * 100));
    assert_eq!(app.count("select count(*) from event").await, 100);
    app.until(
        "select count(*) from delivery where state = 'delivered'",
        100,
    )
    .await;
    assert_eq!(handler.count(), 100);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_in_the_middle_leaves_all_or_nothing() {
    let handler = Handler::start(Vec::new()).await;
    let app = spawn(&handler).await;
    post(&app, &batch(0..2)).await;
    let other = PgPool::connect(&app.database_url)
        .await
        .expect("the database");
    let held = hold(&other).await;
    let body = batch(1..6);
    let (said, ()) = tokio::join!(post(&app, &body), async {
        let pid = waiting_for_the_lock(&other).await;
        let ended: bool = sqlx::query_scalar("select pg_terminate_backend($1)")
            .bind(pid)
            .fetch_one(&other)
            .await
            .expect("an end");
        assert!(ended);
        assert_eq!(
            app.count("select count(*) from event").await,
            2,
            "nothing of it is there"
        );
        held.rollback().await.expect("the lock's end");
    });
    assert_eq!((said.word(), counts(&said)), ("accepted".into(), [4, 1, 0]));
    assert_eq!(app.count("select count(*) from event").await, 6);
    app.stop().await;
}

/// A request that is one event, as its list is empty or too long, has ids of its own: one like an
/// earlier item's is no repeat of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_request_is_no_repeat_of_an_item() {
    let handler = Handler::start(Vec::new()).await;
    let app = spawn(&handler).await;
    assert_eq!(
        post(&app, r#"{"id":"b1","events":[{"id":"e1","kind":"sent"}]}"#)
            .await
            .word(),
        "accepted"
    );
    let too_many = batch(0..1001).replace("{\"events\"", "{\"id\":\"e1\",\"events\"");
    for whole in [
        r#"{"id":"e1","events":[]}"#,
        &too_many.replace("\"e1\",\"events", "\"e2\",\"events"),
    ] {
        assert_eq!(post(&app, whole).await.word(), "accepted", "{whole:.60}");
        assert_eq!(post(&app, whole).await.word(), "duplicate", "{whole:.60}");
    }
    assert_eq!(
        post(&app, r#"{"events":[{"id":"e2","kind":"sent"}]}"#)
            .await
            .word(),
        "accepted",
        "nor the other way round"
    );
    app.stop().await;
}
