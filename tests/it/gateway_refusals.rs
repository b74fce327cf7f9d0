//! What a gateway says in its own name, and who can read it: people, Stripe's libraries, scripts of
//! a page in a browser.

use reqwest::Method;

use crate::{
    app::*,
    gateway::{Shop, spawn},
    upstream::*,
};

const ORIGIN: &str = "https://shop.test";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_an_error_to_stripes_libraries_and_names_its_description() {
    let api = FakeApi::start(vec![Act::SayAndClose(String::new())]).await;
    let (app, shop) = spawn(&api, "").await;
    let of_library = |key: &str, body: &'static str| {
        shop.order(key)
            .header("x-stripe-client-user-agent", "{\"lang\":\"python\"}")
            .body(body)
    };
    shop.charge("lost").await.is_problem(409, "outcome-unknown");
    shop.charge("k").await;
    let same = r#"{"amount":5}"#;
    for (key, body, plain, kind, code) in [
        ("lost", same, 409, "outcome-unknown", "outcome_unknown"),
        ("k", "{}", 422, "key-reused", "key_reused"),
        ("\"k", same, 400, "key-malformed", "key_malformed"),
    ] {
        for (request, status) in [
            (shop.order(key).body(body), plain),
            (of_library(key, body), 400),
        ] {
            let refused = said(request).await;
            refused.is_problem(status, kind);
            let problem = refused.json();
            assert_eq!(problem["status"], status);
            assert_eq!(problem["error"]["type"], "idempotency_error");
            assert_eq!(problem["error"]["code"], code);
            assert_eq!(problem["error"]["message"], problem["detail"]);
            let link = refused.headers["link"].to_str().expect("text");
            assert!(
                link.starts_with("<https://") && link.ends_with(">; rel=\"describedby\""),
                "{link}"
            );
        }
    }
    let again = said(of_library("lost", same)).await;
    assert_eq!(again.headers["stripe-should-retry"], "false");
    // What is answered is no error, and no refusal.
    let replayed = said(of_library("k", same)).await;
    assert_eq!((replayed.status, replayed.replayed()), (201, "true"));
    assert!(!replayed.headers.contains_key("link"));
    assert_eq!(api.count(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_that_describes_refusals_is_a_setting() {
    let api = FakeApi::start(Vec::new()).await;
    let (app, shop) = spawn(&api, "described_by = \"https://pay.test/keys?a=1\"").await;
    let refused = said(shop.request(Method::POST, "/x")).await;
    refused.is_problem(400, "key-missing");
    assert_eq!(
        refused.headers["link"],
        "<https://pay.test/keys?a=1>; rel=\"describedby\""
    );
    app.stop().await;
}

/// The value of a header; empty where it is not there.
fn value<'a>(said: &'a Said, name: &str) -> &'a str {
    said.headers
        .get(name)
        .map_or("", |value| value.to_str().expect("text"))
}

async fn refused(shop: &Shop, origin: &str) -> Said {
    let refused = said(
        shop.request(Method::POST, "/charges")
            .header("origin", origin)
            .body("x"),
    )
    .await;
    refused.is_problem(400, "key-missing");
    refused
}

/// What a browser asks first, for the header alone.
async fn preflight(shop: &Shop, status: u16) {
    let asked = shop
        .request(Method::OPTIONS, "/charges")
        .header("origin", ORIGIN)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "idempotency-key");
    assert_eq!(said(asked).await.status, status);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_reads_refusals_where_the_upstream_lets_it_read_answers() {
    let allowed = format!(
        "access-control-allow-origin: {ORIGIN}\r\naccess-control-allow-credentials: true\r\nvary: Origin\r\n"
    );
    let api = FakeApi::start(vec![
        Act::status(200, &allowed, ""),
        Act::status(201, &allowed, "paid"),
        Act::SayAndClose(String::new()),
        Act::status(403, "", "no"),
    ])
    .await;
    let (app, shop) = spawn(&api, "").await;
    // Nobody has said anything of this origin yet.
    let cold = refused(&shop, ORIGIN).await;
    assert_eq!(value(&cold, "access-control-allow-origin"), "");
    preflight(&shop, 200).await;
    let own = [
        ("access-control-allow-origin", ORIGIN),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "link, retry-after"),
        ("vary", "Origin"),
    ];
    let readable = |said: &Said| {
        for (name, expected) in own {
            assert_eq!(value(said, name), expected, "{name}");
        }
    };
    readable(&refused(&shop, ORIGIN).await);
    let other = refused(&shop, "https://other.test").await;
    assert_eq!(value(&other, "access-control-allow-origin"), "");
    let paid = said(shop.order("k").header("origin", ORIGIN)).await;
    assert_eq!((paid.status, paid.replayed()), (201, "false"));
    // A replay has the upstream's own.
    let again = said(shop.order("k").header("origin", ORIGIN)).await;
    assert_eq!(
        (
            again.replayed(),
            value(&again, "access-control-allow-origin")
        ),
        ("true", ORIGIN)
    );
    let reused = said(shop.order("k").header("origin", ORIGIN).body("{}")).await;
    reused.is_problem(422, "key-reused");
    readable(&reused);
    let lost = said(shop.order("lost").header("origin", ORIGIN)).await;
    lost.is_problem(409, "outcome-unknown");
    readable(&lost);
    // The upstream no longer lets it.
    preflight(&shop, 403).await;
    let after = refused(&shop, ORIGIN).await;
    assert_eq!(value(&after, "access-control-allow-origin"), "");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn origins_of_the_settings_read_refusals_from_the_start() {
    let address = format!("127.0.0.1:{}", crate::process::free_port());
    let more = format!("cors_origins = [\"{ORIGIN}\"]");
    let config = config(&[]) + &gateway_config(address.parse().expect("an address"), &more);
    let app = spawn_app(&config).await;
    let shop = Shop::of(&app);
    let unreachable = said(shop.order("k").header("origin", ORIGIN)).await;
    unreachable.is_problem(503, "upstream-unreachable");
    assert_eq!(value(&unreachable, "access-control-allow-origin"), ORIGIN);
    assert_eq!(
        value(&unreachable, "access-control-allow-credentials"),
        "true"
    );
    let other = said(shop.order("k").header("origin", "https://other.test")).await;
    assert_eq!(value(&other, "access-control-allow-origin"), "");
    app.stop().await;
}
