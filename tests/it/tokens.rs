//! Tokens: what each scope may do, whose steps a tenant's token reaches, how soon a revoked one
//! stops.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::*;

async fn create(app: &TestApp, body: Value) -> (String, String) {
    let said = app.api(Method::POST, "/tokens", Some(body)).await;
    assert_eq!(said.status, 201, "{said:?}");
    let answer = said.json();
    let text = |key: &str| {
        answer[key]
            .as_str()
            .unwrap_or_else(|| panic!("{answer}"))
            .to_owned()
    };
    (text("id"), text("token"))
}

async fn status(
    app: &TestApp,
    token: &str,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> u16 {
    let request = app
        .http
        .request(method, format!("{}{path}", app.admin))
        .bearer_auth(token);
    let request = if let Some(body) = body {
        request.json(&body)
    } else {
        request
    };
    request.send().await.expect("an answer").status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_scope_opens_its_routes_and_no_others() {
    let app = spawn_app(&config(&[("h", "http://127.0.0.1:1/", "")])).await;
    let claim = || Some(json!({ "claim_id": "a" }));
    let routes = [
        (Method::GET, "/api/v1/events", None),
        (Method::POST, "/api/v1/destinations/h/pause", None),
        (Method::POST, "/api/v1/prune", None),
        (Method::GET, "/api/v1/%74okens", None),
        (Method::GET, "/api/v1/sources/github/%73ecret", None),
        (Method::GET, "/v1/runs/r/steps", None),
        (Method::POST, "/v1/runs/r/steps/s/claim", claim()),
    ];
    for (scope, expected) in [
        ("read", [200, 403, 403, 403, 403, 200, 403]),
        ("operate", [200, 200, 403, 403, 403, 200, 201]),
        ("admin", [200, 200, 200, 200, 404, 200, 201]),
        ("ledger", [403, 403, 403, 403, 403, 200, 201]),
    ] {
        let (_, token) = create(&app, json!({ "scopes": [scope] })).await;
        for ((method, path, body), expected) in routes.iter().zip(expected) {
            assert_eq!(
                status(&app, &token, method.clone(), path, body.clone()).await,
                expected,
                "{scope} {method} {path}"
            );
        }
    }
    let unknown = format!("hko_{}", "0".repeat(64));
    assert_eq!(
        status(&app, &unknown, Method::GET, "/api/v1/events", None).await,
        401
    );
    for body in [
        json!({ "scopes": [] }),
        json!({ "scopes": ["root"] }),
        json!({ "scopes": ["read"], "tenant": "t" }),
        json!({ "scopes": ["ledger"], "tenant": "" }),
    ] {
        assert_eq!(
            app.api(Method::POST, "/tokens", Some(body)).await.status,
            400
        );
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_token_reaches_its_own_steps_and_speaks_for_no_source() {
    let app = spawn_app(&config(&[])).await;
    let (_, one) = create(&app, json!({ "scopes": ["ledger"], "tenant": "one" })).await;
    let (_, two) = create(&app, json!({ "scopes": ["ledger"], "tenant": "two" })).await;
    let (_, none) = create(&app, json!({ "scopes": ["ledger"] })).await;
    let claim = || Some(json!({ "claim_id": "a" }));
    for token in [&one, &two, &none, TOKEN] {
        // The file's token and one without a tenant share the steps of nobody: the same claim has
        // the same answer.
        assert_eq!(
            status(
                &app,
                token,
                Method::POST,
                "/v1/runs/r/steps/s/claim",
                claim()
            )
            .await,
            201
        );
        assert_eq!(
            status(
                &app,
                token,
                Method::POST,
                "/v1/dedup/d",
                Some(json!({ "key": "k", "window": "1h" }))
            )
            .await,
            200
        );
    }
    assert_eq!(app.count("select count(*) from step").await, 3);
    assert_eq!(app.count("select count(*) from dedup_key").await, 3);
    assert_eq!(
        status(&app, &one, Method::GET, "/v1/runs/r/steps?tenant=two", None).await,
        403
    );
    assert_eq!(
        status(
            &app,
            &none,
            Method::GET,
            "/v1/runs/r/steps?tenant=two",
            None
        )
        .await,
        403
    );
    assert_eq!(
        status(
            &app,
            TOKEN,
            Method::GET,
            "/v1/runs/r/steps/s?tenant=two",
            None
        )
        .await,
        200
    );
    let listed = app.api(Method::GET, "/steps?tenant=two", None).await.json();
    assert_eq!(
        (
            listed["items"].as_array().map(Vec::len),
            &listed["items"][0]["tenant"]
        ),
        (Some(1), &json!("two"))
    );
    let emit = |source: Option<&str>| {
        Some(json!({ "fence": 1, "emit": [{ "source": source, "key": "k", "data": 1 }] }))
    };
    assert_eq!(
        status(
            &app,
            &one,
            Method::POST,
            "/v1/runs/r/steps/s/complete",
            emit(Some("stripe"))
        )
        .await,
        403
    );
    for token in [&one, &two] {
        assert_eq!(
            status(
                &app,
                token,
                Method::POST,
                "/v1/runs/r/steps/s/complete",
                emit(None)
            )
            .await,
            200
        );
    }
    assert_eq!(
        app.count("select count(*) from event where event_key in ('one/k', 'two/k')")
            .await,
        2
    );
    // Whoever has no tenant can't take a tenant's key by writing it out.
    let written = Some(json!({ "fence": 1, "emit": [{ "key": "one/k", "data": 1 }] }));
    assert_eq!(
        status(
            &app,
            &none,
            Method::POST,
            "/v1/runs/r/steps/s/complete",
            written
        )
        .await,
        200
    );
    assert_eq!(
        app.count("select count(*) from event where event_key = 'one/k'")
            .await,
        2
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_stops_at_once_here_and_soon_elsewhere() {
    let app = spawn_app(&config(&[])).await;
    let second = spawn_on(&config(&[]), app.database_url.clone()).await;
    let (id, token) = create(&app, json!({ "scopes": ["read"] })).await;
    for node in [&app, &second] {
        assert_eq!(
            status(node, &token, Method::GET, "/api/v1/events", None).await,
            200
        );
    }
    let stored: Vec<u8> = sqlx::query_scalar("select digest from token")
        .fetch_one(&app.pool)
        .await
        .expect("the token");
    assert_eq!(stored, hookonce::http::tokens::digest(&token));
    let listed = app.api(Method::GET, "/tokens", None).await;
    assert!(
        !listed.text.contains(&token) && listed.json()["items"][0]["revoked_at"].is_null(),
        "{listed:?}"
    );
    let revoked = app
        .api(Method::POST, &format!("/tokens/{id}/revoke"), None)
        .await;
    assert_eq!(revoked.status, 200, "{revoked:?}");
    assert_eq!(
        status(&app, &token, Method::GET, "/api/v1/events", None).await,
        401
    );
    let refused = async {
        while status(&second, &token, Method::GET, "/api/v1/events", None).await != 401 {}
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), refused)
        .await
        .expect("refused within seconds");
    assert_eq!(
        app.api(Method::POST, &format!("/tokens/{id}/revoke"), None)
            .await
            .json()["revoked_at"],
        revoked.json()["revoked_at"]
    );
    assert_eq!(
        app.api(
            Method::POST,
            &format!("/tokens/{}/revoke", uuid::Uuid::nil()),
            None
        )
        .await
        .status,
        404
    );
    second.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_tokens_stream_ends_also_on_another_node() {
    let app = spawn_app(&config(&[])).await;
    let second = spawn_on(&config(&[]), app.database_url.clone()).await;
    let (id, token) = create(&app, json!({ "scopes": ["read"] })).await;
    let mut streams = Vec::new();
    for (node, token) in [(&app, &*token), (&second, &*token), (&second, TOKEN)] {
        let mut stream = node
            .http
            .get(format!("{}/api/v1/stream", node.admin))
            .bearer_auth(token)
            .send()
            .await
            .expect("a stream");
        assert!(stream.chunk().await.expect("a chunk").is_some());
        streams.push(stream);
    }
    app.api(Method::POST, &format!("/tokens/{id}/revoke"), None)
        .await;
    let allowed = streams.pop().expect("three");
    for mut stream in streams {
        let ended = tokio::time::timeout(LONG, async move {
            while stream.chunk().await.expect("a chunk").is_some() {}
        });
        ended.await.expect("the end");
    }
    // That of another token goes on.
    second.stripe("evt", "x").await;
    let mut allowed = allowed;
    let line = allowed.chunk().await.expect("a chunk").expect("a line");
    assert!(String::from_utf8_lossy(&line).contains("evt"), "{line:?}");
    second.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ever_new_wrong_tokens_are_not_looked_up_for_ever() {
    let app = spawn_app(&config(&[])).await;
    let (_, token) = create(&app, json!({ "scopes": ["read"] })).await;
    assert_eq!(
        status(&app, &token, Method::GET, "/api/v1/events", None).await,
        200
    );
    let mut refused = Vec::new();
    while !refused.contains(&429) {
        refused.push(
            status(
                &app,
                &hookonce::http::tokens::generate(),
                Method::GET,
                "/api/v1/events",
                None,
            )
            .await,
        );
        assert!(refused.len() < 1000, "{refused:?}");
    }
    assert!(
        refused.len() > 20
            && refused
                .iter()
                .filter(|status| **status != 429)
                .all(|status| *status == 401),
        "{refused:?}"
    );
    // Who is known, or holds the file's token, is not kept waiting for it.
    for token in [TOKEN, &token] {
        assert_eq!(
            status(&app, token, Method::GET, "/api/v1/events", None).await,
            200
        );
    }
    app.stop().await;
}
