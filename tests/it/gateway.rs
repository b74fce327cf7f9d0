//! The Idempotency-Key gateway in front of an API that lacks one: each promise against a real
//! upstream.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{app::*, process::OwnServer, upstream::*};

/// One who calls through the gateway.
#[derive(Clone)]
pub struct Shop {
    http: reqwest::Client,
    pub base: String,
}

impl Shop {
    pub fn of(app: &TestApp) -> Self {
        Self {
            http: app.http.clone(),
            base: format!("http://{}", app.app.gateways["pay"]),
        }
    }

    pub fn at(base: String) -> Self {
        Self {
            http: client(),
            base,
        }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .header("authorization", "Bearer shop")
    }

    pub fn order(&self, key: &str) -> RequestBuilder {
        self.request(Method::POST, "/charges?a=1")
            .header("idempotency-key", key)
            .header("content-type", "application/json")
            .body(r#"{"amount":5}"#)
    }

    pub async fn charge(&self, key: &str) -> Said {
        said(self.order(key)).await
    }
}

impl Said {
    pub fn replayed(&self) -> &str {
        self.headers
            .get("idempotent-replayed")
            .map_or("", |value| value.to_str().expect("text"))
    }

    pub fn is_problem(&self, status: u16, kind: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.json()["type"],
            format!("urn:hookonce:problem:{kind}"),
            "{self:?}"
        );
        assert_eq!(self.headers["content-type"], "application/problem+json");
    }
}

pub async fn spawn(api: &FakeApi, more: &str) -> (TestApp, Shop) {
    let app = spawn_app(&(config(&[]) + &api.gateway(more))).await;
    let shop = Shop::of(&app);
    (app, shop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_is_executed_and_its_repeats_get_the_same_answer() {
    let api = FakeApi::start(vec![Act::status(
        200,
        "set-cookie: a=1\r\nset-cookie: b=2\r\nx-odd: caf\u{e9}\r\n",
        "{\"id\": \"ch_1\" }",
    )])
    .await;
    let (app, shop) = spawn(&api, "").await;
    let first = shop.charge("k-1").await;
    assert_eq!(
        (first.status, first.text.as_str(), first.replayed()),
        (200, "{\"id\": \"ch_1\" }", "false")
    );
    assert!(
        first.headers["idempotency-expires"]
            .to_str()
            .expect("text")
            .ends_with(" GMT")
    );
    for key in ["k-1", "\"k-1\"", " \"k-1\""] {
        let again = shop.charge(key).await;
        assert_eq!(
            (again.status, again.text.as_str(), again.replayed()),
            (200, first.text.as_str(), "true"),
            "{key}"
        );
        assert_eq!(again.headers.get_all("set-cookie").iter().count(), 2);
        assert_eq!(again.headers["x-odd"], first.headers["x-odd"]);
        assert!(again.headers.contains_key("idempotency-expires"));
    }
    // Another key, and another caller's same key, are other operations.
    assert_eq!(shop.charge("k-2").await.replayed(), "false");
    let mut other = shop.order("k-1").build().expect("a request");
    other
        .headers_mut()
        .insert("authorization", "Bearer other".parse().expect("a value"));
    let other = app.http.execute(other).await.expect("an answer");
    assert_eq!(other.headers()["idempotent-replayed"], "false");
    let seen = api.seen(3).await;
    assert_eq!(
        (seen.len(), seen[0].method.as_str(), seen[0].target.as_str()),
        (3, "POST", "/charges?a=1")
    );
    assert_eq!(
        (seen[0].body.as_slice(), seen[0].header("idempotency-key")),
        (&br#"{"amount":5}"#[..], None)
    );
    app.stop().await;
}

/// A repeat is one read: not a byte of WAL is written for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_writes_nothing() {
    let server = OwnServer::start(&[
        ("wal_level", "minimal"),
        ("max_wal_senders", "0"),
        ("autovacuum", "off"),
    ])
    .await;
    let api = FakeApi::start(Vec::new()).await;
    let app = spawn_on(&(config(&[]) + &api.gateway("")), server.url()).await;
    let shop = Shop::of(&app);
    assert_eq!(shop.charge("k").await.replayed(), "false");
    // The first read may mark rows as committed, which counts as a change of the page.
    assert_eq!(shop.charge("k").await.replayed(), "true");
    // The walk over new steps passes each once, and notes how far it came.
    let walked = "select count(*) from step_walk w where name = 'new' and after >= (select max(id::text) from step)::uuid";
    app.until(walked, 1).await;
    let lsn = "select (pg_current_wal_insert_lsn() - '0/0')::bigint";
    // What the node does beside it may write something now and then, but not each time.
    let mut written = Vec::new();
    while written.last() != Some(&0) && written.len() < 10 {
        let before = app.count(lsn).await;
        for _ in 0..50 {
            assert_eq!(shop.charge("k").await.replayed(), "true");
        }
        written.push(app.count(lsn).await - before);
    }
    assert_eq!(written.last(), Some(&0), "{written:?}");
    assert_eq!(api.count(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn final_errors_are_given_again_and_those_that_mean_not_yet_are_not() {
    let finals = [
        (302, "location: /x\r\n"),
        (400, ""),
        (402, ""),
        (404, ""),
        (422, ""),
        (500, ""),
        (501, ""),
    ];
    let passing = [
        (401, ""),
        (403, ""),
        (408, ""),
        (409, ""),
        (423, ""),
        (425, ""),
        (429, ""),
        (503, ""),
        (503, "retry-after: 1\r\n"),
    ];
    let acts = finals
        .iter()
        .chain(&passing)
        .map(|(status, head)| Act::status(*status, head, "why"))
        .collect();
    let api = FakeApi::start(acts).await;
    let app = spawn_app(&(config(&[]) + &api.gateway(""))).await;
    let no_redirects = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client");
    let shop = Shop {
        http: no_redirects,
        ..Shop::of(&app)
    };
    for (index, (status, _)) in finals.iter().enumerate() {
        let key = format!("final-{index}");
        let (first, again) = (shop.charge(&key).await, shop.charge(&key).await);
        assert_eq!(
            (
                first.status,
                first.replayed(),
                again.status,
                again.replayed()
            ),
            (*status, "false", *status, "true")
        );
        assert_eq!((first.text.as_str(), again.text.as_str()), ("why", "why"));
    }
    assert_eq!(api.count(), finals.len());
    for (index, (status, _)) in passing.iter().enumerate() {
        let first = shop.charge(&format!("passing-{index}")).await;
        assert_eq!(
            (first.status, first.replayed(), first.text.as_str()),
            (*status, "false", "why")
        );
        assert!(!first.headers.contains_key("idempotency-expires"));
    }
    for index in 0..passing.len() {
        // The key is free, for another body too.
        let again = said(shop.order(&format!("passing-{index}")).body("{}")).await;
        assert_eq!((again.status, again.replayed()), (201, "false"));
    }
    assert_eq!(api.count(), finals.len() + 2 * passing.len());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_at_once_on_two_nodes_get_the_bytes_of_one_execution() {
    let api = FakeApi::start(vec![Act::Hang]).await;
    let (one, shop) = spawn(&api, "").await;
    let two = spawn_on(&(config(&[]) + &api.gateway("")), one.database_url.clone()).await;
    let other = Shop::of(&two);
    let first = tokio::spawn({
        let shop = shop.clone();
        async move { shop.charge("k").await }
    });
    api.seen(1).await;
    let refused = said(other.order("k").header("prefer", "respond-async, wait=0")).await;
    refused.is_problem(409, "in-progress");
    assert!(refused.headers.contains_key("retry-after"));
    let waiting: Vec<_> = (0..12)
        .map(|n| {
            tokio::spawn(said(
                [&shop, &other][n % 2]
                    .order("k")
                    .header("prefer", "wait=30"),
            ))
        })
        .collect();
    // One that waits by itself, for less long.
    let unasked = tokio::spawn(said(shop.order("k")));
    one.until("select count(*) from step where state = 'running'", 1)
        .await;
    api.let_go(1);
    let first = first.await.expect("the first");
    assert_eq!((first.status, first.replayed()), (201, "false"));
    for waiter in waiting.into_iter().chain([unasked]) {
        let said = waiter.await.expect("a waiter");
        assert_eq!(
            (said.status, said.text.as_str(), said.replayed()),
            (201, first.text.as_str(), "true")
        );
    }
    assert_eq!(api.count(), 1);
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_first_uses_at_once_on_two_nodes_are_one_execution_each() {
    let api = FakeApi::start(Vec::new()).await;
    let (one, shop) = spawn(&api, "").await;
    let two = spawn_on(&(config(&[]) + &api.gateway("")), one.database_url.clone()).await;
    let other = Shop::of(&two);
    let calls = (0..200).map(|n| {
        let shop = [&shop, &other][n % 2].clone();
        async move {
            said(
                shop.order(&format!("k-{}", n / 8))
                    .header("prefer", "wait=30"),
            )
            .await
        }
    });
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(
        answers
            .iter()
            .filter(|said| said.replayed() == "false")
            .count(),
        25
    );
    for of_key in answers.chunks(8) {
        assert!(
            of_key
                .iter()
                .all(|said| said.status == 201 && said.text == of_key[0].text),
            "{of_key:?}"
        );
    }
    assert_eq!(api.count(), 25);
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_request_under_a_key_and_no_good_key_are_refused() {
    let api = FakeApi::start(Vec::new()).await;
    let (app, shop) = spawn(
        &api,
        "[[gateways.pay.paths]]\npath = \"/open/*\"\nkey = \"optional\"",
    )
    .await;
    assert_eq!(shop.charge("k").await.status, 201);
    let keyed = |method, path: &str| {
        shop.request(method, path)
            .header("idempotency-key", "k")
            .header("content-type", "application/json")
    };
    let same = r#"{"amount":5}"#;
    for other in [
        keyed(Method::POST, "/charges?a=1").body(r#"{"amount":6}"#),
        keyed(Method::POST, "/charges?a=2").body(same),
        keyed(Method::POST, "/refunds?a=1").body(same),
        keyed(Method::PATCH, "/charges?a=1").body(same),
        shop.request(Method::POST, "/charges?a=1")
            .header("idempotency-key", "k")
            .header("content-type", "text/plain")
            .body(same),
    ] {
        said(other).await.is_problem(422, "key-reused");
    }
    assert_eq!(shop.charge("k").await.replayed(), "true");
    said(shop.request(Method::POST, "/charges").body("x"))
        .await
        .is_problem(400, "key-missing");
    said(shop.request(Method::PATCH, "/charges").body("x"))
        .await
        .is_problem(400, "key-missing");
    for key in ["", "\"\"", "\"k", "a b", &"k".repeat(256)] {
        shop.charge(key).await.is_problem(400, "key-malformed");
    }
    said(shop.order("k").header("idempotency-key", "l"))
        .await
        .is_problem(400, "key-malformed");
    assert_eq!(api.count(), 1);
    let open = said(shop.request(Method::POST, "/open/1").body("x")).await;
    assert_eq!((open.status, open.replayed()), (201, ""));
    // Another spelling of a path finds the same rule.
    let raw = raw(&shop, "POST /open/../charges HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx").await;
    assert!(
        raw.starts_with("HTTP/1.1 400") && raw.contains("key-missing"),
        "{raw}"
    );
    let keyed = said(
        shop.request(Method::POST, "/open/1")
            .header("idempotency-key", "o")
            .body("x"),
    )
    .await;
    assert_eq!(keyed.replayed(), "false");
    assert_eq!(api.count(), 3);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_key_is_refused_until_it_is_forgotten() {
    let api = FakeApi::start(Vec::new()).await;
    let (app, shop) = spawn(&api, "keep = \"1h\"\nexpired_keep = \"2h\"").await;
    assert_eq!(shop.charge("k").await.replayed(), "false");
    assert_eq!(
        app.count("select extract(epoch from expires_at - ended_at)::bigint from step")
            .await,
        3 * 3600
    );
    sqlx::query("update step set ended_at = ended_at - interval '59 minutes'")
        .execute(&app.pool)
        .await
        .expect("an update");
    assert_eq!(shop.charge("k").await.replayed(), "true");
    sqlx::query("update step set ended_at = ended_at - interval '2 minutes'")
        .execute(&app.pool)
        .await
        .expect("an update");
    shop.charge("k").await.is_problem(410, "key-expired");
    said(shop.order("k").body("other"))
        .await
        .is_problem(410, "key-expired");
    // As if three hours had passed.
    let past = "update step set id = '00000000-0000-7000-8000-000000000000', expires_at = now() - interval '1 second'";
    sqlx::query(past)
        .execute(&app.pool)
        .await
        .expect("an update");
    assert_eq!(
        app.api(Method::POST, "/prune", None).await.json()["steps"],
        1
    );
    assert_eq!(shop.charge("k").await.replayed(), "false");
    assert_eq!(api.count(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_caller_went_away_ends_and_is_kept() {
    let api = FakeApi::start(vec![Act::Hang, Act::Hang]).await;
    let (app, shop) = spawn(&api, "").await;
    let gone = tokio::time::timeout(Duration::from_millis(300), shop.charge("k"));
    let (gone, _) = tokio::join!(gone, api.seen(1));
    assert!(gone.is_err());
    api.let_go(1);
    let kept = said(shop.order("k").header("prefer", "wait=30")).await;
    assert_eq!(
        (kept.status, kept.text.as_str(), kept.replayed()),
        (201, "{\"n\":001}", "true")
    );
    // So does one that is on its way when the service stops.
    let gone = tokio::time::timeout(Duration::from_millis(300), shop.charge("l"));
    let (gone, _) = tokio::join!(gone, api.seen(2));
    assert!(gone.is_err());
    let database_url = app.database_url.clone();
    let stopping = tokio::spawn(app.end());
    api.let_go(1);
    stopping.await.expect("the stop");
    let app = spawn_on(&(config(&[]) + &api.gateway("")), database_url).await;
    assert_eq!(Shop::of(&app).charge("l").await.replayed(), "true");
    assert_eq!(api.count(), 2);
    app.stop().await;
}

async fn unknown(app: &TestApp) -> Value {
    let list = app
        .api(
            Method::GET,
            "/steps?status=unknown&tenant=gateway:pay",
            None,
        )
        .await
        .json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
    list["items"][0].clone()
}

pub async fn resolve(app: &TestApp, problem: &Value, outcome: &str, result: Option<Value>) -> Said {
    let (run, step) = (
        problem["run"].as_str().expect("a run"),
        problem["step"].as_str().expect("a step"),
    );
    let url = format!(
        "{}/v1/runs/{run}/steps/{step}/resolve?tenant=gateway:pay",
        app.admin
    );
    let mut body = json!({ "expected_fence": problem["fence"], "outcome": outcome, "evidence": "looked into its list" });
    if let Some(result) = result {
        body["result"] = result;
    }
    said(app.http.post(url).bearer_auth(TOKEN).json(&body)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_upstream_leaves_the_outcome_unknown_until_somebody_says() {
    let api = FakeApi::start(vec![Act::Hang]).await;
    let (app, shop) = spawn(&api, "connect_timeout = \"200ms\"\ntimeout = \"300ms\"").await;
    let first = shop.charge("k").await;
    first.is_problem(409, "outcome-unknown");
    let again = shop.charge("k").await;
    again.is_problem(409, "outcome-unknown");
    assert_eq!(api.count(), 1, "it was run again");
    let listed = unknown(&app).await;
    let problem = again.json();
    assert_eq!(
        (&listed["run"], &listed["step"], &listed["fence"]),
        (&problem["run"], &problem["step"], &problem["fence"])
    );
    assert_eq!(
        resolve(&app, &problem, "done", Some(json!("no answer")))
            .await
            .status,
        400
    );
    assert_eq!(
        resolve(&app, &problem, "not-executed", None).await.status,
        200
    );
    let executed = shop.charge("k").await;
    assert_eq!(
        (executed.status, executed.replayed(), api.count()),
        (201, "false", 2)
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_off_leaves_the_outcome_unknown() {
    let broken = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let api = FakeApi::start(
        [
            String::new(),
            "HTTP/1.1 2".into(),
            broken.into(),
            chunked.into(),
        ]
        .map(Act::SayAndClose)
        .to_vec(),
    )
    .await;
    let (app, shop) = spawn(&api, "").await;
    for n in 1..=3 {
        shop.charge(&format!("k-{n}"))
            .await
            .is_problem(409, "outcome-unknown");
    }
    let begun = shop.order("k-4").send().await.expect("a head");
    assert_eq!(begun.status(), 200);
    assert!(
        begun.text().await.is_err(),
        "half an answer passed for a whole one"
    );
    for n in 1..=4 {
        shop.charge(&format!("k-{n}"))
            .await
            .is_problem(409, "outcome-unknown");
    }
    assert_eq!(api.count(), 4);
    let problem = shop.charge("k-4").await.json();
    let answer =
        json!({ "status": 201, "headers": [["x-found", "by hand"]], "body": "{\"id\":7}" });
    assert_eq!(
        resolve(&app, &problem, "done", Some(answer)).await.status,
        200
    );
    let replayed = shop.charge("k-4").await;
    assert_eq!(
        (replayed.status, replayed.text.as_str(), replayed.replayed()),
        (201, "{\"id\":7}", "true")
    );
    assert_eq!(replayed.headers["x-found"], "by hand");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_never_sent_leaves_its_key_free() {
    let address = format!("127.0.0.1:{}", crate::process::free_port())
        .parse()
        .expect("an address");
    let app = spawn_app(&(config(&[]) + &gateway_config(address, ""))).await;
    let shop = Shop::of(&app);
    let refused = shop.charge("k").await;
    refused.is_problem(503, "upstream-unreachable");
    assert!(refused.headers.contains_key("retry-after"));
    let through = said(shop.request(Method::GET, "/x")).await;
    through.is_problem(503, "upstream-unreachable");
    let api = FakeApi::start_at(address, Vec::new()).await;
    let first = said(shop.order("k").body("another body")).await;
    assert_eq!(
        (first.status, first.replayed(), api.count()),
        (201, "false", 1)
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streamed_answer_is_passed_on_as_it_comes_and_ends_when_it_is_recorded() {
    let parts = [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\ncontent-type: text/event-stream\r\n\r\n3\r\none\r\n",
        "3\r\ntwo\r\n",
        "5\r\nthree\r\n",
        "0\r\nx-sum: 1\r\n\r\n",
    ];
    let api = FakeApi::start(vec![Act::Parts(parts.map(str::to_owned).to_vec())]).await;
    let (app, shop) = spawn(&api, "").await;
    let mut first = shop.order("k").send().await.expect("a head");
    assert_eq!(
        (
            first.status().as_u16(),
            &first.headers()["idempotent-replayed"]
        ),
        (200, &reqwest::header::HeaderValue::from_static("false"))
    );
    assert!(!first.headers().contains_key("trailer"));
    api.let_go(1);
    assert_eq!(
        first.chunk().await.expect("a chunk").as_deref(),
        Some(&b"one"[..]),
        "the first part did not come before the end"
    );
    api.let_go(1);
    assert_eq!(
        first.chunk().await.expect("a chunk").as_deref(),
        Some(&b"two"[..])
    );
    assert_eq!(
        app.count("select count(*) from step where state = 'running'")
            .await,
        1
    );
    api.let_go(1);
    assert_eq!(
        first.chunk().await.expect("a chunk").as_deref(),
        Some(&b"three"[..])
    );
    assert_eq!(
        app.count("select count(*) from step where state = 'done'")
            .await,
        1,
        "the end came before the record"
    );
    assert_eq!(first.chunk().await.expect("the end"), None);
    let again = shop.charge("k").await;
    assert_eq!(
        (
            again.text.as_str(),
            again.replayed(),
            &again.headers["content-type"]
        ),
        ("onetwothree", "true", &first.headers()["content-type"])
    );
    assert_eq!(api.count(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_too_large_to_keep_is_passed_on_and_never_replayed_as_nothing() {
    let large = "x".repeat(300_000);
    let api = FakeApi::start(vec![
        Act::status(201, "", &large),
        Act::status(201, "", &large[..2000]),
    ])
    .await;
    let (app, shop) = spawn(&api, "body_kept_max = \"1KiB\"\nbody_max = \"10KiB\"").await;
    for (key, length) in [("large", 300_000), ("small", 2000)] {
        let first = shop.charge(key).await;
        assert_eq!(
            (first.status, first.text.len(), first.replayed()),
            (201, length, "false")
        );
        let again = shop.charge(key).await;
        again.is_problem(409, "body-not-retained");
        assert_eq!(
            (
                &again.json()["upstream_status"],
                &again.json()["body_bytes"]
            ),
            (&json!(201), &json!(length))
        );
    }
    said(shop.order("k").body("x".repeat(20_000)))
        .await
        .is_problem(413, "too-large");
    assert_eq!(api.count(), 2);
    app.stop().await;
}

/// Says these bytes and returns all that comes back until the connection closes.
pub async fn raw(shop: &Shop, text: &str) -> String {
    let mut stream = TcpStream::connect(shop.base.trim_start_matches("http://"))
        .await
        .expect("a connection");
    stream.write_all(text.as_bytes()).await.expect("written");
    let mut all = Vec::new();
    tokio::time::timeout(LONG, stream.read_to_end(&mut all))
        .await
        .expect("the end")
        .expect("read");
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_idempotent_methods_pass_through_untouched() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\r\n2\r\nab\r\n0\r\nx-sum: 1\r\n\r\n";
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\netag: \"e\"\r\n\r\n";
    let acts = [
        chunked,
        head,
        "HTTP/1.1 204 No Content\r\nallow: GET\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\netag: \"e\"\r\n\r\n",
    ];
    let api = FakeApi::start(acts.map(|text| Act::Say(text.to_owned())).to_vec()).await;
    let (app, shop) = spawn(&api, "").await;
    let got = said(
        shop.request(Method::GET, "/a%2Fb?q=1&q=%20")
            .header("idempotency-key", "not \"ours\"")
            .header("x-mine", "1"),
    )
    .await;
    assert_eq!(
        (got.status, got.text.as_str(), got.replayed()),
        (200, "ab", "")
    );
    assert!(
        ["x-hop", "keep-alive", "trailer", "connection"]
            .iter()
            .all(|name| !got.headers.contains_key(*name)),
        "{got:?}"
    );
    assert_eq!(got.headers["via"], "1.1 hookonce");
    let headed = said(shop.request(Method::HEAD, "/h")).await;
    assert_eq!(
        (
            headed.status,
            &headed.headers["content-length"],
            &headed.headers["etag"]
        ),
        (
            200,
            &"1234".parse().expect("a value"),
            &"\"e\"".parse().expect("a value")
        )
    );
    let options = said(shop.request(Method::OPTIONS, "/o")).await;
    assert_eq!(
        (options.status, &options.headers["allow"]),
        (204, &"GET".parse().expect("a value"))
    );
    assert_eq!(
        said(
            shop.request(Method::GET, "/cached")
                .header("if-none-match", "\"e\"")
        )
        .await
        .status,
        304
    );
    let big = "y".repeat(3 << 20);
    assert_eq!(
        said(shop.request(Method::PUT, "/p").body(big.clone()))
            .await
            .status,
        201
    );
    assert_eq!(said(shop.request(Method::DELETE, "/d")).await.status, 201);
    let seen = api.seen(6).await;
    let requests: Vec<String> = seen
        .iter()
        .map(|seen| format!("{} {}", seen.method, seen.target))
        .collect();
    assert_eq!(
        requests,
        [
            "GET /a%2Fb?q=1&q=%20",
            "HEAD /h",
            "OPTIONS /o",
            "GET /cached",
            "PUT /p",
            "DELETE /d"
        ]
    );
    assert_eq!(
        (seen[0].header("idempotency-key"), seen[0].header("x-mine")),
        (Some("not \"ours\""), Some("1"))
    );
    assert_eq!(
        (
            seen[0].header("authorization"),
            seen[0].header("x-forwarded-for")
        ),
        (Some("Bearer shop"), Some("127.0.0.1"))
    );
    assert_eq!(seen[4].body.len(), big.len());
    assert_eq!(app.count("select count(*) from step").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_requests_are_proxied_by_the_rules() {
    let api = FakeApi::start(Vec::new()).await;
    let (app, shop) = spawn(&api, "").await;
    let rest = "host: shop.test\r\nconnection: close, x-hop\r\nx-hop: 1\r\nte: trailers\r\nidempotency-key: k\r\n";
    let text = format!(
        "POST /x/../y HTTP/1.1\r\n{rest}expect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-trailer: 1\r\n\r\n"
    );
    let first = raw(&shop, &text).await;
    assert!(
        first.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\n"),
        "{first}"
    );
    let again = raw(&shop, &text).await;
    assert!(
        again.contains("idempotent-replayed: true") && again.ends_with("{\"n\":001}"),
        "{again}"
    );
    let seen = &api.seen(1).await[0];
    assert_eq!(
        (
            seen.target.as_str(),
            seen.body.as_slice(),
            seen.header("x-forwarded-host")
        ),
        ("/x/../y", &b"ab"[..], Some("shop.test"))
    );
    assert_eq!(seen.header("host"), Some(api.address.to_string().as_str()));
    for name in [
        "x-hop",
        "te",
        "expect",
        "connection",
        "x-trailer",
        "transfer-encoding",
    ] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    let refused = |head: &'static str| raw(&shop, head);
    let upgrade =
        "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n";
    assert!(refused(upgrade).await.contains("upgrade-not-supported"));
    assert!(
        refused("POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: much\r\ncontent-length: 0\r\n\r\n")
            .await
            .contains("expectation-failed")
    );
    assert!(
        refused("TRACE / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .contains("method-not-allowed")
    );
    assert_eq!(api.count(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_send_no_header_have_keys_by_the_paths_rule() {
    let api = FakeApi::start(Vec::new()).await;
    let rules = "[[gateways.pay.paths]]\npath = \"/orders\"\nkey_from = \"body:/order/id\"\n[[gateways.pay.paths]]\npath = \"/notes*\"\nkey_from = \"digest\"\n";
    let (app, shop) = spawn(&api, rules).await;
    let post =
        |path: &str, body: &str| said(shop.request(Method::POST, path).body(body.to_owned()));
    let order = r#"{"order":{"id":"o-1"},"amount":5}"#;
    assert_eq!(post("/orders", order).await.replayed(), "false");
    assert_eq!(post("/orders", order).await.replayed(), "true");
    post("/orders", r#"{"order":{"id":"o-1"},"amount":6}"#)
        .await
        .is_problem(422, "key-reused");
    post("/orders", r#"{"order":{}}"#)
        .await
        .is_problem(400, "key-missing");
    post("/orders", r#"{"order":{"id":[1]}}"#)
        .await
        .is_problem(400, "key-malformed");
    assert_eq!(
        post("/orders", r#"{"order":{"id":2}}"#).await.replayed(),
        "false"
    );
    assert_eq!(post("/notes/1", "same").await.replayed(), "false");
    assert_eq!(post("/notes/1", "same").await.replayed(), "true");
    assert_eq!(post("/notes/1", "other").await.replayed(), "false");
    assert_eq!(post("/notes/2", "same").await.replayed(), "false");
    // A header is stronger.
    let noted = |key: &'static str| {
        said(
            shop.request(Method::POST, "/notes/1")
                .header("idempotency-key", key)
                .body("same"),
        )
    };
    assert_eq!(
        (
            noted("a").await.replayed(),
            noted("b").await.replayed(),
            noted("a").await.replayed()
        ),
        ("false", "false", "true")
    );
    assert_eq!(api.count(), 7);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_knows_the_key_gets_it_and_is_asked_again() {
    let gone = || Act::SayAndClose(String::new());
    let api = FakeApi::start(vec![
        gone(),
        gone(),
        Act::status(200, "", "third"),
        gone(),
        gone(),
        gone(),
        gone(),
    ])
    .await;
    let (app, shop) = spawn(&api, "upstream_idempotent = true").await;
    let first = shop.charge("\"k\"").await;
    assert_eq!(
        (first.status, first.text.as_str(), first.replayed()),
        (200, "third", "false")
    );
    assert_eq!(shop.charge("k").await.replayed(), "true");
    shop.charge("l").await.is_problem(503, "upstream-failed");
    // The next try goes to the upstream again, under the same key.
    assert_eq!(shop.charge("l").await.status, 201);
    let seen = api.seen(8).await;
    assert!(
        seen[..3]
            .iter()
            .all(|seen| seen.header("idempotency-key") == Some("\"k\""))
    );
    assert!(
        seen[3..]
            .iter()
            .all(|seen| seen.header("idempotency-key") == Some("l"))
    );
    assert_eq!(api.count(), 8);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_after_the_lease_still_counts() {
    let api = FakeApi::start(vec![Act::Hang]).await;
    let (app, shop) = spawn(&api, "").await;
    let first = tokio::spawn({
        let shop = shop.clone();
        async move { shop.charge("k").await }
    });
    api.seen(1).await;
    // As if this node had stood still.
    sqlx::query("update step set lease_until = now() - interval '1 second'")
        .execute(&app.pool)
        .await
        .expect("an update");
    shop.charge("k").await.is_problem(409, "outcome-unknown");
    api.let_go(1);
    assert_eq!(first.await.expect("the first").status, 201);
    assert_eq!(shop.charge("k").await.replayed(), "true");
    assert_eq!(api.count(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_call_keeps_its_lease() {
    let api = FakeApi::start(vec![Act::Hang]).await;
    let (app, shop) = spawn(&api, "lease = \"300ms\"").await;
    let first = tokio::spawn({
        let shop = shop.clone();
        async move { shop.charge("k").await }
    });
    api.seen(1).await;
    let until = "select extract(epoch from lease_until)::bigint from step";
    let before = app.count(until).await;
    let beaten = async { while app.count(until).await < before + 2 {} };
    tokio::time::timeout(LONG, beaten)
        .await
        .expect("a heartbeat");
    said(shop.order("k").header("prefer", "wait=0"))
        .await
        .is_problem(409, "in-progress");
    api.let_go(1);
    assert_eq!(first.await.expect("the first").status, 201);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_gateway_keeps_is_no_tenants() {
    let api = FakeApi::start(Vec::new()).await;
    let (app, shop) = spawn(&api, "").await;
    assert_eq!(shop.charge("k").await.status, 201);
    let asked = app
        .api(
            Method::POST,
            "/tokens",
            Some(json!({ "scopes": ["ledger"], "tenant": "gateway:pay" })),
        )
        .await;
    assert_eq!(asked.status, 400, "{asked:?}");
    let token = app
        .api(
            Method::POST,
            "/tokens",
            Some(json!({ "scopes": ["ledger"] })),
        )
        .await
        .json()["token"]
        .clone();
    let run: String = sqlx::query_scalar("select run from step")
        .fetch_one(&app.pool)
        .await
        .expect("a run");
    for (query, expected) in [("", 404), ("?tenant=gateway:pay", 403)] {
        let url = format!("{}/v1/runs/{run}/steps/k{query}", app.admin);
        assert_eq!(
            said(
                app.http
                    .get(url)
                    .bearer_auth(token.as_str().expect("a token"))
            )
            .await
            .status,
            expected
        );
    }
    app.stop().await;
}

/// The settings, calls and resolution of docs/idempotency.md.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documents_gateway_works() {
    let text = include_str!("../../docs/idempotency.md").replace("\\\n", " ");
    let block = text
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("settings");
    let api = FakeApi::start(vec![
        Act::status(201, "", "paid"),
        Act::SayAndClose(String::new()),
    ])
    .await;
    let own = block
        .replace("127.0.0.1:8090", "127.0.0.1:0")
        .replace("127.0.0.1:9000", &api.address.to_string());
    let app = spawn_app(&(config(&[]) + &own)).await;
    let shop = Shop::of(&app);
    let mut calls = 0;
    for line in text.lines().filter(|line| line.starts_with("curl -si ")) {
        let after = |mark: &str| {
            line.split(mark)
                .nth(1)
                .and_then(|rest| rest.split(['\'', ' ']).next())
                .expect("a part")
        };
        let path = after("8090").to_owned();
        let request = shop
            .request(Method::POST, &path)
            .header("idempotency-key", after("Key: "))
            .body(after("-d ").to_owned());
        assert_eq!(said(request).await.replayed(), after("Replayed: "));
        calls += 1;
    }
    assert_eq!((calls, api.count()), (2, 1));
    let problem = shop.charge("lost").await.json();
    let result = text
        .split("--result '")
        .nth(2)
        .and_then(|rest| rest.split('\'').next())
        .expect("a result");
    let result: Value = serde_json::from_str(result).expect("JSON");
    assert_eq!(
        resolve(&app, &problem, "done", Some(result)).await.status,
        200
    );
    assert_eq!(shop.charge("lost").await.json(), json!({ "id": "ch_1" }));
    app.stop().await;
}
