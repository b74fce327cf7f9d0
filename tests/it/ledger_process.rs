//! The ledger when processes die, and its commands: real processes, real signals.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{app::*, process::Place};

const STEPS: usize = 40;

/// What the world saw of a step: the effect key of each time that it happened.
type World = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

/// A worker that calls whichever node there is.
#[derive(Clone)]
struct Worker {
    http: reqwest::Client,
    node: watch::Receiver<String>,
    world: World,
}

impl Worker {
    /// Sends the same call until somebody answers it.
    async fn call(&self, step: &str, action: &str, body: &Value) -> (u16, Value) {
        loop {
            let url = format!("{}/v1/runs/r/steps/{step}/{action}", *self.node.borrow());
            let Ok(response) = self.http.post(url).bearer_auth(TOKEN).json(body).send().await else {
                tokio::task::yield_now().await;
                continue;
            };
            let status = response.status().as_u16();
            if status == 503 {
                continue;
            }
            if let Ok(said) = response.json().await {
                return (status, said);
            }
        }
    }

    /// One life: claims, does the work, and may die before it tells. Returns whether the step needs no other.
    async fn execute(&self, step: &str, life: &str, dies: bool) -> bool {
        let on_lost = if step.starts_with("hold") { "hold" } else { "retry" };
        let lease_ms = if dies { 400 } else { 60_000 };
        let claim = json!({ "claim_id": life, "lease_ms": lease_ms, "on_lost": on_lost, "wait_ms": 2000 });
        let (status, said) = self.call(step, "claim", &claim).await;
        match (status, said["type"].as_str().unwrap_or_default()) {
            (200, _) | (409, "urn:hookonce:problem:outcome-unknown") => true,
            (409, _) => false,
            (201, _) => {
                let key = said["effect_key"].as_str().expect("a key").to_owned();
                self.world.lock().expect("the world").entry(step.to_owned()).or_default().push(key);
                if dies {
                    return false;
                }
                let (status, said) = self.call(step, "complete", &json!({ "fence": said["fence"], "result": life })).await;
                assert_eq!(status, 200, "{said}");
                true
            }
            _ => panic!("{status} {said}"),
        }
    }
}

fn client() -> reqwest::Client {
    // Only the first installation can succeed, and any is as good as another.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

fn address(place: &Place) -> String {
    let text = std::fs::read_to_string(place.folder.path().join("data/admin.address")).expect("the address");
    format!("http://{}", text.trim())
}

/// Every fourth worker dies between the effect and the completion, and the node is killed in the middle: under hold no effect happens twice,
/// under retry all carry one key, and every step comes to an end that is known or known to be unknown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_and_nodes_that_are_killed_cause_no_effect_twice() {
    let place = Place::new("[ingress]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"127.0.0.1:0\"\ntoken = \"test-token\"\n").await;
    let served = place.serve().await;
    let (node, watched) = watch::channel(address(&place));
    let done = watch::channel(0_usize);
    let worker = Worker { http: client(), node: watched, world: World::default() };
    let workers: Vec<_> = (0..4)
        .map(|number| {
            let (worker, done) = (worker.clone(), done.0.clone());
            tokio::spawn(async move {
                for step in (0..STEPS).map(|step| format!("{}-{step}", if step % 2 == 0 { "hold" } else { "retry" })) {
                    let mut life = 0;
                    while !worker.execute(&step, &format!("{number}.{life}"), number == 0 && life == 0).await {
                        life += 1;
                    }
                    done.send_modify(|done| *done += 1);
                }
            })
        })
        .collect();
    let mut progress = done.1.clone();
    tokio::time::timeout(LONG, progress.wait_for(|done| *done >= STEPS)).await.expect("progress").expect("the workers");
    served.signal("KILL");
    served.ended().await;
    let served = place.serve().await;
    node.send_replace(address(&place));
    for worker in workers {
        tokio::time::timeout(LONG * 3, worker).await.expect("an end").expect("a worker");
    }
    let world = worker.world.lock().expect("the world").clone();
    assert_eq!(world.len(), STEPS);
    for (step, keys) in &world {
        assert!(!step.starts_with("hold") || keys.len() == 1, "{step} happened {} times", keys.len());
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 1, "{step} has keys {keys:?}");
    }
    let steps = place.json(&["ledger", "show", "r", "--token", TOKEN]).await;
    let unknown = steps.as_array().expect("steps").iter().filter(|step| step["status"] == "unknown").count();
    let known = steps.as_array().expect("steps").iter().filter(|step| step["status"] == "done").count();
    assert_eq!(known + unknown, STEPS);
    served.signal("TERM");
    assert!(served.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_are_listed_shown_and_resolved_and_tokens_managed_by_command() {
    let place = Place::new("[ingress]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"127.0.0.1:0\"\n").await;
    let served = place.serve().await;
    let token = place.json(&["tokens", "create", "--scope", "ledger"]).await;
    let id = token["id"].as_str().expect("an id");
    let secret = token["token"].as_str().expect("a token");
    assert_eq!(place.run(&["events", "list", "--token", secret]).await.status.code(), Some(1));
    let http = client();
    let claim = http.post(format!("{}/v1/runs/order%2F1/steps/charge/claim", address(&place))).bearer_auth(secret);
    let claimed = claim.json(&json!({ "claim_id": "a", "lease_ms": 1 })).send().await.expect("an answer");
    assert_eq!(claimed.status().as_u16(), 201);
    let unknown = async { while place.json(&["ledger", "list", "--status", "unknown"]).await.as_array().map(Vec::len) != Some(1) {} };
    tokio::time::timeout(LONG, unknown).await.expect("the lease's end");
    assert!(place.text(&["ledger", "list"]).await.contains("charge"));
    assert_eq!(place.run(&["ledger", "show", "order/1", "refund"]).await.status.code(), Some(3));
    let resolve =
        ["ledger", "resolve", "order/1", "charge", "--outcome", "done", "--result", "{\"id\":7}", "--evidence", "seen in the bank's list"];
    assert!(place.text(&resolve).await.contains("is done"));
    let shown = place.json(&["ledger", "show", "order/1", "charge"]).await;
    assert_eq!(
        (&shown["status"], &shown["result"], &shown["evidence"]),
        (&json!("done"), &json!({ "id": 7 }), &json!("seen in the bank's list"))
    );
    assert!(place.text(&["ledger", "show", "order/1", "charge"]).await.contains("bank"));
    assert!(!place.text(&["tokens", "list"]).await.contains(secret));
    place.text(&["tokens", "revoke", id]).await;
    assert_eq!(place.run(&["ledger", "show", "order/1", "--token", secret]).await.status.code(), Some(1));
    served.signal("TERM");
    assert!(served.ended().await.success());
}
