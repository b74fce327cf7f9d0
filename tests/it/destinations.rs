//! What protects a destination, and the others from it: breaker, rate, a bad signing secret.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_breaker_hurts_no_other_destination() {
    let (failing, sound) = (
        Handler::start(vec![Reply::Status(500); 5]).await,
        Handler::start(Vec::new()).await,
    );
    let config = config(&[
        (
            "failing",
            &failing.url(),
            "concurrency = 1\nretry = { base = \"1ms\", cap = \"1ms\" }",
        ),
        ("sound", &sound.url(), ""),
    ]) + "[relay.breaker]\nfailures = 3\nopen = \"1h\"\n";
    let app = spawn_app(&config).await;
    for n in 0..20 {
        app.stripe(&format!("evt_{n}"), "x").await;
    }
    sound.received(20).await;
    failing.received(3).await;
    // What was handed over is given back untried; claims find nothing to do.
    app.until(
        "select count(*) from delivery where destination = 'failing' and state = 'pending'",
        20,
    )
    .await;
    app.app.relays.claim_once().await.expect("a claim");
    assert_eq!(failing.count(), 3);
    assert_eq!(
        app.count("select sum(attempts)::bigint from delivery where destination = 'failing'")
            .await,
        3
    );
    app.stop_with_open(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_breaker_lets_one_probe_through_at_a_time() {
    const OPEN: Duration = Duration::from_millis(300);
    let failing = Handler::start(vec![Reply::Status(500); 5]).await;
    let config = config(&[(
        "failing",
        &failing.url(),
        "concurrency = 1\nretry = { base = \"1ms\", cap = \"1ms\" }",
    )]) + "[relay.breaker]\nfailures = 3\nopen = \"300ms\"\n";
    let app = spawn_app(&config).await;
    for n in 0..20 {
        app.stripe(&format!("evt_{n}"), "x").await;
    }
    let received = failing.received(6).await;
    // Three failures open it; the probes that follow fail twice; the third is taken, and closes it.
    let gaps: Vec<Duration> = received
        .windows(2)
        .map(|pair| pair[1].at - pair[0].at)
        .collect();
    assert!(gaps[2..5].iter().all(|gap| *gap >= OPEN), "{gaps:?}");
    app.until(
        "select count(*) from delivery where state = 'delivered'",
        20,
    )
    .await;
    assert_eq!(failing.count(), 25);
    // What was given back untried has used up nothing.
    assert_eq!(
        app.count("select sum(attempts)::bigint from delivery")
            .await,
        25
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_probe_is_on_its_way_nothing_else_is() {
    let handler = Handler::start(vec![Reply::Status(500), Reply::Hang]).await;
    let config = config(&[(
        "h",
        &handler.url(),
        "retry = { base = \"1ms\", cap = \"1ms\" }",
    )]) + "[relay.breaker]\nfailures = 1\nopen = \"50ms\"\n";
    // Without polls the claimer learns nothing of the breaker: what comes goes to the worker in
    // memory.
    let app =
        spawn_app(&config.replace("poll_interval = \"20ms\"", "poll_interval = \"1h\"")).await;
    app.stripe("evt", "x").await;
    app.until(
        "select count(*) from delivery where state = 'pending' and attempts = 1",
        1,
    )
    .await;
    let mut count = 0;
    let probed = async {
        while handler.count() < 2 {
            let tries = (count..count + 8).map(|n| {
                let app = &app;
                async move { app.stripe(&format!("evt_{n}"), "x").await }
            });
            count += futures_util::future::join_all(tries).await.len();
            // On a busy machine the claimer's first look may be late and see the breaker open: then
            // only another finds the probe.
            if count > 400 {
                app.app.relays.claim_once().await.expect("a claim");
            }
        }
    };
    tokio::time::timeout(LONG, probed).await.expect("a probe");
    app.until("select count(*) from delivery where state = 'leased'", 1)
        .await;
    assert_eq!(handler.count(), 2);
    handler.release();
    let rest = async {
        while handler.count() < count + 2 {
            app.app.relays.claim_once().await.expect("a claim");
        }
    };
    tokio::time::timeout(LONG, rest).await.expect("the rest");
    app.until(
        "select count(*) from delivery where state = 'delivered'",
        count as i64 + 1,
    )
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_found_no_room_is_claimed_as_soon_as_there_is_some() {
    const EVENTS: usize = 60;
    let handler = Handler::start(vec![Reply::Hang]).await;
    let config = config(&[("h", &handler.url(), "concurrency = 1")]);
    // No poll helps: room that is free again has to be told. Nor does a second attempt, which only
    // a poll would find.
    let bounds = "poll_interval = \"1h\"\nhandoff_rows_max = 4\ntimeout = \"80s\"\nlease = \"90s\"";
    let app = spawn_app(&config.replace("poll_interval = \"20ms\"", bounds)).await;
    for n in 0..EVENTS {
        app.stripe(&format!("evt_{n}"), "x").await;
    }
    app.until(
        "select count(*) from delivery where state = 'pending'",
        EVENTS as i64 - 4,
    )
    .await;
    handler.release();
    handler.received(EVENTS).await;
    app.until(
        "select count(*) from delivery where state = 'delivered'",
        EVENTS as i64,
    )
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_held_from_the_first_second_and_starves_nothing() {
    const RATE: usize = 50;
    const SLACK: usize = RATE / 10;
    let handler = Handler::start(Vec::new()).await;
    let quick = Handler::start(Vec::new()).await;
    let app = spawn_app(&config(&[
        ("h", &handler.url(), "rate = 50\ntimeout = \"17s\""),
        ("quick", &quick.url(), ""),
    ]))
    .await;
    // The lease has room for one second of waiting: most of what is handed over has to go back, and
    // come again.
    let started = Instant::now();
    let tries = (0..150).map(|n| {
        let app = &app;
        async move { app.stripe(&format!("evt_{n}"), "x").await }
    });
    futures_util::future::join_all(tries).await;
    quick.received(150).await;
    assert!(handler.count() < 150);
    // Late they may be, on a busy machine, but never early: the first second has no burst.
    for (place, received) in handler.received(150).await.iter().enumerate() {
        let earliest = Duration::from_secs_f64(place.saturating_sub(SLACK) as f64 / RATE as f64);
        assert!(
            received.at >= started + earliest,
            "{place}: {:?}",
            received.at - started
        );
    }
    app.until(
        "select count(*) from delivery where state = 'delivered' and attempts = 1",
        300,
    )
    .await;
    app.stop().await;
}

/// Replays all events to this URL; the delivery that it makes, when it has ended.
async fn replayed(app: &TestApp, url: &str, ended: i64) -> Value {
    let replay = app
        .api(
            Method::POST,
            "/replays",
            Some(json!({ "source": "stripe", "to": url })),
        )
        .await
        .json();
    let id = replay["id"].as_str().unwrap_or_else(|| panic!("{replay}"));
    app.api(
        Method::POST,
        &format!("/replays/{id}/advance"),
        Some(json!({})),
    )
    .await;
    app.until(
        "select count(*) from delivery where state in ('dead', 'delivered')",
        ended,
    )
    .await;
    let listed = app.api(Method::GET, "/deliveries", None).await.json();
    let id = listed["items"][0]["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{listed}"))
        .to_owned();
    app.api(Method::GET, &format!("/deliveries/{id}"), None)
        .await
        .json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_that_a_caller_names_is_called_where_it_is_public_or_allowed() {
    let (handler, named) = (
        Handler::start(Vec::new()).await,
        Handler::start(vec![Reply::Status(200); 4]).await,
    );
    let own = config(&[("h", &handler.url(), "")]);
    let app = spawn_app(&own).await;
    app.stripe("evt", "x").await;
    app.until("select count(*) from delivery where state = 'delivered'", 1)
        .await;
    // The same address, which the settings name, has a connection that is kept open: it is not
    // taken for this.
    for (place, url) in [
        named.url(),
        named.url().replace("http://", "HTTP://"),
        handler.url(),
    ]
    .iter()
    .enumerate()
    {
        let delivery = replayed(&app, url, 2 + place as i64).await;
        assert_eq!(
            (&delivery["state"], &delivery["attempts"][0]["error"]),
            (&json!("dead"), &json!("blocked")),
            "{delivery}"
        );
        assert!(
            delivery["attempts"][0]["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains("egress.allow")),
            "{delivery}"
        );
    }
    assert_eq!((named.count(), handler.count()), (0, 1));
    let database_url = app.database_url.clone();
    app.stop().await;
    let allowed = own + "[egress]\nallow = [\"127.0.0.0/8\"]\n";
    let app = spawn_on(&allowed, database_url).await;
    let delivery = replayed(&app, &named.url(), 5).await;
    assert_eq!(
        (&delivery["state"], named.count()),
        (&json!("delivered"), 1),
        "{delivery}"
    );
    // What it has answered is for who may have it called.
    let path = format!(
        "/api/v1/deliveries/{}",
        delivery["id"].as_str().unwrap_or_default()
    );
    for (scope, sees) in [("read", None), ("operate", Some("ok"))] {
        let made = app
            .api(Method::POST, "/tokens", Some(json!({ "scopes": [scope] })))
            .await
            .json();
        let token = made["token"].as_str().unwrap_or_else(|| panic!("{made}"));
        let said = app
            .http
            .get(format!("{}{path}", app.admin))
            .bearer_auth(token)
            .send()
            .await
            .expect("an answer");
        let said: Value = said.json().await.expect("JSON");
        assert_eq!(
            (
                &said["attempts"][0]["status"],
                said["attempts"][0]["response"].as_str()
            ),
            (&json!(200), sees),
            "{said}"
        );
    }
    app.stop().await;
}
