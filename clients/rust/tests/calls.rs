//! How calls are sent, seen from the other side: a service that answers by a list.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use hookonce_client::{Error, Ledger, WorkError};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const GIVE_UP: Duration = Duration::from_secs(20);

/// The calls that came: the request's first line, and its body.
type Calls = Arc<Mutex<Vec<(String, Value)>>>;

/// Gives each call the next answer, a status and a body. After the last one it answers 503.
async fn service(answers: Vec<(u16, Value)>) -> (String, Calls) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let calls = Calls::default();
    let seen = calls.clone();
    tokio::spawn(async move {
        let mut answers = answers.into_iter();
        while let Ok((mut connection, _)) = listener.accept().await {
            let Some(call) = read(&mut connection).await else {
                continue;
            };
            seen.lock().expect("the calls").push(call);
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
    (url, calls)
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
    let calls = calls.lock().unwrap().clone();
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
    assert_eq!(calls[4].1, json!({ "fence": 1, "result": "e", "emit": [] }));
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
    assert!(!calls.lock().unwrap().is_empty());
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
    let (line, body) = calls.lock().unwrap()[1].clone();
    assert_eq!(
        (line.as_str(), body),
        (
            "POST /v1/runs/r/steps/s/release HTTP/1.1",
            json!({ "fence": 1 })
        )
    );
}
