//! What an answer of the ledger names, what it says of a replay, and what is kept of a step whose
//! result or outcome is not: it is never executed twice for that.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{app::*, ledger::Caller};

fn claim(id: &str) -> Value {
    json!({ "claim_id": id, "owner": "worker 7", "lease_ms": 60_000 })
}

fn hold_for(id: &str, lease_ms: u64) -> Value {
    json!({ "claim_id": id, "owner": "worker 7", "lease_ms": lease_ms, "on_lost": "hold" })
}

/// What an answer says that it is about.
fn about(said: &Said) -> (Value, Value, Value) {
    let json = said.json();
    let of = |name: &str| json.get(name).cloned().unwrap_or_default();
    (of("run"), of("step"), of("claim_id"))
}

fn at(json: &Value, name: &str) -> time::OffsetDateTime {
    let text = json[name].as_str().unwrap_or_else(|| panic!("{json}"));
    let format = &time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::parse(text, format).expect("a time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_names_its_run_step_and_claim() {
    let app = spawn_app(&config(&[])).await;
    let ledger = Caller::of(&app);
    let mut other = claim("b");
    other["owner"] = "worker 8".into();
    for (step, action, body, status, claim_id) in [
        ("s", "claim", claim("a"), 201, json!("a")),
        ("s", "claim", other, 409, json!("b")),
        ("s", "heartbeat", json!({ "fence": 1 }), 200, json!("a")),
        (
            "s",
            "heartbeat",
            json!({ "fence": 9, "claim_id": "z" }),
            409,
            json!("z"),
        ),
        ("s", "heartbeat", json!({ "fence": 9 }), 409, Value::Null),
        (
            "s",
            "complete",
            json!({ "fence": 9, "claim_id": "z" }),
            409,
            json!("z"),
        ),
        (
            "s",
            "complete",
            json!({ "fence": 1, "claim_id": "a" }),
            200,
            json!("a"),
        ),
        (
            "s",
            "complete",
            json!({ "fence": 1, "claim_id": "a" }),
            200,
            json!("a"),
        ),
        ("s", "claim", claim("c"), 200, json!("c")),
        ("t", "claim", claim("a"), 201, json!("a")),
        (
            "t",
            "release",
            json!({ "fence": 1, "claim_id": "a" }),
            200,
            json!("a"),
        ),
        ("t", "release", json!({ "fence": 1 }), 200, json!("a")),
        ("t", "claim", json!({ "claim_id": "" }), 400, json!("")),
        ("none", "heartbeat", json!({ "fence": 1 }), 404, Value::Null),
        (
            "none",
            "abandon",
            json!({ "fence": 1, "error": 1, "claim_id": "q" }),
            404,
            json!("q"),
        ),
        (
            "s",
            "resolve",
            json!({ "expected_fence": 7, "outcome": "done", "evidence": "x" }),
            409,
            Value::Null,
        ),
    ] {
        let said = ledger.call(step, action, body.clone()).await;
        assert_eq!(said.status, status, "{action} {body}: {said:?}");
        assert_eq!(
            about(&said),
            (json!("r"), json!(step), claim_id),
            "{action} {body}"
        );
    }
    for (step, status, claim_id) in [("s", 200, json!("a")), ("none", 404, Value::Null)] {
        let said = ledger.get(&format!("/runs/r/steps/{step}")).await;
        assert_eq!(said.status, status);
        assert_eq!(about(&said), (json!("r"), json!(step), claim_id));
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_owners_of_one_claim_id_do_not_both_get_the_step() {
    let app = spawn_app(&config(&[])).await;
    let ledger = Caller::of(&app);
    let by =
        |owner: Option<&str>| json!({ "claim_id": "same", "owner": owner, "lease_ms": 60_000 });
    let calls: Vec<_> = ["one", "two"]
        .map(|owner| {
            let (ledger, body) = (ledger.clone(), by(Some(owner)));
            tokio::spawn(async move { (owner, ledger.call("s", "claim", body).await) })
        })
        .into();
    let mut granted = Vec::new();
    for call in calls {
        let (owner, said) = call.await.expect("an answer");
        match said.status {
            201 => granted.push(owner),
            _ => {
                said.refused(409, "claim-id-reused");
                assert_eq!(about(&said), (json!("r"), json!("s"), json!("same")));
            }
        }
    }
    assert_eq!(granted.len(), 1, "{granted:?}");
    let again = ledger.call("s", "claim", by(Some(granted[0]))).await;
    assert_eq!(again.status, 201, "the same claim has the same answer");
    ledger
        .call("s", "claim", by(None))
        .await
        .refused(409, "claim-id-reused");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_says_when_it_was_done_and_by_whom() {
    let app = spawn_app(&config(&[])).await;
    let ledger = Caller::of(&app);
    let first = ledger.call("s", "claim", claim("a")).await.json();
    assert!(first.get("replayed_at").is_none(), "{first}");
    let complete = json!({ "fence": 1, "result": { "charge": "ch_1" } });
    assert_eq!(ledger.call("s", "complete", complete).await.status, 200);
    let replay = ledger.call("s", "claim", claim("b")).await;
    assert_eq!(replay.status, 200, "{replay:?}");
    let replay = replay.json();
    assert_eq!(
        (
            &replay["status"],
            &replay["owner"],
            &replay["fence"],
            &replay["effect_key"]
        ),
        (
            &json!("done"),
            &json!("worker 7"),
            &json!(1),
            &first["effect_key"]
        )
    );
    assert!(at(&replay, "replayed_at") >= at(&replay, "ended_at"));
    assert!(replay.get("result_not_kept").is_none());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_done_step_whose_result_is_not_kept_stays_done_over_a_restart() {
    let url = database().await;
    let app = spawn_on(&config(&[]), url.clone()).await;
    let ledger = Caller::of(&app);
    let marker = json!({ "reason": "not-encodable", "detail": "a socket" });
    ledger.call("s", "claim", claim("a")).await;
    let large = "x".repeat(1_100_000);
    let refused = ledger
        .call("s", "complete", json!({ "fence": 1, "result": large }))
        .await;
    refused.refused(413, "too-large");
    let problem = refused.json();
    assert_eq!(
        (&problem["limit"], &problem["size"]),
        (&json!(1 << 20), &json!(1_100_002)),
        "{problem}"
    );
    let complete = json!({ "fence": 1, "result_not_kept": marker });
    for _ in 0..2 {
        assert_eq!(
            ledger.call("s", "complete", complete.clone()).await.word(),
            "done"
        );
    }
    let both = json!({ "fence": 1, "result": 1, "result_not_kept": marker });
    ledger
        .call("s", "complete", both)
        .await
        .refused(400, "malformed-body");
    let long = json!({ "reason": "too-large", "detail": "x".repeat(1001) });
    ledger
        .call(
            "s",
            "complete",
            json!({ "fence": 1, "result_not_kept": long }),
        )
        .await
        .refused(400, "invalid-parameter");
    app.stop().await;

    let app = spawn_on(&config(&[]), url).await;
    let ledger = Caller::of(&app);
    let replay = ledger.call("s", "claim", claim("b")).await;
    let run = ledger.get("/runs/r/steps").await.json();
    for kept in [
        replay.json(),
        ledger.get("/runs/r/steps/s").await.json(),
        run["items"][0].clone(),
    ] {
        assert_eq!(
            (&kept["status"], &kept["result"], &kept["result_not_kept"]),
            (&json!("done"), &Value::Null, &marker),
            "{kept}"
        );
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_emit_says_which_entry() {
    let app = spawn_app(&config(&[])).await;
    let ledger = Caller::of(&app);
    ledger.call("s", "claim", claim("a")).await;
    let good = json!({ "data": 1 });
    for (entry, what) in [
        (json!({ "type": "t" }), "emit[1]: missing field `data`"),
        (json!([1]), "emit[1]: "),
        (json!({ "type": "", "data": 1 }), "emit[1].type: "),
        (json!({ "key": "", "data": 1 }), "emit[1].key: "),
        (json!({ "source": "nobody", "data": 1 }), "emit[1].source: "),
    ] {
        let body = json!({ "fence": 1, "emit": [good, entry] });
        let said = ledger.call("s", "complete", body).await;
        assert!(matches!(said.status, 400 | 422), "{said:?}");
        let problem = said.json();
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.starts_with(what), "{detail}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_abandons_a_step_leaves_its_error_and_can_change_nothing_more() {
    let handler = Handler::start(Vec::new()).await;
    let config = config(&[("h", &handler.url(), "")])
        + "[[routes]]\nsource = \"ledger\"\ntypes = [\"step.*\"]\ndestination = \"h\"\n";
    let app = spawn_app(&config).await;
    let ledger = Caller::of(&app);
    let grant = ledger.call("s", "claim", claim("a")).await.json();
    let abandon = json!({ "fence": 1, "error": { "kind": "Cancelled" } });
    for _ in 0..2 {
        let said = ledger.call("s", "abandon", abandon.clone()).await;
        assert_eq!(
            (said.status, said.word().as_str()),
            (200, "unknown"),
            "{said:?}"
        );
    }
    for (action, body) in [
        ("heartbeat", json!({ "fence": 1 })),
        ("complete", json!({ "fence": 1, "result": 1 })),
        ("release", json!({ "fence": 1 })),
        ("abandon", json!({ "fence": 1, "error": "another" })),
    ] {
        let said = ledger.call("s", action, body).await;
        said.refused(409, "stale-fence");
        assert_eq!(said.json()["step_status"], "unknown");
    }
    let unknown = ledger.call("s", "claim", claim("b")).await;
    unknown.refused(409, "outcome-unknown");
    let problem = unknown.json();
    assert_eq!(
        (&problem["error"], &problem["owner"], &problem["effect_key"]),
        (
            &json!({ "kind": "Cancelled" }),
            &json!("worker 7"),
            &grant["effect_key"]
        )
    );
    assert!(problem["claimed_at"].is_string());
    // Somebody is told, once.
    let told = handler.received(1).await;
    let body: Value = serde_json::from_slice(&told[0].body).expect("JSON");
    assert_eq!(told[0].header("hookonce-event-type"), Some("step.unknown"));
    assert_eq!(
        (
            &body["run"],
            &body["step"],
            &body["fence"],
            &body["why"],
            &body["error"]["kind"]
        ),
        (
            &json!("r"),
            &json!("s"),
            &json!(1),
            &json!("abandoned"),
            &json!("Cancelled")
        )
    );
    let resolve = json!({ "expected_fence": 1, "outcome": "not-executed", "evidence": "looked" });
    let resolved = ledger.call("s", "resolve", resolve).await.json();
    assert_eq!(resolved["error"]["kind"], "Cancelled", "{resolved}");
    let shown = ledger.get("/runs/r/steps/s").await.json();
    assert_eq!(
        (&shown["error"]["kind"], &shown["evidence"]),
        (&json!("Cancelled"), &json!("looked"))
    );

    // What may be retried is free at once, with its effect key.
    let mut retried = claim("a");
    retried["on_lost"] = "retry".into();
    let first = ledger.call("t", "claim", retried.clone()).await.json();
    let abandoned = json!({ "fence": 1, "error": "x" });
    assert_eq!(
        ledger.call("t", "abandon", abandoned).await.word(),
        "released"
    );
    retried["claim_id"] = "b".into();
    let second = ledger.call("t", "claim", retried).await.json();
    assert_eq!(
        (&second["fence"], &second["attempt"], &second["effect_key"]),
        (&json!(2), &json!(2), &first["effect_key"])
    );
    let stale = json!({ "fence": 1, "result": 1 });
    ledger
        .call("t", "complete", stale)
        .await
        .refused(409, "stale-fence");
    let large = json!({ "fence": 2, "error": "x".repeat(70_000) });
    ledger
        .call("t", "abandon", large)
        .await
        .refused(413, "too-large");
    app.until(
        "select count(*) from event where event_type = 'step.unknown'",
        1,
    )
    .await;
    app.stop().await;
}

/// Two nodes look; the holder is gone, and nobody asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_hold_becomes_unknown_without_being_asked_for_and_is_told_once() {
    let url = database().await;
    let app = spawn_on(&config(&[]), url.clone()).await;
    let other = spawn_on(&config(&[]), url).await;
    let ledger = Caller::of(&app);
    for step in 0..20 {
        let held = ledger
            .call(&format!("s{step}"), "claim", hold_for("a", 1))
            .await;
        assert_eq!(held.status, 201);
    }
    let alive = ledger.call("alive", "claim", hold_for("a", 600_000)).await;
    let mut retried = hold_for("a", 1);
    retried["on_lost"] = "retry".into();
    assert_eq!(
        (
            alive.status,
            ledger.call("retried", "claim", retried).await.status
        ),
        (201, 201)
    );
    app.until(
        "select count(*) from step where state = 'unknown' and listed = 'unknown'",
        20,
    )
    .await;
    assert_eq!(
        app.count("select count(*) from event where event_type = 'step.unknown'")
            .await,
        20
    );
    assert_eq!(
        app.count("select count(*) from step where state = 'running' and listed = 'running'")
            .await,
        2
    );
    let listed = app
        .api(reqwest::Method::GET, "/steps?status=unknown&limit=7", None)
        .await
        .json();
    assert_eq!(
        listed["items"].as_array().map(Vec::len),
        Some(7),
        "{listed}"
    );
    let run = &ledger.get("/runs").await.json()["items"][0];
    assert_eq!(
        (&run["steps"]["unknown"], &run["steps"]["running"]),
        (&json!(20), &json!(2))
    );
    // Two further rounds of both nodes tell nothing more.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(app.count("select count(*) from event").await, 20);
    app.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leased_key_is_extended_and_released_by_its_holder_alone() {
    let app = spawn_app(&config(&[])).await;
    let ledger = Caller::of(&app);
    let mark = |claim_id: &str| json!({ "key": "k", "window": "1h", "lease_ms": 60_000, "claim_id": claim_id });
    let first = ledger.post("/dedup/orders", mark("a")).await.json();
    assert_eq!(
        (&first["scope"], &first["key"], &first["claim_id"]),
        (&json!("orders"), &json!("k"), &json!("a"))
    );
    let beat = |fence: i64| json!({ "key": "k", "fence": fence, "lease_ms": 120_000 });
    let beaten = ledger.post("/dedup/orders/heartbeat", beat(1)).await;
    assert_eq!(
        (beaten.status, beaten.word().as_str()),
        (200, "leased"),
        "{beaten:?}"
    );
    assert!(at(&beaten.json(), "lease_until") > at(&first, "lease_until"));
    assert_eq!(beaten.json()["claim_id"], "a");
    let stale = ledger.post("/dedup/orders/heartbeat", beat(2)).await;
    stale.refused(409, "stale-fence");
    assert_eq!(
        (&stale.json()["scope"], &stale.json()["key"]),
        (&json!("orders"), &json!("k"))
    );
    // Given back, the key is the next one's at once, and nothing is left to its old holder.
    let of = |fence: i64| json!({ "key": "k", "fence": fence });
    for _ in 0..2 {
        let released = ledger.post("/dedup/orders/release", of(1)).await;
        assert_eq!(
            (released.status, released.word().as_str()),
            (200, "released")
        );
    }
    for call in ["heartbeat", "done"] {
        for fence in [1, 2] {
            ledger
                .post(&format!("/dedup/orders/{call}"), of(fence))
                .await
                .refused(409, "stale-fence");
        }
    }
    let next = ledger.post("/dedup/orders", mark("b")).await;
    assert_eq!((next.word().as_str(), next.fence()), ("first", 3));
    for call in ["heartbeat", "release", "done"] {
        ledger
            .post(&format!("/dedup/orders/{call}"), of(1))
            .await
            .refused(409, "stale-fence");
    }
    let busy = ledger.post("/dedup/orders", mark("c")).await;
    busy.refused(409, "key-leased");
    assert_eq!(
        (&busy.json()["key"], &busy.json()["claim_id"]),
        (&json!("k"), &json!("c"))
    );
    assert_eq!(
        ledger.post("/dedup/orders/done", of(3)).await.word(),
        "done"
    );
    ledger
        .post("/dedup/orders/release", of(3))
        .await
        .refused(409, "stale-fence");
    assert_eq!(ledger.post("/dedup/orders", mark("d")).await.word(), "seen");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_are_listed_by_prefix_with_their_counts() {
    let app = spawn_app(&config(&[])).await;
    let ledger = Caller::of(&app);
    for run in ["b-2", "a", "b-10", "b", "b-1", "c", "b\u{e9}"] {
        for (step, end) in [("done", "result"), ("failed", "error"), ("open", "")] {
            let path = format!("/runs/{run}/steps/{step}");
            let said = ledger.post(&format!("{path}/claim"), claim("a")).await;
            assert_eq!(said.status, 201, "{said:?}");
            if !end.is_empty() {
                let body = json!({ "fence": 1, (end): 1 });
                assert_eq!(
                    ledger.post(&format!("{path}/complete"), body).await.status,
                    200
                );
            }
        }
    }
    let names = |json: &Value| -> Vec<String> {
        let items = json["items"].as_array().expect("items").iter();
        items
            .map(|run| run["run"].as_str().expect("a name").to_owned())
            .collect()
    };
    let all = ledger.get("/runs").await.json();
    assert_eq!(
        names(&all),
        ["a", "b", "b-1", "b-10", "b-2", "b\u{e9}", "c"]
    );
    assert_eq!(all["next"], Value::Null);
    let a = &all["items"][0];
    assert_eq!(
        (&a["steps"], &a["tenant"]),
        (
            &json!({ "running": 1, "unknown": 0, "released": 0, "done": 1, "failed": 1 }),
            &Value::Null
        )
    );
    assert!(at(a, "last_at") >= at(a, "first_at"));
    let (mut found, mut query) = (Vec::new(), "/runs?prefix=b&limit=2".to_owned());
    loop {
        let page = ledger.get(&query).await.json();
        found.extend(names(&page));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        query = format!("/runs?prefix=b&limit=2&cursor={next}");
    }
    assert_eq!(found, ["b", "b-1", "b-10", "b-2", "b\u{e9}"]);
    assert!(names(&ledger.get("/runs?prefix=x").await.json()).is_empty());
    assert!(names(&ledger.get("/runs?tenant=t").await.json()).is_empty());
    ledger
        .get("/runs?limit=0")
        .await
        .refused(400, "invalid-parameter");
    app.stop().await;
}
