//! Handshakes over HTTP, secrets that come in one, and what single providers insist on.

use std::io::Write as _;

use hmac::{KeyInit as _, Mac as _};
use reqwest::Method;

use crate::app::*;

const SOURCES: &str = r#"
[sources.asana]
provider = "asana"
learn_secret = true
[sources.drop]
provider = "dropbox"
secret = "s"
[sources.trello]
provider = "trello"
secret = "s"
[sources.events]
provider = "cloudevents-webhook"
secret = "s"
[sources.xero]
provider = "xero"
secret = "s"
[sources.chargebee]
provider = "chargebee"
secret = "user:pass"
[sources.stream]
provider = "stream"
secret = "s"
[sources.square]
provider = "square"
secret = "s"
url = "https://shop.example/square"
"#;

async fn spawn() -> TestApp {
    spawn_app(&format!("{}{SOURCES}", config(&[]))).await
}

fn hmac_sha256(secret: &str, content: &[u8]) -> Vec<u8> {
    let mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).expect("a key");
    mac.chain_update(content).finalize().into_bytes().to_vec()
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn header(name: &str, value: &str) -> Vec<(String, String)> {
    vec![(name.to_owned(), value.to_owned())]
}

async fn asana_event(app: &TestApp, secret: &str, body: &'static str) -> Said {
    app.post(
        "/hooks/asana",
        &header(
            "x-hook-signature",
            &hex::encode(hmac_sha256(secret, body.as_bytes())),
        ),
        body,
    )
    .await
}

async fn asana_offers(app: &TestApp, secret: &str) -> Said {
    app.post("/hooks/asana", &header("x-hook-secret", secret), "{}")
        .await
}

async fn secret_of_asana(app: &TestApp) -> String {
    let sources = app.api(Method::GET, "/sources", None).await.json();
    let sources = sources["items"].as_array().expect("items");
    sources
        .iter()
        .find(|source| source["name"] == "asana")
        .expect("asana")["secret"]
        .as_str()
        .expect("a state")
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_learnt_once_kept_over_a_restart_and_forgotten_on_demand() {
    let app = spawn().await;
    assert_eq!(secret_of_asana(&app).await, "open");
    assert_eq!(
        asana_event(&app, "first", "{}").await.status,
        401,
        "nothing is accepted without a secret"
    );
    let said = asana_offers(&app, "first").await;
    assert_eq!(
        (
            said.status,
            said.headers["x-hook-secret"].to_str().ok(),
            said.text.as_str()
        ),
        (200, Some("first"), "")
    );
    assert_eq!(secret_of_asana(&app).await, "learnt");
    assert_eq!(
        asana_event(&app, "first", r#"{"events":[]}"#).await.word(),
        "accepted"
    );
    assert_eq!(
        asana_offers(&app, "second").await.status,
        401,
        "no other secret is taken"
    );
    assert_eq!(
        asana_offers(&app, "first").await.status,
        200,
        "the same may be offered again"
    );
    assert_eq!(asana_event(&app, "second", "{}").await.status, 401);
    let shown = app.api(Method::GET, "/sources/asana/secret", None).await;
    assert_eq!(
        (
            shown.json()["secret"].as_str(),
            shown.headers["cache-control"].to_str().ok()
        ),
        (Some("first"), Some("no-store"))
    );
    assert_eq!(
        app.api(Method::GET, "/sources/drop/secret", None)
            .await
            .status,
        404
    );

    let (config, database) = (
        format!("{}{SOURCES}", config(&[])),
        app.database_url.clone(),
    );
    app.stop().await;
    let app = spawn_on(&config, database).await;
    assert_eq!(
        asana_event(&app, "first", r#"{"events":[1]}"#).await.word(),
        "accepted"
    );
    assert_eq!(
        app.api(Method::POST, "/sources/asana/secret/forget", None)
            .await
            .status,
        200
    );
    assert_eq!(
        app.api(Method::POST, "/sources/asana/secret/forget", None)
            .await
            .status,
        404
    );
    let opened = async {
        while asana_offers(&app, "third").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, opened)
        .await
        .expect("open again");
    assert_eq!(
        asana_event(&app, "third", r#"{"events":[2]}"#).await.word(),
        "accepted"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_secrets_at_once_on_two_nodes_one_is_kept() {
    let one = spawn().await;
    let two = spawn_on(
        &format!("{}{SOURCES}", config(&[])),
        one.database_url.clone(),
    )
    .await;
    let (a, b) = tokio::join!(asana_offers(&one, "a"), asana_offers(&two, "b"));
    let mut answers = [a.status, b.status];
    answers.sort_unstable();
    assert_eq!(answers, [200, 401]);
    assert_eq!(one.count("select count(*) from learnt_secret").await, 1);
    let kept = if a.status == 200 { "a" } else { "b" };
    let followed = async {
        for app in [&one, &two] {
            while asana_event(app, kept, "{}").await.status != 200 {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::time::timeout(LONG, followed)
        .await
        .expect("the other node looks at the database");
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_come_by_the_methods_that_their_providers_use() {
    let app = spawn().await;
    let ask = |method: Method, path: &str| app.http.request(method, format!("{}{path}", app.url));
    let answer = ask(Method::GET, "/hooks/drop?challenge=%3Cscript%3E")
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(
        (
            answer.headers()["x-content-type-options"].as_bytes(),
            answer.headers()["content-type"].as_bytes()
        ),
        (&b"nosniff"[..], &b"text/plain"[..])
    );
    assert_eq!(answer.text().await.expect("a body"), "<script>");
    let status = |request: reqwest::RequestBuilder| async move {
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(status(ask(Method::GET, "/hooks/drop")).await, 401);
    assert_eq!(status(ask(Method::HEAD, "/hooks/trello")).await, 200);
    for (method, path) in [
        (Method::GET, "/hooks/trello"),
        (Method::HEAD, "/hooks/github"),
        (Method::GET, "/hooks/github"),
        (Method::PUT, "/hooks/drop"),
    ] {
        assert_eq!(status(ask(method, path)).await, 405, "{path}");
    }
    assert_eq!(
        status(ask(Method::GET, "/hooks/nobody?challenge=x")).await,
        404
    );
    let options = ask(Method::OPTIONS, "/hooks/events")
        .header("webhook-request-origin", "emitter.example")
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        (
            options.status().as_u16(),
            options.headers()["webhook-allowed-origin"].as_bytes()
        ),
        (200, &b"emitter.example"[..])
    );
    assert_eq!(app.count("select count(*) from event").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_providers_insist_on_is_kept() {
    let app = spawn().await;
    let said = app
        .post(
            "/hooks/xero",
            &header("x-xero-signature", &base64(&[0; 32])),
            "{}",
        )
        .await;
    assert_eq!((said.status, said.text.as_str()), (401, ""));
    let said = app
        .post(
            "/hooks/xero",
            &header("x-xero-signature", &base64(&hmac_sha256("s", b"{}"))),
            "{}",
        )
        .await;
    assert_eq!(
        (
            said.status,
            said.text.as_str(),
            said.headers["hookonce-status"].as_bytes()
        ),
        (200, "", &b"accepted"[..])
    );

    let said = app.post("/hooks/chargebee", &[], r#"{"id":"e1"}"#).await;
    assert_eq!(
        (said.status, said.headers["www-authenticate"].to_str().ok()),
        (401, Some("Basic realm=\"hookonce\""))
    );
    let said = app
        .post(
            "/hooks/chargebee",
            &header("authorization", &format!("Basic {}", base64(b"user:pass"))),
            r#"{"id":"e1"}"#,
        )
        .await;
    assert_eq!(said.word(), "accepted");

    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder
        .write_all(br#"{"type":"message.new"}"#)
        .expect("packed");
    let packed = encoder.finish().expect("packed");
    let mut headers = header(
        "x-signature",
        &hex::encode(hmac_sha256("s", br#"{"type":"message.new"}"#)),
    );
    headers.extend(header("content-encoding", "gzip"));
    assert_eq!(
        app.post("/hooks/stream", &headers, packed.clone())
            .await
            .word(),
        "accepted"
    );
    let stored: Vec<u8> = sqlx::query_scalar("select body from event where source = 'stream'")
        .fetch_one(&app.pool)
        .await
        .expect("the body");
    assert_eq!(stored, packed, "the exact bytes");
    assert_eq!(
        app.post("/hooks/github", &headers, packed.clone())
            .await
            .status,
        415
    );

    let signature = base64(&hmac_sha256(
        "s",
        br#"https://shop.example/square{"event_id":"e1"}"#,
    ));
    let said = app
        .post(
            "/hooks/square",
            &header("x-square-hmacsha256-signature", &signature),
            r#"{"event_id":"e1"}"#,
        )
        .await;
    assert_eq!(said.word(), "accepted");
    app.stop().await;
}
