//! The step ledger and dedup over HTTP: who may execute, what a repeat gets, what becomes of the
//! lost.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::app::*;

/// One who calls the ledger with a token.
#[derive(Clone)]
pub struct Caller {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Caller {
    pub fn of(app: &TestApp) -> Self {
        Self {
            http: app.http.clone(),
            base: app.admin.clone(),
            token: TOKEN.into(),
        }
    }

    async fn say(&self, request: reqwest::RequestBuilder) -> Said {
        let response = request
            .bearer_auth(&self.token)
            .send()
            .await
            .expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Said {
            status,
            headers,
            text: response.text().await.expect("a body"),
        }
    }

    pub async fn post(&self, path: &str, body: Value) -> Said {
        self.say(
            self.http
                .post(format!("{}/v1{path}", self.base))
                .json(&body),
        )
        .await
    }

    pub async fn get(&self, path: &str) -> Said {
        self.say(self.http.get(format!("{}/v1{path}", self.base)))
            .await
    }

    pub async fn call(&self, step: &str, action: &str, body: Value) -> Said {
        self.post(&format!("/runs/r/steps/{step}/{action}"), body)
            .await
    }

    /// Claims until the answer is another than "running".
    async fn claim_until(&self, step: &str, body: Value) -> Said {
        let wait = async {
            loop {
                let said = self.call(step, "claim", body.clone()).await;
                if said.kind() != "step-running" {
                    return said;
                }
            }
        };
        tokio::time::timeout(LONG, wait)
            .await
            .expect("the lease to end")
    }
}

impl Said {
    /// The end of a problem's type; empty where it is none.
    pub fn kind(&self) -> String {
        let json: Value = serde_json::from_str(&self.text).unwrap_or_default();
        json["type"]
            .as_str()
            .and_then(|kind| kind.rsplit(':').next())
            .unwrap_or_default()
            .to_owned()
    }

    pub fn fence(&self) -> i64 {
        self.json()["fence"]
            .as_i64()
            .unwrap_or_else(|| panic!("{self:?}"))
    }

    pub fn refused(&self, status: u16, kind: &str) {
        assert_eq!(
            (self.status, self.kind().as_str()),
            (status, kind),
            "{self:?}"
        );
        assert_eq!(self.headers["content-type"], "application/problem+json");
    }
}

fn claim(id: &str) -> Value {
    json!({ "claim_id": id, "owner": format!("worker {id}"), "lease_ms": 60_000 })
}

/// A lease that is over by the time that anybody asks again.
fn short(id: &str, on_lost: &str) -> Value {
    json!({ "claim_id": id, "lease_ms": 1, "on_lost": on_lost })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_is_claimed_completed_and_then_only_read() {
    let app = spawn_app(&config(&[])).await;
    let ledger = Caller::of(&app);
    let mut body = claim("a");
    body["input_hash"] = "sha256:1".into();
    let granted = ledger.call("s", "claim", body.clone()).await;
    assert_eq!(granted.status, 201, "{granted:?}");
    let grant = granted.json();
    assert_eq!((&grant["fence"], &grant["attempt"]), (&json!(1), &json!(1)));
    assert!(grant["effect_key"].is_string() && grant["lease_until"].is_string());
    let again = ledger.call("s", "claim", body.clone()).await;
    assert_eq!(
        (again.status, again.text),
        (201, granted.text),
        "the same claim has the same answer"
    );
    let other = ledger.call("s", "claim", claim("b")).await;
    other.refused(409, "step-running");
    assert!(other.headers.contains_key("retry-after"));
    assert_eq!(other.json()["owner"], "worker a");
    let mut changed = claim("c");
    changed["input_hash"] = "sha256:2".into();
    ledger
        .call("s", "claim", changed.clone())
        .await
        .refused(422, "input-changed");
    assert_eq!(
        ledger
            .call("s", "heartbeat", json!({ "fence": 1, "lease_ms": 60_000 }))
            .await
            .status,
        200
    );
    ledger
        .call("s", "heartbeat", json!({ "fence": 2, "lease_ms": 60_000 }))
        .await
        .refused(409, "stale-fence");
    ledger
        .call("s", "complete", json!({ "fence": 2, "result": 1 }))
        .await
        .refused(409, "stale-fence");
    let complete = json!({ "fence": 1, "result": { "charge": "ch_1", "amount": 1.10 } });
    let done = ledger.call("s", "complete", complete.clone()).await;
    assert_eq!(
        (done.status, done.json()),
        (
            200,
            json!({ "status": "done", "fence": 1, "run": "r", "step": "s", "claim_id": "a" })
        )
    );
    assert_eq!(ledger.call("s", "complete", complete).await.text, done.text);
    ledger
        .call("s", "complete", json!({ "fence": 1, "result": 2 }))
        .await
        .refused(409, "stale-fence");
    ledger
        .call("s", "heartbeat", json!({ "fence": 1 }))
        .await
        .refused(409, "stale-fence");
    ledger
        .call("s", "release", json!({ "fence": 1 }))
        .await
        .refused(409, "stale-fence");
    ledger
        .call("s", "claim", changed)
        .await
        .refused(422, "input-changed");
    for id in ["a", "b"] {
        let said = ledger.call("s", "claim", claim(id)).await;
        let replay = said.json();
        assert_eq!(
            (said.status, &replay["status"], &replay["result"]),
            (
                200,
                &json!("done"),
                &json!({ "charge": "ch_1", "amount": 1.10 })
            )
        );
    }
    ledger
        .call("unheard", "complete", json!({ "fence": 1 }))
        .await
        .refused(404, "not-found");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_is_kept_byte_for_byte_and_an_error_is_one_too() {
    let app = spawn_app(&config(&[])).await;
    let ledger = Caller::of(&app);
    ledger.call("s", "claim", claim("a")).await;
    let raw = r#"{"fence":1,"result":{ "b" : 1.50, "a":"\u0000é", "b": 12345678901234567890123 }}"#;
    let request = ledger
        .http
        .post(format!("{}/v1/runs/r/steps/s/complete", app.admin))
        .header("content-type", "application/json");
    assert_eq!(ledger.say(request.body(raw)).await.status, 200);
    let expected = r#"{ "b" : 1.50, "a":"\u0000é", "b": 12345678901234567890123 }"#;
    let replay = ledger.call("s", "claim", claim("b")).await.text;
    let begin = format!(r#"{{"status":"done","result":{expected},"claim_id":"b","#);
    assert!(replay.starts_with(&begin), "{replay}");
    assert!(ledger.get("/runs/r/steps/s").await.text.contains(expected));
    ledger.call("f", "claim", claim("a")).await;
    let failed = ledger
        .call(
            "f",
            "complete",
            json!({ "fence": 1, "error": { "code": "card_declined" } }),
        )
        .await;
    assert_eq!(failed.json()["status"], "failed");
    let said = ledger.call("f", "claim", claim("b")).await;
    let replay = said.json();
    assert_eq!(
        (said.status, &replay["status"], &replay["result"]),
        (200, &json!("failed"), &json!({ "code": "card_declined" }))
    );
    ledger.call("n", "claim", claim("a")).await;
    ledger
        .call(
            "n",
            "complete",
            json!({ "fence": 1, "result": 1, "error": 2 }),
        )
        .await
        .refused(400, "malformed-body");
    let big = "x".repeat(1 << 20);
    ledger
        .call("n", "complete", json!({ "fence": 1, "result": big }))
        .await
        .refused(413, "too-large");
    assert_eq!(
        ledger
            .call("n", "complete", json!({ "fence": 1 }))
            .await
            .status,
        200
    );
    assert_eq!(
        ledger.call("n", "claim", claim("b")).await.json()["result"],
        Value::Null
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_step_is_retried_with_its_effect_key_or_held_until_somebody_knows() {
    let app = spawn_app(&config(&[])).await;
    let ledger = Caller::of(&app);
    let first = ledger
        .call("retry", "claim", short("a", "retry"))
        .await
        .json();
    let second = ledger.claim_until("retry", claim("b")).await;
    assert_eq!((second.status, second.fence()), (201, 2), "{second:?}");
    assert_eq!(
        (&second.json()["effect_key"], &second.json()["attempt"]),
        (&first["effect_key"], &json!(2))
    );
    for (action, body) in [
        ("complete", json!({ "fence": 1, "result": 0 })),
        ("heartbeat", json!({ "fence": 1 })),
        ("release", json!({ "fence": 1 })),
    ] {
        ledger
            .call("retry", action, body)
            .await
            .refused(409, "stale-fence");
    }
    ledger.call("hold", "claim", short("a", "hold")).await;
    let held = ledger.claim_until("hold", short("b", "retry")).await;
    held.refused(409, "outcome-unknown");
    assert_eq!(held.fence(), 1);
    ledger
        .claim_until("hold", claim("a"))
        .await
        .refused(409, "outcome-unknown");
    ledger
        .call("hold", "complete", json!({ "fence": 1, "result": 0 }))
        .await
        .refused(409, "stale-fence");
    assert_eq!(
        ledger.get("/runs/r/steps/hold").await.json()["status"],
        "unknown"
    );
    let resolve = |fence: i64, outcome: &str, evidence: Value| json!({ "expected_fence": fence, "outcome": outcome, "evidence": evidence });
    ledger
        .call("hold", "resolve", resolve(1, "not-executed", json!("")))
        .await
        .refused(400, "malformed-body");
    ledger
        .call("hold", "resolve", resolve(2, "not-executed", json!("x")))
        .await
        .refused(409, "stale-fence");
    let free = ledger
        .call(
            "hold",
            "resolve",
            resolve(1, "not-executed", json!("no charge at the provider")),
        )
        .await;
    assert_eq!(
        (free.status, free.word().as_str(), free.fence()),
        (200, "released", 2)
    );
    assert_eq!(
        ledger
            .call(
                "hold",
                "resolve",
                resolve(1, "not-executed", json!("no charge at the provider"))
            )
            .await
            .text,
        free.text
    );
    let retaken = ledger.call("hold", "claim", short("c", "hold")).await;
    assert_eq!((retaken.status, retaken.fence()), (201, 3));
    ledger
        .claim_until("hold", claim("d"))
        .await
        .refused(409, "outcome-unknown");
    let mut known = resolve(3, "done", json!({ "charge": "ch_1" }));
    known["result"] = json!("ch_1");
    let resolved = ledger.call("hold", "resolve", known).await.json();
    assert_eq!(
        (&resolved["status"], &resolved["fence"]),
        (&json!("done"), &json!(4))
    );
    assert_eq!(
        ledger.call("hold", "claim", claim("e")).await.json()["result"],
        "ch_1"
    );
    let shown = ledger.get("/runs/r/steps/hold").await.json();
    assert_eq!(shown["evidence"], json!({ "charge": "ch_1" }));
    ledger.call("live", "claim", claim("a")).await;
    ledger
        .call("live", "resolve", resolve(1, "done", json!("x")))
        .await
        .refused(409, "stale-fence");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_step_was_not_attempted_and_a_run_is_read_in_one_call() {
    let app = spawn_app(&config(&[])).await;
    let ledger = Caller::of(&app);
    ledger.call("one", "claim", claim("a")).await;
    let released = ledger.call("one", "release", json!({ "fence": 1 })).await;
    assert_eq!(
        (released.status, &released.json()["status"]),
        (200, &json!("released"))
    );
    assert_eq!(
        ledger
            .call("one", "release", json!({ "fence": 1 }))
            .await
            .text,
        released.text
    );
    ledger
        .call("one", "complete", json!({ "fence": 1 }))
        .await
        .refused(409, "stale-fence");
    let granted = ledger.call("one", "claim", claim("b")).await.json();
    assert_eq!(
        (&granted["fence"], &granted["attempt"]),
        (&json!(2), &json!(1))
    );
    ledger
        .call("one", "complete", json!({ "fence": 2, "result": "first" }))
        .await;
    ledger.call("two%2Fhalf", "claim", claim("a")).await;
    ledger.post("/runs/other/steps/x/claim", claim("a")).await;
    let run = ledger.get("/runs/r/steps").await.json();
    let items = run["items"].as_array().expect("items");
    let seen: Vec<(&str, &str)> = items
        .iter()
        .filter_map(|step| Some((step["step"].as_str()?, step["status"].as_str()?)))
        .collect();
    assert_eq!(
        (seen.as_slice(), &run["next"]),
        (
            &[("one", "done"), ("two/half", "running")][..],
            &Value::Null
        )
    );
    assert_eq!(items[0]["result"], "first");
    let page = ledger.get("/runs/r/steps?limit=1").await.json();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1));
    let rest = ledger
        .get(&format!(
            "/runs/r/steps?cursor={}",
            page["next"].as_str().expect("a cursor")
        ))
        .await
        .json();
    assert_eq!(
        (&rest["items"][0]["step"], &rest["next"]),
        (&json!("two/half"), &Value::Null)
    );
    assert_eq!(
        ledger.get("/runs/nobody/steps").await.json()["items"],
        json!([])
    );
    for (body, kind) in [
        (
            json!({ "claim_id": "a", "lease_ms": 0 }),
            "invalid-parameter",
        ),
        (
            json!({ "claim_id": "a", "lease_ms": 3_600_001 }),
            "invalid-parameter",
        ),
        (json!({ "claim_id": "" }), "invalid-parameter"),
        (json!({ "claim_id": "a\n" }), "invalid-parameter"),
        (json!({ "claim_id": "a", "lease": 1 }), "malformed-body"),
        (json!({}), "malformed-body"),
    ] {
        ledger.call("bad", "claim", body).await.refused(400, kind);
    }
    app.stop().await;
}

/// Everybody claims every step, at two nodes; each step is executed once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_24_claimers_one_executes_each_of_200_steps() {
    const CLAIMERS: usize = 24;
    const STEPS: usize = 200;
    let app = spawn_app(&config(&[])).await;
    let second = spawn_on(&config(&[]), app.database_url.clone()).await;
    let executions = Arc::new(AtomicUsize::new(0));
    let claimers: Vec<_> = (0..CLAIMERS)
        .map(|claimer| {
            let ledger = Caller::of(if claimer % 2 == 0 { &app } else { &second });
            let executions = executions.clone();
            tokio::spawn(async move {
                for step in 0..STEPS {
                    let mut body = claim(&format!("{claimer}"));
                    body["wait_ms"] = 30_000.into();
                    let said = ledger.call(&step.to_string(), "claim", body).await;
                    if said.status == 201 {
                        executions.fetch_add(1, Ordering::Relaxed);
                        let complete = json!({ "fence": said.fence(), "result": claimer });
                        assert_eq!(
                            ledger
                                .call(&step.to_string(), "complete", complete)
                                .await
                                .status,
                            200
                        );
                    } else {
                        assert_eq!(said.status, 200, "{said:?}");
                    }
                }
            })
        })
        .collect();
    for claimer in claimers {
        claimer.await.expect("a claimer");
    }
    assert_eq!(executions.load(Ordering::Relaxed), STEPS);
    assert_eq!(
        app.count("select count(*) from step where state = 'done' and fence = 1")
            .await,
        200
    );
    second.stop().await;
    app.stop().await;
}

/// Leases that are always over: holders are overtaken all the time, and only the last one's
/// completion counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_was_overtaken_completes_nothing() {
    let app = spawn_app(&config(&[])).await;
    let (accepted, stale) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let keys: Arc<Mutex<HashMap<String, HashSet<String>>>> = Arc::default();
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let (ledger, accepted, stale, keys) = (
                Caller::of(&app),
                accepted.clone(),
                stale.clone(),
                keys.clone(),
            );
            tokio::spawn(async move {
                for step in 0..20 {
                    let step = step.to_string();
                    let first = ledger
                        .claim_until(&step, short(&format!("{worker}"), "retry"))
                        .await;
                    if first.status == 200 {
                        continue;
                    }
                    let key = first.json()["effect_key"]
                        .as_str()
                        .expect("a key")
                        .to_owned();
                    keys.lock()
                        .expect("the keys")
                        .entry(step.clone())
                        .or_default()
                        .insert(key);
                    // Another claim, of whoever comes first, overtakes the lease that is over.
                    let second = ledger
                        .claim_until(&step, short(&format!("{worker} again"), "retry"))
                        .await;
                    let late = ledger
                        .call(
                            &step,
                            "complete",
                            json!({ "fence": first.fence(), "result": worker }),
                        )
                        .await;
                    late.refused(409, "stale-fence");
                    stale.fetch_add(1, Ordering::Relaxed);
                    if second.status == 201 {
                        let said = ledger
                            .call(
                                &step,
                                "complete",
                                json!({ "fence": second.fence(), "result": worker }),
                            )
                            .await;
                        accepted.fetch_add(usize::from(said.status == 200), Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("a worker");
    }
    let done = app
        .count("select count(*) from step where state = 'done'")
        .await;
    assert_eq!(i64::try_from(accepted.load(Ordering::Relaxed)), Ok(done));
    assert!(stale.load(Ordering::Relaxed) >= 20);
    assert!(
        keys.lock()
            .expect("the keys")
            .values()
            .all(|keys| keys.len() == 1)
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_gets_the_result_also_from_another_node_and_holds_no_connection() {
    let few = config(&[])
        + "[database]\nconnections_max = 2\n[ledger]\nbatch_connections = 1\nwaiters_max = 40\n";
    let app = spawn_app(&few).await;
    let second = spawn_on(&few, app.database_url.clone()).await;
    let (here, there) = (Caller::of(&app), Caller::of(&second));
    here.call("s", "claim", claim("holder")).await;
    let wait = |id: usize| json!({ "claim_id": id.to_string(), "wait_ms": 30_000 });
    let waiters: Vec<_> = (0..60)
        .map(|id| {
            let ledger = if id % 2 == 0 {
                here.clone()
            } else {
                there.clone()
            };
            tokio::spawn(async move { ledger.call("s", "claim", wait(id)).await })
        })
        .collect();
    assert_eq!(
        here.get("/runs/r/steps/s").await.status,
        200,
        "those who wait leave the pool alone"
    );
    assert_eq!(
        here.call("s", "complete", json!({ "fence": 1, "result": "it" }))
            .await
            .status,
        200
    );
    for waiter in waiters {
        let said = waiter.await.expect("a waiter");
        assert_eq!(
            (said.status, &said.json()["result"]),
            (200, &json!("it")),
            "{said:?}"
        );
    }
    // A lease that ends lets one of those who wait in.
    here.call(
        "t",
        "claim",
        json!({ "claim_id": "holder", "lease_ms": 300, "on_lost": "retry" }),
    )
    .await;
    let said = there.call("t", "claim", wait(1)).await;
    assert_eq!((said.status, said.fence()), (201, 2), "{said:?}");
    // A stop sends them away, whether they sat down already or not.
    let request = here
        .http
        .post(format!("{}/v1/runs/r/steps/t/claim", here.base))
        .bearer_auth(TOKEN)
        .json(&wait(2))
        .send();
    let waiting = tokio::spawn(request);
    here.call("t", "claim", json!({ "claim_id": "y", "wait_ms": 5 }))
        .await
        .refused(409, "step-running");
    tokio::time::timeout(Duration::from_secs(20), app.end())
        .await
        .expect("a stop");
    if let Ok(said) = tokio::time::timeout(LONG, waiting)
        .await
        .expect("an answer")
        .expect("the waiter")
    {
        assert!(matches!(said.status().as_u16(), 409 | 503), "{said:?}");
    }
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emitted_events_are_recorded_with_the_result_and_relayed_as_received_ones() {
    let handler = Handler::start(Vec::new()).await;
    let config = config(&[("h", &handler.url(), "")])
        + "[[routes]]\nsource = \"ledger\"\ntypes = [\"order.*\"]\ndestination = \"h\"\n";
    let app = spawn_app(&config).await;
    let ledger = Caller::of(&app);
    ledger.call("s", "claim", claim("a")).await;
    let raw = r#"{"fence":1,"result":1,"emit":[{"type":"order.paid","data":{ "id":1.0 }},{"type":"other","key":"k","data":[]},{"source":"stripe","type":"invoice.paid","key":"evt_1","data":"x"}]}"#;
    let complete = |raw: &'static str| {
        let request = ledger
            .http
            .post(format!("{}/v1/runs/r/steps/s/complete", app.admin))
            .header("content-type", "application/json");
        ledger.say(request.body(raw))
    };
    assert_eq!(complete(raw).await.status, 200);
    assert_eq!(complete(raw).await.status, 200, "a repeat emits nothing");
    let received = handler.received(2).await;
    let order = received
        .iter()
        .find(|request| request.header("hookonce-event-type") == Some("order.paid"))
        .expect("the order");
    assert_eq!(order.body, br#"{ "id":1.0 }"#);
    assert_eq!(
        (
            order.header("hookonce-source"),
            order.header("hookonce-event-key")
        ),
        (Some("ledger"), Some("r/s/0"))
    );
    assert_eq!(order.header("content-type"), Some("application/json"));
    app.until("select count(*) from delivery where state = 'delivered'", 2)
        .await;
    assert_eq!(app.count("select count(*) from event").await, 3);
    assert_eq!(app.stripe("evt_2", "invoice.paid").await.word(), "accepted");
    // The key is known: the same body is the same event, another body is a conflict.
    for (step, data, conflicts) in [("t", "[]", 0), ("u", "[1]", 1)] {
        ledger.call(step, "claim", claim("a")).await;
        let emit = json!({ "fence": 1, "emit": [{ "type": "other", "key": "k", "data": serde_json::from_str::<Value>(data).expect("JSON") }] });
        assert_eq!(ledger.call(step, "complete", emit).await.status, 200);
        assert_eq!(
            app.count("select count(*) from event where source = 'ledger'")
                .await,
            2
        );
        assert_eq!(
            app.count("select count(*) from conflict where source = 'ledger'")
                .await,
            conflicts
        );
    }
    ledger.call("v", "claim", claim("a")).await;
    let unknown = json!({ "fence": 1, "emit": [{ "source": "nobody", "data": 1 }] });
    ledger
        .call("v", "complete", unknown)
        .await
        .refused(422, "unknown-source");
    // A stale completion emits nothing.
    let stale = json!({ "fence": 9, "emit": [{ "type": "order.never", "data": 1 }] });
    ledger
        .call("v", "complete", stale)
        .await
        .refused(409, "stale-fence");
    assert_eq!(
        app.count("select count(*) from event where event_type = 'order.never'")
            .await,
        0
    );
    app.stop().await;
}

/// The other is not visible to the statement that meets it. Who waits for a step and closes its
/// side has gone: it is not granted what it would never execute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_goes_while_it_waits_is_granted_nothing() {
    use tokio::io::AsyncWriteExt as _;
    let app = spawn_app(&config(&[])).await;
    let ledger = Caller::of(&app);
    ledger.call("s", "claim", claim("a")).await;
    let body = json!({ "claim_id": "b", "wait_ms": 30_000 }).to_string();
    let head = format!(
        "authorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    let mut gone = tokio::net::TcpStream::connect(app.app.admin)
        .await
        .expect("a connection");
    let text =
        format!("POST /v1/runs/r/steps/s/claim HTTP/1.1\r\nhost: localhost\r\n{head}\r\n{body}");
    gone.write_all(text.as_bytes()).await.expect("written");
    // It has asked once, and waits.
    let mut waiting = app.app.claims_waiting();
    waiting.wait_for(|waiting| *waiting == 1).await.expect("it");
    gone.shutdown().await.expect("closed");
    assert_eq!(
        ledger
            .call("s", "release", json!({ "fence": 1 }))
            .await
            .status,
        200
    );
    // It has been woken, and has left.
    waiting.wait_for(|waiting| *waiting == 0).await.expect("it");
    let next = ledger.call("s", "claim", claim("c")).await;
    assert_eq!(
        (next.status, next.json()["fence"].as_i64()),
        (201, Some(2)),
        "{next:?}"
    );
    app.stop().await;
}

/// One key twice in one call, and in calls that are decided in one statement: the first is the
/// event, what is like it a repeat, the rest conflicts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_may_be_emitted_twice_in_one_statement() {
    let app = spawn_app(&config(&[])).await;
    let ledger = Caller::of(&app);
    ledger.call("a", "claim", claim("c")).await;
    let emit =
        json!([{ "key": "k", "data": 1 }, { "key": "k", "data": 1 }, { "key": "k", "data": 2 }]);
    assert_eq!(
        ledger
            .call("a", "complete", json!({ "fence": 1, "emit": emit }))
            .await
            .status,
        200
    );
    assert_eq!(app.count("select count(*) from event").await, 1);
    assert_eq!(app.count("select count(*) from conflict").await, 1);
    let steps: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    futures_util::future::join_all(
        steps
            .iter()
            .map(|step| ledger.call(step, "claim", claim("c"))),
    )
    .await;
    let complete = |step| {
        ledger.call(
            step,
            "complete",
            json!({ "fence": 1, "emit": [{ "key": "shared", "data": 1 }] }),
        )
    };
    let said = futures_util::future::join_all(steps.iter().map(|step| complete(step))).await;
    assert!(said.iter().all(|said| said.status == 200), "{said:?}");
    assert_eq!(
        (
            app.count("select count(*) from event").await,
            app.count("select count(*) from conflict").await
        ),
        (2, 1)
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_emit_one_key_at_once_the_second_is_a_conflict() {
    let app = spawn_app(&config(&[])).await;
    let ledger = Caller::of(&app);
    for step in ["a", "b"] {
        ledger.call(step, "claim", claim("c")).await;
    }
    let emit = |data: &str| json!({ "fence": 1, "emit": [{ "key": "k", "data": data }] });
    let mut held = app.pool.begin().await.expect("a transaction");
    let first = "insert into event_key (key, event_id, body_digest, expires_at) values ($1, gen_random_uuid(), sha256('x'), now() + interval '1 day')";
    let key = hookonce::event::key_of("ledger", "k");
    sqlx::query(first)
        .bind(key.0)
        .execute(&mut *held)
        .await
        .expect("the first");
    let second = tokio::spawn({
        let ledger = ledger.clone();
        let body = emit("second");
        async move { ledger.call("a", "complete", body).await }
    });
    app.until("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'", 1).await;
    held.commit().await.expect("a commit");
    assert_eq!(second.await.expect("the second").status, 200);
    assert_eq!(
        app.count("select count(*) from conflict where event_key = 'k' and body = '\"second\"'")
            .await,
        1
    );
    // One that comes later is seen by the statement itself.
    assert_eq!(
        ledger.call("b", "complete", emit("third")).await.status,
        200
    );
    assert_eq!(
        (
            app.count("select count(*) from conflict").await,
            app.count("select count(*) from event").await
        ),
        (2, 0)
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dedup_tells_the_first_and_under_a_lease_survives_a_crash() {
    let app = spawn_app(&config(&[])).await;
    let ledger = Caller::of(&app);
    let calls: Vec<_> = (0..64)
        .map(|_| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                ledger
                    .post("/dedup/orders", json!({ "key": "k", "window": "1h" }))
                    .await
                    .word()
            })
        })
        .collect();
    let mut words = Vec::new();
    for call in calls {
        words.push(call.await.expect("an answer"));
    }
    assert_eq!(words.iter().filter(|word| *word == "first").count(), 1);
    assert_eq!(words.iter().filter(|word| *word == "seen").count(), 63);
    assert_eq!(
        ledger
            .post("/dedup/others", json!({ "key": "k", "window": "1h" }))
            .await
            .word(),
        "first"
    );
    // With a claim id a repeat is known as one.
    let repeated = json!({ "key": "c", "window": "1h", "claim_id": "m1" });
    for _ in 0..2 {
        assert_eq!(
            ledger.post("/dedup/orders", repeated.clone()).await.word(),
            "first"
        );
    }
    // A window that is over.
    let brief = json!({ "key": "w", "window": "1ms" });
    for _ in 0..2 {
        let first =
            async { while ledger.post("/dedup/orders", brief.clone()).await.word() != "first" {} };
        tokio::time::timeout(LONG, first)
            .await
            .expect("the window's end");
    }
    // Under a lease: who crashes leaves the key to the next.
    let leased = |lease_ms: u64| json!({ "key": "l", "window": "1h", "lease_ms": lease_ms });
    let first = ledger.post("/dedup/orders", leased(1)).await;
    assert_eq!((first.word().as_str(), first.fence()), ("first", 1));
    let next = async {
        loop {
            let said = ledger.post("/dedup/orders", leased(60_000)).await;
            if said.status == 200 {
                return said;
            }
        }
    };
    let next = tokio::time::timeout(LONG, next)
        .await
        .expect("the lease's end");
    assert_eq!((next.word().as_str(), next.fence()), ("first", 2));
    let busy = ledger.post("/dedup/orders", leased(60_000)).await;
    busy.refused(409, "key-leased");
    assert!(busy.headers.contains_key("retry-after"));
    ledger
        .post("/dedup/orders/done", json!({ "key": "l", "fence": 1 }))
        .await
        .refused(409, "stale-fence");
    for _ in 0..2 {
        assert_eq!(
            ledger
                .post("/dedup/orders/done", json!({ "key": "l", "fence": 2 }))
                .await
                .word(),
            "done"
        );
    }
    assert_eq!(
        ledger.post("/dedup/orders", leased(60_000)).await.word(),
        "seen"
    );
    for body in [
        json!({ "key": "", "window": "1h" }),
        json!({ "key": "x", "window": "9999d" }),
        json!({ "key": "x", "window": "1s", "lease_ms": 1000 }),
    ] {
        ledger
            .post("/dedup/orders", body)
            .await
            .refused(400, "invalid-parameter");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_ended_expires_by_its_scope_and_what_runs_never() {
    let scopes = "[[ledger.scopes]]\nrun = \"brief-*\"\nkeep = \"1ms\"\n";
    let app = spawn_app(&(config(&[]) + scopes)).await;
    let ledger = Caller::of(&app);
    for run in ["brief-1", "long"] {
        for step in ["done", "released", "running", "unknown"] {
            let lease_ms = if step == "unknown" { 1 } else { 60_000 };
            ledger
                .post(
                    &format!("/runs/{run}/steps/{step}/claim"),
                    json!({ "claim_id": "a", "lease_ms": lease_ms }),
                )
                .await;
        }
        ledger
            .post(
                &format!("/runs/{run}/steps/done/complete"),
                json!({ "fence": 1 }),
            )
            .await;
        ledger
            .post(
                &format!("/runs/{run}/steps/released/release"),
                json!({ "fence": 1 }),
            )
            .await;
    }
    ledger
        .post("/dedup/orders", json!({ "key": "k", "window": "1ms" }))
        .await;
    app.until("select count(*) from step where expires_at < now()", 2)
        .await;
    app.until("select count(*) from dedup_key where expires_at < now()", 1)
        .await;
    // Long ago for who runs it, which is no reason to forget it.
    sqlx::query("update step set claimed_at = now() - interval '9 years'")
        .execute(&app.pool)
        .await
        .expect("an update");
    let pruned = app.api(reqwest::Method::POST, "/prune", None).await.json();
    assert_eq!(
        (&pruned["steps"], &pruned["dedup_keys"]),
        (&json!(2), &json!(1))
    );
    let left = ledger.get("/runs/brief-1/steps").await.json();
    let left: Vec<&str> = left["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|step| step["step"].as_str())
        .collect();
    assert_eq!(left, ["running", "unknown"]);
    assert_eq!(
        ledger.get("/runs/long/steps").await.json()["items"]
            .as_array()
            .map(Vec::len),
        Some(4)
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_of_a_finished_step_writes_nothing() {
    let app = spawn_app(&config(&[])).await;
    let ledger = Caller::of(&app);
    ledger.call("s", "claim", claim("a")).await;
    ledger
        .call("s", "complete", json!({ "fence": 1, "result": 1 }))
        .await;
    ledger
        .post("/dedup/orders", json!({ "key": "k", "window": "1h" }))
        .await;
    const VERSIONS: &str = "select string_agg(xmin::text || ' ' || xmax::text, ',' order by 1) from \
                            (select xmin, xmax from step union all select xmin, xmax from dedup_key) as r";
    let versions = async || {
        sqlx::query_scalar::<_, String>(VERSIONS)
            .fetch_one(&app.pool)
            .await
            .expect("the rows")
    };
    let before = versions().await;
    for n in 0..20 {
        assert_eq!(
            ledger
                .call("s", "claim", claim(&n.to_string()))
                .await
                .status,
            200
        );
        assert_eq!(
            ledger
                .post("/dedup/orders", json!({ "key": "k", "window": "1h" }))
                .await
                .word(),
            "seen"
        );
    }
    assert_eq!(versions().await, before, "no row was written or locked");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledgers_own_port_has_the_ledger_alone() {
    let app = spawn_app(&(config(&[]) + "[ledger]\nbind = \"127.0.0.1:0\"\n")).await;
    let own = Caller {
        base: format!("http://{}", app.app.ledger.expect("a port")),
        ..Caller::of(&app)
    };
    assert_eq!(own.call("s", "claim", claim("a")).await.status, 201);
    let named = own
        .http
        .get(format!("{}/v1/runs/r/steps", own.base))
        .header("host", "hookonce.internal:8082");
    assert_eq!(own.say(named).await.status, 200);
    let foreign = own
        .http
        .get(format!("{}/v1/runs/r/steps", own.base))
        .header("origin", "https://evil.example");
    assert_eq!(own.say(foreign).await.status, 403);
    assert_eq!(
        own.say(own.http.get(format!("{}/api/v1/events", own.base)))
            .await
            .status,
        404
    );
    assert_eq!(
        own.say(own.http.get(format!("{}/readyz", own.base)))
            .await
            .status,
        200
    );
    assert_eq!(
        own.say(own.http.get(format!("{}/v1/runs/r/steps", app.url)))
            .await
            .status,
        404,
        "not on the public port"
    );
    let nobody = Caller {
        token: "wrong".into(),
        ..own.clone()
    };
    nobody
        .get("/runs/r/steps")
        .await
        .refused(401, "unauthorized");
    tokio::time::timeout(Duration::from_secs(20), app.end())
        .await
        .expect("a stop");
}

/// The calls of docs/idempotency.md, in their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documents_examples_work() {
    let app = spawn_app(&config(&[])).await;
    let ledger = Caller::of(&app);
    let text = include_str!("../../docs/idempotency.md").replace("\\\n", " ");
    let mut called = 0;
    for line in text
        .lines()
        .filter(|line| line.starts_with("curl ") && line.contains("$LEDGER"))
    {
        let path = line
            .split("$LEDGER")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .expect("a path");
        let body = line
            .split("-d '")
            .nth(1)
            .and_then(|rest| rest.split('\'').next())
            .expect("a body");
        let said = ledger
            .post(path, serde_json::from_str(body).expect("JSON"))
            .await;
        assert!(matches!(said.status, 200 | 201), "{line}: {said:?}");
        called += 1;
    }
    assert_eq!(called, 5);
    app.stop().await;
}
