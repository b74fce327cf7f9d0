//! Conflicts: counted by source, shown with what differs, relayed once.

use reqwest::Method;

use crate::app::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_is_seen_explained_and_can_be_relayed_once() {
    let handler = Handler::start(Vec::new()).await;
    let app = spawn_app(&config(&[("h", &handler.url(), "")])).await;
    let first = app
        .github("d-1", r#"{"id":1,"state":"open","old":true}"#)
        .await;
    assert_eq!(
        app.github("d-1", r#"{"id":1,"state":"closed","new":[1]}"#)
            .await
            .word(),
        "conflict"
    );
    assert_eq!(
        app.github("d-1", r#"{"id":1,"state":"closed","new":[1]}"#)
            .await
            .word(),
        "conflict",
        "kept once"
    );
    let page = app.api(Method::GET, "/conflicts", None).await.json();
    assert_eq!(
        page["counts"],
        serde_json::json!([{ "source": "github", "conflicts": 1, "not_relayed": 1 }])
    );
    let [conflict] = page["items"].as_array().expect("conflicts").as_slice() else {
        panic!("{page}")
    };
    assert_eq!(
        (&conflict["kind"], &conflict["event"]),
        (&"other_body".into(), &first.event().to_string().into())
    );
    assert_eq!(
        app.api(Method::GET, "/conflicts?source=stripe", None)
            .await
            .json()["items"],
        serde_json::json!([])
    );
    let id = conflict["id"].as_str().expect("an id");
    let shown = app
        .api(Method::GET, &format!("/conflicts/{id}"), None)
        .await
        .json();
    assert_eq!(
        shown["differences"]["body"],
        serde_json::json!([
            { "path": "/new", "first": null, "this": [1] },
            { "path": "/old", "first": true, "this": null },
            { "path": "/state", "first": "open", "this": "closed" },
        ])
    );
    let headers = shown["differences"]["headers"].as_array().expect("headers");
    assert_eq!(
        headers
            .iter()
            .map(|one| one["name"].as_str().unwrap())
            .collect::<Vec<_>>(),
        ["x-hub-signature-256"]
    );
    assert_eq!(shown["body"], r#"{"id":1,"state":"closed","new":[1]}"#);

    handler.received(1).await;
    let relayed = app
        .api(Method::POST, &format!("/conflicts/{id}/relay"), None)
        .await
        .json();
    assert_eq!(relayed["destinations"], serde_json::json!(["h"]));
    let received = handler.received(2).await;
    assert_eq!(received[1].header("webhook-id"), relayed["event"].as_str());
    assert_eq!(received[1].header("hookonce-mark"), Some("other-body"));
    assert_eq!(
        received[1].header("hookonce-event-key"),
        received[0].header("hookonce-event-key")
    );
    assert_eq!(received[1].body, br#"{"id":1,"state":"closed","new":[1]}"#);
    let again = app
        .api(Method::POST, &format!("/conflicts/{id}/relay"), None)
        .await;
    assert_eq!(
        (again.status, again.json()["type"].as_str()),
        (409, Some("urn:hookonce:problem:already-relayed"))
    );
    assert!(
        again.json()["detail"]
            .as_str()
            .unwrap()
            .contains(relayed["event"].as_str().unwrap()),
        "{again:?}"
    );
    assert_eq!(
        app.api(Method::GET, "/conflicts", None).await.json()["counts"][0]["not_relayed"],
        0
    );
    assert_eq!(
        app.api(
            Method::POST,
            &format!("/conflicts/{}/relay", first.event()),
            None
        )
        .await
        .status,
        404
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_guard_holds_is_relayed_with_the_body_of_the_first() {
    let handler = Handler::start(Vec::new()).await;
    let hold = config(&[("h", &handler.url(), "")]).replace(
        "provider = \"github\"",
        "provider = \"github\"\nreplay_guard = \"hold\"",
    );
    let app = spawn_app(&hold).await;
    app.github("d-1", r#"{"n":1}"#).await;
    let held = app.github("d-2", r#"{"n":1}"#).await;
    assert_eq!(held.word(), "duplicate");
    let page = app.api(Method::GET, "/conflicts", None).await.json();
    let id = page["items"][0]["id"]
        .as_str()
        .expect("a conflict")
        .to_owned();
    let shown = app
        .api(Method::GET, &format!("/conflicts/{id}"), None)
        .await
        .json();
    assert_eq!(
        (&shown["kind"], &shown["body"]),
        (&"same_body_new_id".into(), &r#"{"n":1}"#.into())
    );
    assert_eq!(
        shown["differences"]["headers"][0]["name"],
        "x-github-delivery"
    );
    app.api(Method::POST, &format!("/conflicts/{id}/relay"), None)
        .await;
    let received = handler.received(2).await;
    assert_eq!(
        (
            received[1].body.as_slice(),
            received[1].header("hookonce-mark")
        ),
        (br#"{"n":1}"#.as_slice(), Some("same-body"))
    );
    assert_eq!(received[1].header("x-github-delivery"), Some("d-2"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_source_ignores_makes_neither_an_event_nor_a_conflict_of_its_own() {
    let handler = Handler::start(Vec::new()).await;
    let with = r#"provider = "github"
ignore = ["body:try"]
on_conflict = "keep""#;
    let app =
        spawn_app(&config(&[("h", &handler.url(), "")]).replace("provider = \"github\"", with))
            .await;
    let body = |state: &str, number: usize| format!(r#"{{"state":"{state}","try":{number}}}"#);
    // Some of them in one statement.
    let bodies: Vec<String> = (0..32).map(|number| body("open", number)).collect();
    let said =
        futures_util::future::join_all(bodies.iter().map(|body| app.github("d-1", body))).await;
    let words: Vec<String> = said.iter().map(Said::word).collect();
    assert_eq!(
        words.iter().filter(|word| *word == "accepted").count(),
        1,
        "{words:?}"
    );
    assert_eq!(
        words.iter().filter(|word| *word == "duplicate").count(),
        31,
        "{words:?}"
    );
    for number in [40, 41] {
        assert_eq!(
            app.github("d-1", &body("closed", number)).await.word(),
            "conflict"
        );
    }
    let page = app.api(Method::GET, "/conflicts", None).await.json();
    assert_eq!(
        page["counts"][0]["conflicts"], 1,
        "one, though its counter changed: {page}"
    );
    assert_eq!(
        app.github("d-1", &body("open", 50)).await.word(),
        "duplicate"
    );
    assert_eq!(handler.received(1).await.len(), 1);
    app.stop().await;
}
