//! The description of the API, held against what the API says.

use hookonce::contract::{EventId, Ready, ReadyStatus, Refused, Taken, TakenStatus};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::*;

/// Why a value is not what its schema says; None where it is. As much of JSON Schema as the answers
/// use.
fn fault(document: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document
            .pointer(&reference[1..])
            .unwrap_or_else(|| panic!("no {reference}"));
        return fault(document, schema, value, at);
    }
    if let Some(kinds) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
        let faults: Option<Vec<String>> = kinds
            .iter()
            .map(|kind| fault(document, kind, value, at))
            .collect();
        return faults.map(|faults| faults.join(", "));
    }
    if schema["enum"]
        .as_array()
        .is_some_and(|words| !words.contains(value))
        || !schema["const"].is_null() && schema["const"] != *value
    {
        return Some(format!("{at}: {value} is not one of {schema}"));
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    let is = |kind: &&str| match *kind {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        _ => value.is_object(),
    };
    if !kinds.is_empty() && !kinds.iter().any(is) {
        return Some(format!("{at}: {value} is no {kinds:?}"));
    }
    let format = schema["format"].as_str();
    if let (Some("uuid"), Some(text)) = (format, value.as_str())
        && text.parse::<uuid::Uuid>().is_err()
    {
        return Some(format!("{at}: {text} is no uuid"));
    }
    if let Some(items) = value.as_array() {
        let kind = |index: usize| schema["prefixItems"].get(index).unwrap_or(&schema["items"]);
        return items.iter().enumerate().find_map(|(index, item)| {
            fault(document, kind(index), item, &format!("{at}[{index}]"))
        });
    }
    let (Some(map), Some(properties)) = (value.as_object(), schema["properties"].as_object())
    else {
        return None;
    };
    if let Some(missing) = schema["required"]
        .as_array()?
        .iter()
        .find(|name| name.as_str().is_some_and(|name| !map.contains_key(name)))
    {
        return Some(format!("{at}: {missing} is missing"));
    }
    map.iter()
        .find_map(|(name, value)| match properties.get(name) {
            Some(schema) => fault(document, schema, value, &format!("{at}.{name}")),
            None if schema["additionalProperties"] == json!(false) => {
                Some(format!("{at}: {name} is not described"))
            }
            None => None,
        })
}

/// Asks, and holds the answer against what the description says of it.
async fn held(
    app: &TestApp,
    document: &Value,
    method: &str,
    template: &str,
    path: &str,
    body: Option<Value>,
) -> Said {
    let operation = &document["paths"][template][method];
    assert!(
        operation.is_object(),
        "{method} {template} is not described"
    );
    let verb = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
    let mut request = app
        .http
        .request(verb, format!("{}{path}", app.admin))
        .bearer_auth(TOKEN);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = said(request).await;
    let mut response = &operation["responses"][answer.status.to_string()];
    assert!(
        response.is_object(),
        "{method} {template} does not describe {answer:?}"
    );
    if let Some(reference) = response["$ref"].as_str() {
        response = document.pointer(&reference[1..]).expect("the response");
    }
    let kind = answer.headers["content-type"]
        .to_str()
        .expect("text")
        .split(';')
        .next()
        .unwrap_or_default()
        .to_owned();
    let content = &response["content"][&kind];
    assert!(
        content.is_object(),
        "{method} {template} does not describe {kind}"
    );
    if kind.ends_with("json") && content["schema"].is_object() {
        assert_eq!(
            fault(document, &content["schema"], &answer.json(), template),
            None,
            "{answer:?}"
        );
    }
    answer
}

/// The description that the service gives of itself.
async fn description(app: &TestApp) -> Value {
    let path = format!("{}/api/v1/openapi.json", app.admin);
    said(app.http.get(path).bearer_auth(TOKEN)).await.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_is_as_it_is_described() {
    let handler = Handler::start(vec![Reply::Status(500)]).await;
    let app = spawn_app(&config(&[(
        "h",
        &handler.url(),
        "retry = { base = \"1ms\" }",
    )]))
    .await;
    let document = description(&app).await;
    assert_eq!(document["openapi"], "3.1.0");
    let event = app.stripe("evt_1", "x").await.event();
    app.until(
        "select count(*) from delivery where state = 'delivered' and attempts = 2",
        1,
    )
    .await;
    app.post("/hooks/stripe", &[], "unsigned").await;
    let ask = async |method: &str, template: &str, path: &str, body: Option<Value>| {
        held(&app, &document, method, template, path, body).await
    };
    for path in [
        "events",
        "deliveries",
        "destinations",
        "rejections",
        "replays",
        "sources",
        "status",
        "steps",
        "token",
        "tokens",
    ] {
        let template = format!("/api/v1/{path}");
        assert_eq!(ask("get", &template, &template, None).await.status, 200);
    }
    ask("get", "/api/v1/events", "/api/v1/events?limit=0", None).await;
    let one = ask(
        "get",
        "/api/v1/events/{id}",
        &format!("/api/v1/events/{event}"),
        None,
    )
    .await
    .json();
    let delivery = one["deliveries"][0]["id"]
        .as_str()
        .expect("a delivery")
        .to_owned();
    ask(
        "get",
        "/api/v1/events/{id}/body",
        &format!("/api/v1/events/{event}/body"),
        None,
    )
    .await;
    ask(
        "get",
        "/api/v1/deliveries/{id}",
        &format!("/api/v1/deliveries/{delivery}"),
        None,
    )
    .await;
    ask(
        "post",
        "/api/v1/deliveries/{id}/cancel",
        &format!("/api/v1/deliveries/{delivery}/cancel"),
        None,
    )
    .await;
    ask(
        "post",
        "/api/v1/deliveries/{id}/retry",
        &format!("/api/v1/deliveries/{delivery}/retry"),
        None,
    )
    .await;
    ask(
        "post",
        "/api/v1/destinations/{name}/pause",
        "/api/v1/destinations/h/pause",
        None,
    )
    .await;
    ask(
        "post",
        "/api/v1/destinations/{name}/resume",
        "/api/v1/destinations/h/resume",
        None,
    )
    .await;
    let rejection = ask("get", "/api/v1/rejections", "/api/v1/rejections", None)
        .await
        .json()["items"][0]["id"]
        .clone();
    let explain = format!(
        "/api/v1/rejections/{}/explain",
        rejection.as_str().expect("an id")
    );
    ask("get", "/api/v1/rejections/{id}/explain", &explain, None).await;
    ask(
        "post",
        "/api/v1/replays",
        "/api/v1/replays",
        Some(json!({ "source": "stripe", "dry_run": true })),
    )
    .await;
    let replay = ask(
        "post",
        "/api/v1/replays",
        "/api/v1/replays",
        Some(json!({ "source": "stripe" })),
    )
    .await
    .json()["id"]
        .clone();
    let replay = format!("/api/v1/replays/{}", replay.as_str().expect("an id"));
    ask("get", "/api/v1/replays/{id}", &replay, None).await;
    ask(
        "post",
        "/api/v1/replays/{id}/advance",
        &format!("{replay}/advance"),
        Some(json!({})),
    )
    .await;
    ask(
        "get",
        "/api/v1/sources/{name}/secret",
        "/api/v1/sources/stripe/secret",
        None,
    )
    .await;
    ask(
        "post",
        "/api/v1/sources/{name}/secret/forget",
        "/api/v1/sources/stripe/secret/forget",
        None,
    )
    .await;
    ask("post", "/api/v1/prune", "/api/v1/prune", None).await;
    let token = ask(
        "post",
        "/api/v1/tokens",
        "/api/v1/tokens",
        Some(json!({ "scopes": ["read"] })),
    )
    .await
    .json()["id"]
        .clone();
    let revoke = format!("/api/v1/tokens/{}/revoke", token.as_str().expect("an id"));
    ask("post", "/api/v1/tokens/{id}/revoke", &revoke, None).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_is_as_it_is_described() {
    let app = spawn_app(&config(&[])).await;
    let document = description(&app).await;
    let call = async |step: &str, action: &str, body: Value| {
        let template = format!("/v1/runs/{{run}}/steps/{{step}}/{action}");
        held(
            &app,
            &document,
            "post",
            &template,
            &format!("/v1/runs/r/steps/{step}/{action}"),
            Some(body),
        )
        .await
        .status
    };
    assert_eq!(
        call("s", "claim", json!({ "claim_id": "a", "input_hash": "1" })).await,
        201
    );
    assert_eq!(call("s", "claim", json!({ "claim_id": "b" })).await, 409);
    assert_eq!(
        call("s", "claim", json!({ "claim_id": "b", "input_hash": "2" })).await,
        422
    );
    assert_eq!(call("s", "claim", json!({})).await, 400);
    assert_eq!(call("s", "heartbeat", json!({ "fence": 1 })).await, 200);
    assert_eq!(call("s", "heartbeat", json!({ "fence": 2 })).await, 409);
    assert_eq!(
        call(
            "s",
            "complete",
            json!({ "fence": 1, "result": [1], "emit": [{ "data": {} }] })
        )
        .await,
        200
    );
    assert_eq!(call("s", "claim", json!({ "claim_id": "b" })).await, 200);
    assert_eq!(call("t", "claim", json!({ "claim_id": "a" })).await, 201);
    assert_eq!(call("t", "release", json!({ "fence": 1 })).await, 200);
    assert_eq!(call("u", "release", json!({ "fence": 1 })).await, 404);
    assert_eq!(call("w", "claim", json!({ "claim_id": "a" })).await, 201);
    let abandon = json!({ "fence": 1, "error": { "why": "cancelled" } });
    assert_eq!(call("w", "abandon", abandon).await, 200);
    assert_eq!(call("w", "claim", json!({ "claim_id": "b" })).await, 409);
    assert_eq!(call("x", "claim", json!({ "claim_id": "a" })).await, 201);
    let not_kept = json!({ "fence": 1, "result_not_kept": { "reason": "too-large" } });
    assert_eq!(call("x", "complete", not_kept).await, 200);
    assert_eq!(call("x", "claim", json!({ "claim_id": "b" })).await, 200);
    let runs = held(
        &app,
        &document,
        "get",
        "/v1/runs",
        "/v1/runs?prefix=r",
        None,
    );
    assert_eq!(runs.await.status, 200);
    assert_eq!(
        call("v", "claim", json!({ "claim_id": "a", "lease_ms": 1 })).await,
        201
    );
    app.until("select count(*) from step where lease_until < now()", 1)
        .await;
    assert_eq!(
        call(
            "v",
            "resolve",
            json!({ "expected_fence": 1, "outcome": "done", "evidence": "x" })
        )
        .await,
        200
    );
    let one = "/v1/runs/{run}/steps/{step}";
    assert_eq!(
        held(&app, &document, "get", one, "/v1/runs/r/steps/s", None)
            .await
            .status,
        200
    );
    assert_eq!(
        held(
            &app,
            &document,
            "get",
            one,
            "/v1/runs/r/steps/nothing",
            None
        )
        .await
        .status,
        404
    );
    assert_eq!(
        held(
            &app,
            &document,
            "get",
            "/v1/runs/{run}/steps",
            "/v1/runs/r/steps",
            None
        )
        .await
        .status,
        200
    );
    assert_eq!(
        held(
            &app,
            &document,
            "get",
            "/api/v1/steps",
            "/api/v1/steps",
            None
        )
        .await
        .status,
        200
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dedup_is_as_it_is_described() {
    let app = spawn_app(&config(&[])).await;
    let document = description(&app).await;
    let mark = async |body: Value| {
        held(
            &app,
            &document,
            "post",
            "/v1/dedup/{scope}",
            "/v1/dedup/s",
            Some(body),
        )
        .await
        .status
    };
    assert_eq!(mark(json!({ "key": "a", "window": "1h" })).await, 200);
    assert_eq!(mark(json!({ "key": "a", "window": "1h" })).await, 200);
    assert_eq!(
        mark(json!({ "key": "b", "window": "1h", "lease_ms": 60_000 })).await,
        200
    );
    assert_eq!(
        mark(json!({ "key": "b", "window": "1h", "lease_ms": 60_000 })).await,
        409
    );
    let done = async |body: Value| {
        held(
            &app,
            &document,
            "post",
            "/v1/dedup/{scope}/done",
            "/v1/dedup/s/done",
            Some(body),
        )
        .await
        .status
    };
    assert_eq!(done(json!({ "key": "b", "fence": 1 })).await, 200);
    assert_eq!(done(json!({ "key": "b", "fence": 9 })).await, 409);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_port_answers_as_it_is_described() {
    let app = spawn_app(&config(&[])).await;
    let document = description(&app).await;
    let held = |template: &str, method: &str, answer: &Said| {
        let operation = &document["paths"][template][method];
        let content = &operation["responses"][answer.status.to_string()]["content"];
        let kind = answer.headers["content-type"].to_str().expect("text");
        let schema = &content[kind]["schema"];
        assert!(schema.is_object(), "{template}: {answer:?}");
        assert_eq!(fault(&document, schema, &answer.json(), template), None);
    };
    let mut answers = Vec::new();
    for (id, body) in [("d-1", "{}"), ("d-1", "{}"), ("d-1", "[]")] {
        answers.push(app.github(id, body).await);
    }
    let event = EventId(answers[0].event());
    for (answer, status) in answers.iter().zip(TakenStatus::ALL) {
        let taken: Taken = serde_json::from_str(&answer.text).expect("the answer");
        let items = None;
        let status = *status;
        assert_eq!(
            taken,
            Taken {
                status,
                event,
                items
            }
        );
        // Byte for byte: some providers' settings compare it.
        let text = format!(r#"{{"status":"{status}","event":"{event}"}}"#);
        assert_eq!(answer.text, text);
    }
    answers.push(app.post("/hooks/github", &[], "unsigned").await);
    answers.push(app.post("/hooks/nobody", &[], "{}").await);
    for (answer, status) in answers[3..].iter().zip([401, 404]) {
        let refused: Refused = serde_json::from_str(&answer.text).expect("the answer");
        assert_eq!((refused.status, answer.status), (status, status));
        assert!(
            answer
                .text
                .starts_with(r#"{"type":"about:blank","title":""#)
        );
    }
    for answer in &answers {
        held("/hooks/{source}", "post", answer);
    }
    for port in [&app.url, &app.admin] {
        let answer = said(app.http.get(format!("{port}/readyz"))).await;
        held("/readyz", "get", &answer);
        assert_eq!(answer.text, r#"{"status":"ready"}"#);
        let ready: Ready = serde_json::from_str(&answer.text).expect("the answer");
        assert_eq!(ready.status, ReadyStatus::Ready);
    }
    app.stop().await;
}
