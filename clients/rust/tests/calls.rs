//! How calls are sent, seen from the other side: a service that answers by a list.

use std::{collections::BTreeMap, time::Duration};

use hookonce_client::{Awaited, Error, Ledger, OnLost, Repeat, StepContext, WorkError};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

const GIVE_UP: Duration = Duration::from_secs(20);

/// What no test should have to wait for.
const LONG: Duration = Duration::from_secs(20);

/// The calls that came: the request's first line, and its body.
struct Calls(watch::Receiver<Vec<(String, Value)>>);

impl Calls {
    /// All calls, once there are so many.
    async fn of(&self, count: usize) -> Vec<(String, Value)> {
        let mut calls = self.0.clone();
        let all = calls.wait_for(|calls| calls.len() >= count);
        let all = tokio::time::timeout(LONG, all).await;
        all.expect("the calls").expect("the service").clone()
    }

    /// What was asked for, call by call: the last part of the path.
    async fn actions(&self, count: usize) -> Vec<String> {
        let action = |(line, _): &(String, Value)| {
            let path = line.split(' ').nth(1).expect("a path");
            path.rsplit('/').next().expect("an action").to_owned()
        };
        self.of(count).await.iter().map(action).collect()
    }
}

/// Gives each call the next answer, a status and a body. After the last one it answers 503.
async fn service(answers: Vec<(u16, Value)>) -> (String, Calls) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (seen, calls) = watch::channel(Vec::new());
    tokio::spawn(async move {
        let mut answers = answers.into_iter();
        while let Ok((mut connection, _)) = listener.accept().await {
            let Some(call) = read(&mut connection).await else {
                continue;
            };
            seen.send_modify(|calls| calls.push(call));
            let (status, body) = answers.next().unwrap_or((503, Value::Null));
            let body = body.to_string();
            let head = format!(
                "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            connection
                .write_all(format!("{head}{body}").as_bytes())
                .await
                .expect("an open connection");
        }
    });
    (url, Calls(calls))
}

async fn read(connection: &mut TcpStream) -> Option<(String, Value)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .to_lowercase()
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.lines().next()?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                let line = head.lines().next().unwrap_or_default().to_owned();
                return Some((line, serde_json::from_str(body).unwrap_or_default()));
            }
        }
        let mut chunk = [0; 4096];
        match connection.read(&mut chunk).await.ok()? {
            0 => return None,
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

fn granted() -> (u16, Value) {
    (
        201,
        json!({ "fence": 1, "attempt": 1, "effect_key": "e", "lease_until": "2026-01-01T00:00:00Z" }),
    )
}

#[tokio::test]
async fn a_call_without_an_answer_is_sent_again_as_it_was() {
    let (url, calls) = service(vec![
        (503, Value::Null),
        (429, Value::Null),
        granted(),
        (502, Value::Null),
        (200, json!({})),
    ])
    .await;
    let run = Ledger::with(&url, "t", GIVE_UP).unwrap().run("order/1");
    let result: String = run
        .step("charge")
        .execute(|step| async move { Ok(step.effect_key) })
        .await
        .unwrap();
    assert_eq!(result, "e");
    let calls = calls.of(5).await;
    let lines: Vec<&str> = calls.iter().map(|(line, _)| line.as_str()).collect();
    let (claim, complete) = (
        "POST /v1/runs/order%2F1/steps/charge/claim HTTP/1.1",
        "POST /v1/runs/order%2F1/steps/charge/complete HTTP/1.1",
    );
    assert_eq!(lines, [claim, claim, claim, complete, complete]);
    let claim_ids: Vec<&str> = calls[..3]
        .iter()
        .map(|(_, body)| body["claim_id"].as_str().unwrap())
        .collect();
    assert!(
        claim_ids.iter().all(|id| *id == claim_ids[0]),
        "{claim_ids:?}"
    );
    assert_eq!(
        calls[4].1,
        json!({ "fence": 1, "claim_id": claim_ids[0], "result": "e", "emit": [] })
    );
}

#[tokio::test]
async fn a_service_that_never_answers_is_given_up() {
    let (url, calls) = service(Vec::new()).await;
    let ledger = Ledger::with(&url, "t", Duration::from_millis(300)).unwrap();
    let given_up = ledger.dedup("orders", "1", Duration::from_secs(3600)).await;
    assert!(
        matches!(&given_up, Err(Error::Unavailable(why)) if why.starts_with("503")),
        "{given_up:?}"
    );
    assert!(!calls.of(1).await.is_empty());
}

#[tokio::test]
async fn work_that_did_nothing_gives_its_step_back() {
    let (url, calls) = service(vec![granted(), (200, json!({}))]).await;
    let run = Ledger::with(&url, "t", GIVE_UP).unwrap().run("r");
    let work = |_| async { Err::<(), _>(WorkError::NotExecuted("no connection".into())) };
    let ended = run.step("s").execute(work).await;
    assert!(
        matches!(&ended, Err(Error::NotExecuted(why)) if why == "no connection"),
        "{ended:?}"
    );
    let calls = calls.of(2).await;
    let claim_id = calls[0].1["claim_id"].clone();
    let (line, body) = calls[1].clone();
    assert_eq!(
        (line.as_str(), body),
        (
            "POST /v1/runs/r/steps/s/release HTTP/1.1",
            json!({ "fence": 1, "claim_id": claim_id })
        )
    );
}

/// A claim's answer for a step that ended before.
fn ended(result: &Value, replayed_at: &str) -> (u16, Value) {
    let ended_at = "2026-11-27T10:00:00Z";
    let said = json!({
        "status": "done", "result": result, "ended_at": ended_at, "owner": "worker-7", "replayed_at": replayed_at,
    });
    (200, said)
}

async fn charge(step: StepContext) -> Result<String, WorkError> {
    Ok(step.effect_key)
}

#[tokio::test]
async fn an_answer_to_another_call_is_none() {
    let other = |member: &str| {
        let (status, mut body) = granted();
        body[member] = "another".into();
        (status, body)
    };
    let mut own = granted();
    own.1["run"] = "r".into();
    own.1["step"] = "s".into();
    let of_another_step = (200, json!({ "status": "done", "step": "t" }));
    let (url, calls) = service(vec![
        other("run"),
        other("step"),
        other("claim_id"),
        (
            409,
            json!({ "type": "urn:hookonce:step-running", "run": "q" }),
        ),
        own,
        of_another_step,
        (200, json!({ "run": "r", "step": "s" })),
    ])
    .await;
    let run = Ledger::with(&url, "t", GIVE_UP).unwrap().run("r");
    assert_eq!(run.step("s").execute(charge).await.unwrap(), "e");
    let mut expected = vec!["claim"; 5];
    expected.extend(["complete", "complete"]);
    assert_eq!(calls.actions(7).await, expected);
}

#[tokio::test]
async fn a_result_that_is_too_large_leaves_the_step_done() {
    let refused = (
        413,
        json!({ "type": "urn:hookonce:too-large", "detail": "the result has 9 bytes" }),
    );
    let mut replay = ended(&Value::Null, "2026-11-27T10:00:01Z");
    replay.1["result_not_kept"] =
        json!({ "reason": "too-large", "detail": "the result has 9 bytes" });
    let (url, calls) = service(vec![granted(), refused, (200, json!({})), replay]).await;
    let run = Ledger::with(&url, "t", GIVE_UP).unwrap().run("r");
    let first = run.step("s").outcome(charge).await.unwrap();
    assert_eq!(first.result, "e");
    assert_eq!(first.not_kept.unwrap().reason, "too-large");
    let later = run.step("s").outcome(charge).await;
    let Err(Error::ResultNotKept {
        reason, message, ..
    }) = later
    else {
        panic!("{later:?}");
    };
    assert_eq!(reason, "too-large");
    assert_eq!(
        message,
        "Not executed again: this same step was done at 2026-11-27T10:00:00Z by worker-7; its result was not kept \
         (too-large: the result has 9 bytes)."
    );
    let calls = calls.of(4).await;
    assert_eq!(calls[2].1["result_not_kept"]["reason"], "too-large");
    assert_eq!(calls[2].1.get("result"), None);
}

#[tokio::test]
async fn a_result_that_is_no_json_leaves_the_step_done() {
    let (url, calls) = service(vec![granted(), (200, json!({}))]).await;
    let run = Ledger::with(&url, "t", GIVE_UP).unwrap().run("r");
    let result = BTreeMap::from([((1, 2), 3)]);
    let first = run
        .step("s")
        .execute(|_| async { Ok(result.clone()) })
        .await;
    assert_eq!(first.unwrap(), result);
    let calls = calls.of(2).await;
    assert_eq!(calls[1].1["result_not_kept"]["reason"], "not-encodable");
}

#[tokio::test]
async fn an_end_that_is_refused_is_given_up_at_once() {
    let refused = (
        400,
        json!({ "type": "urn:hookonce:unknown-source", "detail": "no" }),
    );
    let (url, calls) = service(vec![granted(), refused, (200, json!({}))]).await;
    let run = Ledger::with(&url, "t", GIVE_UP).unwrap().run("r");
    let ended = run.step("s").execute(charge).await;
    assert!(matches!(ended, Err(Error::Refused { status: 400, .. })));
    assert_eq!(calls.actions(3).await, ["claim", "complete", "abandon"]);
}

#[tokio::test]
async fn an_error_of_the_work_is_told_as_evidence() {
    let (url, calls) = service(vec![granted(), (200, json!({}))]).await;
    let run = Ledger::with(&url, "t", GIVE_UP).unwrap().run("r");
    let boom = |_| async { Err::<(), WorkError>(std::io::Error::other("boom").into()) };
    let ended = run.step("s").on_lost(OnLost::Retry).execute(boom).await;
    assert!(matches!(ended, Err(Error::Work(_))));
    let (line, body) = calls.of(2).await[1].clone();
    assert!(line.contains("/abandon "), "{line}");
    assert_eq!(body["error"], json!({ "error": "boom" }));
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_the_step_at_once() {
    let (url, calls) = service(vec![granted(), (200, json!({}))]).await;
    let run = Ledger::with(&url, "t", GIVE_UP).unwrap().run("r");
    let begun = tokio::sync::Notify::new();
    let work = |_| async {
        begun.notify_one();
        std::future::pending::<Result<(), WorkError>>().await
    };
    tokio::select! {
        _ = run.step("s").execute(work) => panic!("it can't end"),
        () = begun.notified() => {}
    }
    let (line, body) = calls.of(2).await[1].clone();
    assert!(line.contains("/abandon "), "{line}");
    assert_eq!(
        body["error"]["error"],
        "the caller went away before the work had ended"
    );
}

#[tokio::test]
async fn a_claim_whose_caller_went_away_is_given_back() {
    let lost = (503, Value::Null);
    let (url, calls) = service(vec![lost, granted(), (200, json!({}))]).await;
    let ledger = Ledger::with(&url, "t", GIVE_UP).unwrap();
    let run = ledger.run("r");
    tokio::select! {
        biased;
        _ = calls.of(1) => {}
        _ = run.step("s").execute(charge) => panic!("it can't end"),
    }
    let calls = calls.of(3).await;
    assert_eq!(calls[1].1["claim_id"], calls[0].1["claim_id"]);
    assert!(calls[2].0.contains("/release "), "{calls:?}");
}

#[tokio::test]
async fn detached_work_ends_without_its_caller() {
    let (url, calls) = service(vec![granted(), (200, json!({}))]).await;
    let run = Ledger::with(&url, "t", GIVE_UP).unwrap().run("r");
    let (go, waits) = tokio::sync::oneshot::channel::<()>();
    let work = move |_| async move {
        waits.await.expect("the word");
        Ok("done".to_owned())
    };
    tokio::select! {
        _ = run.step("s").execute_detached(work) => panic!("it can't end"),
        _ = calls.of(1) => {}
    }
    go.send(()).expect("the work");
    assert_eq!(calls.actions(2).await, ["claim", "complete"]);
}

#[tokio::test]
async fn a_planned_repeat_gets_the_first_result_and_is_told() {
    let replay = || ended(&json!("first"), "2026-11-27T10:09:00Z");
    let (url, calls) = service(vec![
        replay(),
        replay(),
        replay(),
        replay(),
        granted(),
        (200, json!({})),
    ])
    .await;
    let run = Ledger::with(&url, "t", GIVE_UP).unwrap().run("r");
    let arguments = json!({ "customer": "cus_1", "amount": 500 });
    let call = |repeat| run.call("charge", &arguments, repeat).unwrap();
    let once = call(Repeat::Once).execute(charge).await.unwrap();
    assert_eq!(once.result, "first");
    assert_eq!(once.replayed_at.as_deref(), Some("2026-11-27T10:09:00Z"));
    assert_eq!(
        once.message.as_deref(),
        Some(
            "Not executed again: this same call was done at 2026-11-27T10:00:00Z by worker-7; this is its result."
        )
    );
    let refused = call(Repeat::Ask).execute(charge).await;
    let Err(Error::RepeatRefused {
        tool,
        arguments: asked,
        result,
        owner,
        ..
    }) = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!(
        (tool.as_str(), asked, result),
        ("charge", arguments.clone(), json!("first"))
    );
    assert_eq!(owner.as_deref(), Some("worker-7"));
    let ten_minutes = Repeat::After(Duration::from_secs(600));
    let lately = call(ten_minutes).execute(charge).await.unwrap();
    assert_eq!(lately.result, "first");
    let nine_minutes = Repeat::After(Duration::from_secs(540));
    let anew = call(nine_minutes).execute(charge).await.unwrap();
    assert_eq!((anew.result.as_str(), anew.replayed_at), ("e", None));
    let calls = calls.of(6).await;
    let step = "call%3Acharge%3A08c36bbe871cce0aa38bcc0705d73aba738c37f6277bf785bb4488dd4433c368";
    assert!(calls[3].0.contains(&format!("/{step}/claim ")), "{calls:?}");
    assert!(
        calls[4].0.contains(&format!("/{step}%232/claim ")),
        "{calls:?}"
    );
}

#[tokio::test]
async fn numbered_calls_keep_their_numbers_until_they_end() {
    let end = || (200, json!({}));
    let (url, calls) = service(vec![granted(), end(), granted(), end(), granted(), end()]).await;
    let run = Ledger::with(&url, "t", GIVE_UP).unwrap().run("r");
    let call = || run.call("roll", &json!({}), Repeat::Numbered).unwrap();
    call().execute(charge).await.unwrap();
    let busy = |_| async { Err::<String, _>(WorkError::NotExecuted("busy".into())) };
    assert!(matches!(
        call().execute(busy).await,
        Err(Error::NotExecuted(_))
    ));
    call().execute(charge).await.unwrap();
    let calls = calls.of(6).await;
    let numbers: Vec<bool> = [0, 2, 4].map(|at| calls[at].0.contains("%232/")).into();
    assert_eq!(numbers, [false, true, true]);
}

#[tokio::test]
async fn a_consumer_that_fails_gives_the_key_back() {
    let first = || {
        (
            200,
            json!({ "status": "first", "fence": 3, "scope": "orders", "key": "k" }),
        )
    };
    let (url, calls) = service(vec![first(), (200, json!({})), first(), (200, json!({}))]).await;
    let ledger = Ledger::with(&url, "t", GIVE_UP).unwrap();
    let (window, lease) = (Duration::from_secs(60), Duration::from_secs(30));
    let fails = || async { Err::<(), _>(std::io::Error::other("boom")) };
    let ended = ledger
        .dedup_handle("orders", "k", window, lease, fails)
        .await;
    assert!(matches!(ended, Err(Error::Work(_))), "{ended:?}");
    assert_eq!(calls.of(2).await[1].1, json!({ "key": "k", "fence": 3 }));
    let works = || async { Ok::<_, std::io::Error>(7) };
    let ended = ledger
        .dedup_handle("orders", "k", window, lease, works)
        .await;
    assert_eq!(ended.unwrap(), Some(7));
    assert_eq!(
        calls.actions(4).await,
        ["orders", "release", "orders", "done"]
    );
}

#[tokio::test]
async fn a_slow_consumer_keeps_its_key() {
    let first = (200, json!({ "status": "first", "fence": 3 }));
    let (url, calls) = service(vec![
        first,
        (200, json!({})),
        (200, json!({})),
        (200, json!({})),
    ])
    .await;
    let ledger = Ledger::with(&url, "t", GIVE_UP).unwrap();
    let (window, lease) = (Duration::from_secs(60), Duration::from_millis(90));
    let until_two_beats = || async {
        calls.of(3).await;
        Ok::<_, std::io::Error>(())
    };
    let ended = ledger
        .dedup_handle("orders", "k", window, lease, until_two_beats)
        .await;
    assert_eq!(ended.unwrap(), Some(()));
    let actions = calls.actions(4).await;
    assert_eq!(actions[..3], ["orders", "heartbeat", "heartbeat"]);
    assert!(matches!(
        actions.last().map(String::as_str),
        Some("done" | "heartbeat")
    ));
}

#[tokio::test]
async fn a_wait_ends_with_the_event_or_with_the_time() {
    let waiting = (
        409,
        json!({ "type": "urn:hookonce:step-waiting", "run": "r" }),
    );
    let event = json!({
        "event": "0197", "source": "stripe", "type": "payment_intent.succeeded", "key": "evt_1",
        "received_at": "2026-11-27T10:00:00Z", "body": { "id": "evt_1" },
    });
    let timed_out = json!({ "status": "failed", "result": { "error": "timed-out" } });
    let (url, calls) = service(vec![
        waiting,
        (200, json!({ "status": "done", "result": event })),
        (200, timed_out),
    ])
    .await;
    let run = Ledger::with(&url, "t", GIVE_UP).unwrap().run("r");
    let awaited = Awaited::from("stripe")
        .event_type("payment_intent.succeeded")
        .value("body:/data/object/id", "pi_1");
    let hour = Duration::from_secs(3600);
    let arrived = run.wait_for(&awaited, hour).await.unwrap().unwrap();
    assert_eq!(
        (arrived.key.as_str(), &arrived.body["id"]),
        ("evt_1", &json!("evt_1"))
    );
    assert!(
        run.wait_for(&awaited.step("paid"), hour)
            .await
            .unwrap()
            .is_none()
    );
    let calls = calls.of(3).await;
    assert_eq!(calls[0], calls[1]);
    let terms = json!({
        "source": "stripe", "type": "payment_intent.succeeded", "timeout_ms": 3_600_000, "wait_ms": 20_000,
        "match": { "place": "body:/data/object/id", "value": "pi_1" },
    });
    assert_eq!(calls[0].1, terms);
    assert_eq!(calls[2].0, "POST /v1/runs/r/steps/paid/wait HTTP/1.1");
}

#[tokio::test]
async fn an_event_that_can_t_be_emitted_is_refused_where_it_is_emitted() {
    let (url, _) = service(vec![granted(), (200, json!({}))]).await;
    let run = Ledger::with(&url, "t", GIVE_UP).unwrap().run("r");
    let work = |step: StepContext| async move {
        for event_type in ["", "a\tb", &"t".repeat(256)] {
            assert!(matches!(step.emit(event_type, &1), Err(Error::Invalid(_))));
        }
        assert!(matches!(
            step.emit("t", &BTreeMap::from([((1, 2), 3)])),
            Err(Error::Json(_))
        ));
        Ok(step.emit("order.paid", &json!({ "order": 1 }))?)
    };
    run.step("s").execute(work).await.unwrap();
}
