//! Claim, send, finish: what a handler gets, and what becomes of its answers.

use std::time::Duration;

use hookonce::store::delivery::{self, Attempt, Finish, Finished};
use uuid::Uuid;

use crate::app::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_gets_the_exact_bytes_the_providers_headers_and_ours() {
    let handler = Handler::start(Vec::new()).await;
    let app = spawn_app(&config(&[(
        "h",
        &handler.url(),
        &format!("signing_secret = {SECRET:?}\nauth = {{ bearer = \"ours\" }}"),
    )]))
    .await;
    let body = "{\"z\": 1.0,\r\n \"a\":\"\\u00e9\"}  ";
    let mut headers = github_headers(GITHUB_SECRET, "d-1", body.as_bytes());
    for (name, value) in [
        ("authorization", "Bearer x"),
        ("cookie", "a=b"),
        ("x-forwarded-for", "1.2.3.4"),
        ("idempotency-key", "theirs"),
        ("hookonce-fence", "99"),
        ("webhook-id", "theirs"),
        ("user-agent", "GitHub-Hookshot/1"),
    ] {
        headers.push((name.into(), value.into()));
    }
    let said = app.post("/hooks/github", &headers, body).await;
    let received = handler.received(1).await.remove(0);
    assert_eq!(received.body, body.as_bytes());
    let event = said.event().to_string();
    for (name, value) in [
        ("authorization", "Bearer ours"),
        ("webhook-id", event.as_str()),
        ("idempotency-key", &event),
        ("hookonce-source", "github"),
        ("hookonce-event-key", "d-1"),
        ("hookonce-event-type", "push"),
        ("hookonce-attempt", "1"),
        ("hookonce-fence", "1"),
        ("content-type", "application/json"),
        ("x-github-event", "push"),
        ("x-github-delivery", "d-1"),
        ("hookonce-original-webhook-id", "theirs"),
    ] {
        assert_eq!(received.header(name), Some(value), "{name}");
    }
    assert!(received.header("x-hub-signature-256").is_some());
    assert!(
        received
            .header("traceparent")
            .is_some_and(|value| value.starts_with("00-") && value.len() == 55)
    );
    for name in ["cookie", "x-forwarded-for", "hookonce-replay"] {
        assert_eq!(received.header(name), None, "{name}");
    }
    let oracle = standardwebhooks::Webhook::new(SECRET).expect("a secret");
    let timestamp: i64 = received
        .header("webhook-timestamp")
        .and_then(|value| value.parse().ok())
        .expect("a timestamp");
    assert!((now_unix() - timestamp).abs() < 60);
    let expected = oracle
        .sign(&event, timestamp, &received.body)
        .expect("a signature");
    assert_eq!(
        received.header("webhook-signature"),
        Some(expected.as_str())
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_fan_out_by_type() {
    let (all, invoices) = (
        Handler::start(Vec::new()).await,
        Handler::start(Vec::new()).await,
    );
    let config = format!(
        "{}[destinations.all]\nurl = {:?}\n[destinations.invoices]\nurl = {:?}\n[[routes]]\nsource = \"stripe\"\ndestination = \"all\"\n\
         [[routes]]\nsource = \"stripe\"\ntypes = [\"invoice.*\"]\ndestination = \"invoices\"\n",
        config(&[]),
        all.url(),
        invoices.url()
    );
    let app = spawn_app(&config).await;
    app.stripe("evt_1", "invoice.paid").await;
    app.stripe("evt_2", "charge.succeeded").await;
    all.received(2).await;
    let received = invoices.received(1).await;
    assert_eq!(
        received[0].header("hookonce-event-type"),
        Some("invoice.paid")
    );
    app.until("select count(*) from delivery where state = 'delivered'", 3)
        .await;
    assert_eq!(invoices.count(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_attempt_is_tried_again_with_the_same_id_and_a_higher_fence() {
    let handler = Handler::start(vec![Reply::Status(500), Reply::Status(302)]).await;
    let app = spawn_app(&config(&[(
        "h",
        &handler.url(),
        "retry = { base = \"1ms\" }",
    )]))
    .await;
    app.stripe("evt_1", "x").await;
    let received = handler.received(3).await;
    app.until("select count(*) from delivery where state = 'delivered'", 1)
        .await;
    let column = |name: &str| {
        received
            .iter()
            .map(|request| request.header(name).unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(column("hookonce-attempt"), ["1", "2", "3"]);
    assert_eq!(column("hookonce-fence"), ["1", "2", "3"]);
    assert!(
        column("webhook-id")
            .iter()
            .all(|id| *id == column("webhook-id")[0])
    );
    assert_eq!(app.count("select count(*) from attempt where outcome = 'retry' and error in ('status', 'redirect')").await, 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_after_its_budget_at_410_and_where_the_handler_says_no() {
    let replies = vec![Reply::Status(410), Reply::With(500, "hookonce-retry", "no")];
    let handler = Handler::start(replies).await;
    let failing = Handler::start(vec![Reply::Status(500); 10]).await;
    let app = spawn_app(&config(&[
        ("h", &handler.url(), "concurrency = 1"),
        (
            "f",
            &failing.url(),
            "retry = { base = \"1ms\", attempts_max = 3 }",
        ),
    ]))
    .await;
    app.stripe("evt_1", "x").await;
    app.until(
        "select count(*) from delivery where state = 'dead' and destination = 'h'",
        1,
    )
    .await;
    app.until(
        "select count(*) from delivery where state = 'dead' and destination = 'f' and attempts = 3",
        1,
    )
    .await;
    app.stripe("evt_2", "x").await;
    app.until(
        "select count(*) from delivery where state = 'dead' and destination = 'h' and attempts = 1",
        2,
    )
    .await;
    assert_eq!(
        app.count("select count(*) from outbox where destination = 'h'")
            .await,
        0
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_destination_delays_no_other() {
    let hung = Handler::start(vec![Reply::Hang; 100]).await;
    let quick = Handler::start(Vec::new()).await;
    let app = spawn_app(&config(&[
        ("hung", &hung.url(), "concurrency = 2"),
        ("quick", &quick.url(), ""),
    ]))
    .await;
    for n in 0..100 {
        app.stripe(&format!("evt_{n}"), "x").await;
    }
    quick.received(100).await;
    assert_eq!(hung.count(), 2);
    hung.release();
    app.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_completion_changes_nothing() {
    let handler = Handler::start(vec![Reply::Hang; 3]).await;
    let app = spawn_app(&config(&[("h", &handler.url(), "")])).await;
    app.stripe("evt_1", "x").await;
    handler.received(1).await;
    let (id, key, epoch): (Uuid, Uuid, i64) = sqlx::query_as("select id, key, epoch from outbox")
        .fetch_one(&app.pool)
        .await
        .expect("the delivery");
    sqlx::query("update outbox set lease_until = now() - interval '1 second'")
        .execute(&app.pool)
        .await
        .expect("an expired lease");
    delivery::rescue(&app.pool, None).await.expect("a rescue");
    let second = handler.received(2).await.remove(1);
    assert_eq!(second.header("hookonce-fence"), Some("2"));
    let attempt = Attempt {
        id: Uuid::now_v7(),
        started_at: time::OffsetDateTime::now_utc(),
        latency_ms: 1,
        status: Some(200),
        error: None,
        detail: None,
        response: None,
    };
    let stale = Finished {
        id: id.into(),
        key: key.into(),
        epoch,
        number: 1,
        finish: Finish::Delivered(attempt),
    };
    assert!(
        delivery::finish(&app.pool, &[&stale])
            .await
            .expect("a finish")
            .is_empty()
    );
    assert_eq!(
        app.count("select count(*) from outbox where state = 'leased' and epoch = 2")
            .await,
        1
    );
    assert_eq!(app.count("select count(*) from attempt").await, 0);
    handler.release();
    app.until("select count(*) from delivery where state = 'delivered'", 1)
        .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_finishes_its_attempts_and_loses_nothing() {
    let handler = Handler::start(vec![Reply::Hang]).await;
    let config = config(&[("h", &handler.url(), "concurrency = 1")]);
    let app = spawn_app(&config).await;
    for n in 0..20 {
        assert_eq!(
            app.stripe(&format!("evt_{n}"), "x").await.word(),
            "accepted"
        );
    }
    handler.received(1).await;
    let database = app.database_url.clone();
    let stopped = tokio::spawn(app.end());
    handler.release();
    tokio::time::timeout(LONG, stopped)
        .await
        .expect("a stop in time")
        .expect("no panic");
    let app = spawn_on(&config, database).await;
    app.until(
        "select count(*) from delivery where state = 'delivered' and attempts = 1",
        20,
    )
    .await;
    assert_eq!(app.count("select count(*) from outbox").await, 0);
    assert_eq!(handler.count(), 20);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_cut_by_the_stop_is_not_counted() {
    let handler = Handler::start(vec![Reply::Hang]).await;
    let config =
        config(&[("h", &handler.url(), "")]).replace("[relay]", "[relay]\ndrain_timeout = \"1ms\"");
    let app = spawn_app(&config).await;
    app.stripe("evt_1", "x").await;
    handler.received(1).await;
    let database = app.database_url.clone();
    tokio::time::timeout(Duration::from_secs(20), app.end())
        .await
        .expect("a stop in time");
    let app = spawn_on(&config, database).await;
    let second = handler.received(2).await.remove(1);
    assert_eq!(second.header("hookonce-attempt"), Some("1"));
    app.until(
        "select count(*) from delivery where state = 'delivered' and attempts = 1",
        1,
    )
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_destination_is_used_after_a_reload_and_a_broken_reload_changes_nothing() {
    let (old, new) = (
        Handler::start(Vec::new()).await,
        Handler::start(Vec::new()).await,
    );
    let app = spawn_app(&config(&[("h", &old.url(), "")])).await;
    app.stripe("evt_1", "x").await;
    old.received(1).await;
    let mut broken = settings(&config(&[("h", &new.url(), "")]));
    if let Some(source) = broken.sources.get_mut("stripe") {
        source.provider = "nobody".into();
    }
    assert!(app.app.reload(broken).is_err());
    // A secret whose file is gone must not go missing in silence: whoever signs with it would be
    // refused.
    let mut unreadable = settings(&config(&[("h", &new.url(), "")]));
    if let Some(source) = unreadable.sources.get_mut("stripe") {
        source.secrets.push(hookonce::settings::SecretRef::File(
            "/nonexistent/secret".into(),
        ));
    }
    let error = app
        .app
        .reload(unreadable)
        .expect_err("an error")
        .to_string();
    assert!(
        error.contains("sources.stripe: secrets[0]") && error.contains("/nonexistent/secret"),
        "{error}"
    );
    // The destination before the one that is wrong is as it was.
    let mut broken = settings(&config(&[("h", &new.url(), ""), ("z", &new.url(), "")]));
    if let Some(destination) = broken.destinations.get_mut("z") {
        destination.signing_secret = Some(hookonce::settings::SecretRef::File(
            "/nonexistent/secret".into(),
        ));
    }
    let error = app.app.reload(broken).expect_err("an error").to_string();
    assert!(
        error.contains("destination z") && error.contains("/nonexistent/secret"),
        "{error}"
    );
    app.stripe("evt_2", "x").await;
    old.received(2).await;
    app.app
        .reload(settings(&config(&[("h", &new.url(), "")])))
        .expect("a reload");
    app.stripe("evt_3", "x").await;
    new.received(1).await;
    assert_eq!(old.count(), 2);
    app.stop().await;
}

/// A handler that says yes and then has no end: what is kept is bounded. One whose answer only
/// trickles is given up in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_an_end_is_cut_off() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let handler = tokio::spawn(async move {
        for piece in [vec![b'x'; 1 << 16], b"x".to_vec()] {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .await;
            let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
            while stream.write_all(&chunk).await.is_ok() {
                tokio::task::yield_now().await;
                if piece.len() == 1 {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            }
        }
    });
    let app = spawn_app(&config(&[("h", &url, "timeout = \"500ms\"")])).await;
    app.stripe("evt_1", "x").await;
    app.until(
        "select count(*) from attempt where status = 200 and length(response) = 4096",
        1,
    )
    .await;
    app.stripe("evt_2", "x").await;
    app.until("select count(*) from attempt where error = 'timeout'", 1)
        .await;
    app.stop_with_open(1).await;
    handler.abort();
}
