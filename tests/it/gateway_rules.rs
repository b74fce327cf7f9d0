//! What a gateway's settings decide: which answers are final, where the key is, what a repeat may
//! differ in.

use reqwest::Method;
use serde_json::Value;

use crate::{
    app::*,
    gateway::{raw, resolve, spawn},
    upstream::*,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancers_answer_after_sending_leaves_the_outcome_unknown() {
    let large = "x".repeat(200_000);
    let api = FakeApi::start(vec![
        Act::status(502, "x-of: balancer\r\n", "bad gateway"),
        Act::status(504, "", &large),
    ])
    .await;
    let (app, shop) = spawn(&api, "").await;
    for (key, status, body) in [
        ("k-502", 502, "bad gateway"),
        ("k-504", 504, large.as_str()),
    ] {
        let first = shop.charge(key).await;
        assert_eq!(
            (first.status, first.text.as_str(), first.replayed()),
            (status, body, "false")
        );
        assert!(!first.headers.contains_key("idempotency-expires"));
        for _ in 0..2 {
            let again = shop.charge(key).await;
            again.is_problem(409, "outcome-unknown");
            assert_eq!(again.json()["step"], key);
        }
    }
    assert_eq!(api.count(), 2, "one was run again");
    let list = app
        .api(Method::GET, "/steps?status=unknown", None)
        .await
        .json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2), "{list}");
    let evidence: String = sqlx::query_scalar("select error from step where step = 'k-504'")
        .fetch_one(&app.pool)
        .await
        .expect("a step");
    assert!(evidence.contains("the upstream answered 504"), "{evidence}");
    let problem = shop.charge("k-504").await.json();
    assert_eq!(
        resolve(&app, &problem, "not-executed", None).await.status,
        200
    );
    assert_eq!(shop.charge("k-504").await.status, 201);
    shop.charge("k-502")
        .await
        .is_problem(409, "outcome-unknown");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_settings_say_which_statuses_are_kept() {
    let statuses = [502, 504, 503, 429, 524];
    let acts = statuses
        .map(|status| Act::status(status, "", "why"))
        .to_vec();
    let api = FakeApi::start(acts).await;
    let (app, shop) = spawn(&api, "not_kept = [502]\nunknown = [524]").await;
    for (status, again) in [
        (502, Some((201, "false"))),
        (504, Some((504, "true"))),
        (503, Some((503, "true"))),
        (429, Some((429, "true"))),
        (524, None),
    ] {
        // Asked in the order of the acts; the repeat of 502 alone comes through.
        let key = format!("k-{status}");
        let first = shop.charge(&key).await;
        assert_eq!((first.status, first.replayed()), (status, "false"));
        if status != 502 {
            let repeat = shop.charge(&key).await;
            match again {
                Some(expected) => assert_eq!((repeat.status, repeat.replayed()), expected),
                None => repeat.is_problem(409, "outcome-unknown"),
            }
        }
    }
    let repeat = shop.charge("k-502").await;
    assert_eq!((repeat.status, repeat.replayed()), (201, "false"));
    assert_eq!(api.count(), 6);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_knows_the_key_is_asked_again_after_a_balancers_answer() {
    let failed = |status| Act::status(status, "", "why");
    let api = FakeApi::start(vec![
        failed(504),
        failed(502),
        Act::status(200, "", "third"),
        failed(504),
        failed(504),
        failed(504),
    ])
    .await;
    let (app, shop) = spawn(&api, "upstream_idempotent = true").await;
    let first = shop.charge("k").await;
    assert_eq!(
        (
            first.status,
            first.text.as_str(),
            first.replayed(),
            api.count()
        ),
        (200, "third", "false", 3)
    );
    assert_eq!(shop.charge("k").await.replayed(), "true");
    // After `attempts_max` calls the caller has the answer, and the key is free.
    let last = shop.charge("l").await;
    assert_eq!(
        (last.status, last.text.as_str(), api.count()),
        (504, "why", 6)
    );
    let again = shop.charge("l").await;
    assert_eq!((again.status, again.replayed()), (201, "false"));
    assert!(
        api.seen(api.count())
            .await
            .iter()
            .all(|seen| matches!(seen.header("idempotency-key"), Some("k" | "l")))
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_is_in_the_header_that_the_settings_name() {
    let api = FakeApi::start(Vec::new()).await;
    let (app, shop) = spawn(&api, "key_header = \"X-Request-Key\"").await;
    let post = |name: &'static str, key: &'static str| {
        said(
            shop.request(Method::POST, "/charges")
                .header(name, key)
                .body("x"),
        )
    };
    let missing = post("idempotency-key", "k").await;
    missing.is_problem(400, "key-missing");
    assert!(missing.text.contains("x-request-key"), "{missing:?}");
    for (key, replayed) in [("k", "false"), ("\"k\"", "true"), ("\"k\";a=1", "true")] {
        assert_eq!(
            post("x-request-key", key).await.replayed(),
            replayed,
            "{key}"
        );
    }
    post("x-request-key", "\"k\";A")
        .await
        .is_problem(400, "key-malformed");
    // To the caller's Idempotency-Key nothing is done; the key itself stays here.
    let both = shop
        .request(Method::POST, "/charges")
        .header("x-request-key", "l")
        .header("idempotency-key", "mine");
    assert_eq!(said(both.body("x")).await.replayed(), "false");
    let seen = api.seen(2).await;
    assert_eq!(
        (
            seen[1].header("x-request-key"),
            seen[1].header("idempotency-key")
        ),
        (None, Some("mine"))
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_may_have_parameters() {
    let api = FakeApi::start(Vec::new()).await;
    let (app, shop) = spawn(&api, "").await;
    assert_eq!(shop.charge("\"k\";a=1").await.replayed(), "false");
    for key in ["k", "\"k\"", "\"k\"; b;c=?0"] {
        assert_eq!(shop.charge(key).await.replayed(), "true", "{key}");
    }
    // Without quotes it is another key.
    assert_eq!(shop.charge("k;a=1").await.replayed(), "false");
    let twice = raw(
        &shop,
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nidempotency-key: \"k\", \"l\"\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    assert!(twice.contains("key-malformed"), "{twice}");
    assert_eq!(api.count(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_that_are_ignored_may_differ_in_a_repeat() {
    let api = FakeApi::start(Vec::new()).await;
    let rules = "fingerprint_ignore = [\"body:/timestamp\", \"form:at\"]\n\
        [[gateways.pay.paths]]\npath = \"/strict\"\nfingerprint_ignore = []\n\
        [[gateways.pay.paths]]\npath = \"/digest\"\nkey_from = \"digest\"\n";
    let (app, shop) = spawn(&api, rules).await;
    let post = |path: &'static str, key: &'static str, body: &'static str| {
        let request = shop.request(Method::POST, path).body(body);
        said(if key.is_empty() {
            request
        } else {
            request.header("idempotency-key", key)
        })
    };
    let (one, two) = (
        r#"{"amount":5,"timestamp":1}"#,
        r#"{"amount":5, "timestamp":2}"#,
    );
    let first = post("/a", "k", one).await;
    let again = post("/a", "k", two).await;
    assert_eq!(
        (first.replayed(), again.replayed(), &again.text),
        ("false", "true", &first.text)
    );
    assert_eq!(post("/a", "k", r#"{"amount":5}"#).await.replayed(), "true");
    post("/a", "k", r#"{"amount":6,"timestamp":1}"#)
        .await
        .is_problem(422, "key-reused");
    assert_eq!(post("/a", "f", "a=1&at=2").await.replayed(), "false");
    assert_eq!(post("/a", "f", "a=1&at=3").await.replayed(), "true");
    post("/a", "f", "a=2&at=2")
        .await
        .is_problem(422, "key-reused");
    // A path's own rule is the whole rule.
    assert_eq!(post("/strict", "s", one).await.replayed(), "false");
    post("/strict", "s", two)
        .await
        .is_problem(422, "key-reused");
    // The key that is the digest has the places no more than the fingerprint.
    assert_eq!(post("/digest", "", one).await.replayed(), "false");
    assert_eq!(post("/digest", "", two).await.replayed(), "true");
    let seen = api.seen(4).await;
    assert_eq!(
        (seen.len(), seen[0].body.as_slice()),
        (4, one.as_bytes()),
        "the upstream did not get the body as it came"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_call_says_who_asked_for_what() {
    let gone = || Act::SayAndClose(String::new());
    let api = FakeApi::start(vec![gone(), gone()]).await;
    let (app, shop) = spawn(&api, "callers = { shop = \"Bearer shop\" }").await;
    shop.charge("k").await.is_problem(409, "outcome-unknown");
    let problem = shop.charge("k").await.json();
    let step = |problem: &Value| {
        let (run, step) = (&problem["run"], &problem["step"]);
        format!(
            "{}/v1/runs/{}/steps/{}?tenant=gateway:pay",
            app.admin,
            run.as_str().expect("a run"),
            step.as_str().expect("a step")
        )
    };
    let shown = said(app.http.get(step(&problem)).bearer_auth(TOKEN))
        .await
        .json();
    assert_eq!(shown["owner"], "shop", "{shown}");
    let request = &shown["request"];
    assert_eq!(
        [&request["caller"], &request["method"], &request["path"]],
        ["shop", "POST", "/charges"],
        "{shown}"
    );
    assert!(request["sent_at"].is_string(), "{shown}");
    assert!(shown["claimed_at"].is_string(), "{shown}");
    // One that the settings don't name has no name, and its credential is nowhere.
    let mut other = shop.order("k").build().expect("a request");
    other
        .headers_mut()
        .insert("authorization", "Bearer other".parse().expect("a value"));
    let other = app.http.execute(other).await.expect("an answer");
    let problem: Value =
        serde_json::from_slice(&other.bytes().await.expect("a body")).expect("JSON");
    let shown = said(app.http.get(step(&problem)).bearer_auth(TOKEN)).await;
    assert!(
        shown.json()["owner"].is_null() && !shown.text.contains("Bearer"),
        "{shown:?}"
    );
    app.stop().await;
}
