//! The Rust client does what all clients do, clients/conformance.json, over a connection that loses
//! calls and answers; and it verifies what is really relayed. Its own tests have the cases that
//! need no service.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use hookonce_client::{
    Claim, DedupLease, Error, Grant, Handler as ClientHandler, Ledger, OnLost, Outcome, Repeat,
    Run, Step, StepContext, Verifier, WorkError, input_hash,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use uuid::Uuid;

use crate::app::*;

type Faults = Arc<Mutex<VecDeque<String>>>;

/// Passes calls on, one a connection; a fault befalls each of the next.
async fn faulty_way(upstream: &str, faults: Faults) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let upstream = upstream.trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let (faults, upstream) = (faults.clone(), upstream.clone());
            // A connection that ends with an error has had its fault.
            tokio::spawn(async move { pass(connection, &upstream, &faults).await });
        }
    });
    format!("http://{address}")
}

async fn pass(mut connection: TcpStream, upstream: &str, faults: &Faults) -> std::io::Result<()> {
    let request = read_request(&mut connection).await?;
    if request.is_empty() {
        return Ok(());
    }
    let fault = faults
        .lock()
        .expect("the faults")
        .pop_front()
        .unwrap_or_default();
    if fault == "refuse" {
        return Ok(());
    }
    if let Ok(status) = fault.parse::<u16>() {
        let answer = format!(
            "HTTP/1.1 {status} No\r\nretry-after: 0\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        return connection.write_all(answer.as_bytes()).await;
    }
    let mut upstream = TcpStream::connect(upstream).await?;
    upstream.write_all(&request).await?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).await?;
    if fault != "lose" {
        connection.write_all(&answer).await?;
    }
    Ok(())
}

/// One request with its body, made to end its connection.
async fn read_request(connection: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some(head) = text.find("\r\n\r\n") {
            let length = text[..head]
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split("\r\n").next());
            if bytes.len() >= head + 4 + length.and_then(|length| length.parse().ok()).unwrap_or(0)
            {
                let line = bytes
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .expect("a line")
                    + 1;
                bytes.splice(line..line, *b"connection: close\r\n");
                return Ok(bytes);
            }
        }
        match connection.read(&mut chunk).await? {
            0 => return Ok(Vec::new()),
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

/// What an operation was seen to do.
type Seen = Arc<Mutex<serde_json::Map<String, Value>>>;

fn note(seen: &Seen, name: &str, value: impl Into<Value>) {
    seen.lock()
        .expect("what was seen")
        .insert(name.to_owned(), value.into());
}

fn note_grant(seen: &Seen, grant: &Grant) {
    note(seen, "fence", grant.fence);
    note(seen, "attempt", grant.attempt);
    note(seen, "effect_key", grant.effect_key.as_str());
}

/// Does the operations of one case.
#[derive(Clone)]
struct Player {
    name: String,
    ledger: Ledger,
    run: Run,
    faults: Faults,
    grants: Arc<Mutex<HashMap<String, Grant>>>,
    leases: Arc<Mutex<HashMap<String, Arc<DedupLease>>>>,
    started: Arc<Mutex<HashMap<String, JoinHandle<()>>>>,
}

impl Player {
    async fn new(admin: &str) -> Self {
        let (faults, name) = (Faults::default(), format!("rust-{}", Uuid::now_v7()));
        let ledger =
            Ledger::new(&faulty_way(admin, faults.clone()).await, TOKEN).expect("a ledger");
        let run = ledger.run(&name);
        Self {
            name,
            ledger,
            run,
            faults,
            grants: Arc::default(),
            leases: Arc::default(),
            started: Arc::default(),
        }
    }

    fn befall(&self, faults: &Value) {
        let faults = faults.as_array().map(|all| {
            all.iter()
                .filter_map(|fault| Some(fault.as_str()?.to_owned()))
                .collect()
        });
        *self.faults.lock().expect("the faults") = faults.unwrap_or_default();
    }

    fn grant(&self, name: &Value) -> Grant {
        self.grants.lock().expect("the grants")[name.as_str().expect("a name")].clone()
    }

    fn keep(&self, operation: &Value, or: &str, grant: Grant) {
        self.grants
            .lock()
            .expect("the grants")
            .insert(operation["as"].as_str().unwrap_or(or).to_owned(), grant);
    }

    /// For an operation within another.
    fn boxed(self, operation: Value) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move { self.play(operation).await })
    }

    async fn play(&self, operation: Value) {
        let seen = Seen::default();
        note(&seen, "executed", 0);
        self.befall(&operation["faults"]);
        let done = self.perform(&operation, &seen).await;
        let expected = operation["expect"].as_object().cloned().unwrap_or_default();
        if let Err(error) = &done {
            assert!(expected.contains_key("error"), "{operation}: {error:?}");
            note_error(&seen, error);
        }
        note(
            &seen,
            "faults_left",
            self.faults.lock().expect("the faults").len(),
        );
        let seen = seen.lock().expect("what was seen").clone();
        for (name, value) in expected {
            let (name, value) = match name.strip_suffix("_of") {
                Some(name) => (name.to_owned(), json!(self.grant(&value).effect_key)),
                None => (name, value),
            };
            assert_eq!(
                seen.get(&name),
                Some(&value),
                "{operation}: {name} of {seen:?}"
            );
        }
    }

    async fn perform(&self, operation: &Value, seen: &Seen) -> Result<(), Error> {
        let run = &self.run;
        let is = |kind: &str| operation.get(kind);
        if let Some(step) = operation["claim"].as_str() {
            match run.claim(&terms(run, step, operation), None).await? {
                Claim::Granted(grant) => {
                    note_grant(seen, &grant);
                    self.keep(operation, step, grant);
                }
                Claim::Ended(ended) => {
                    note(
                        seen,
                        "status",
                        if ended.is_failed { "failed" } else { "done" },
                    );
                    note(
                        seen,
                        "result",
                        serde_json::from_str::<Value>(ended.result.get())?,
                    );
                }
            }
        } else if let Some(step) = operation["execute"].as_str() {
            self.execute(step, operation, seen).await?;
        } else if let Some(name) = is("heartbeat") {
            run.heartbeat(&self.grant(name), milliseconds(&operation["lease_ms"], 0))
                .await?;
        } else if let Some(name) = is("complete") {
            run.complete(&self.grant(name), &operation["result"])
                .await?;
        } else if let Some(name) = is("fail") {
            run.fail(&self.grant(name), &operation["error"]).await?;
        } else if let Some(name) = is("release") {
            run.release(&self.grant(name)).await?;
        } else if let Some(step) = operation["resolve"].as_str() {
            let outcome = outcome_of(&operation["outcome"]).expect("an outcome");
            run.resolve(
                step,
                operation["fence"].as_i64().expect("a fence"),
                &outcome,
            )
            .await?;
        } else if let Some(steps) = is("resume") {
            let found = run.resume().await?.into_iter().map(|(name, state)| {
                let result: Value = state.result.map_or(Value::Null, |result| {
                    serde_json::from_str(result.get()).expect("JSON")
                });
                (
                    name,
                    json!({ "status": state.status, "result": result, "fence": state.fence }),
                )
            });
            assert_eq!(&Value::Object(found.collect()), steps);
        } else {
            self.perform_apart(operation, seen).await?;
        }
        Ok(())
    }

    /// What has no step of the run.
    async fn perform_apart(&self, operation: &Value, seen: &Seen) -> Result<(), Error> {
        if let Some(name) = operation["start"].as_str() {
            let (player, operation) = (self.clone(), operation["do"].clone());
            self.started
                .lock()
                .expect("the started")
                .insert(name.to_owned(), tokio::spawn(player.boxed(operation)));
        } else if let Some(name) = operation["join"].as_str() {
            let started = self
                .started
                .lock()
                .expect("the started")
                .remove(name)
                .expect("a start");
            tokio::time::timeout(LONG, started)
                .await
                .expect("its end")
                .expect("no failure");
        } else if let Some(key) = operation["dedup"].as_str() {
            self.dedup(key, operation, seen).await?;
        } else if let Some(name) = operation["dedup_done"].as_str() {
            let lease = self.leases.lock().expect("the leases")[name].clone();
            lease.done().await?;
        } else if operation.get("handle").is_some() {
            let (headers, body) = request(&operation["handle"]);
            let handler = ClientHandler::with_verifier(self.ledger.clone(), verifier(operation))
                .name(&self.name);
            let answer = handler
                .handle(headers, body, |context, _| {
                    self.work(operation.clone(), context, seen.clone())
                })
                .await?;
            note(seen, "status", answer.status);
            let expected = operation["expect"]["headers"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            let sent: serde_json::Map<_, _> = answer
                .headers
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.into()))
                .collect();
            note(
                seen,
                "headers",
                sent.into_iter()
                    .filter(|(name, _)| expected.contains_key(name))
                    .collect::<serde_json::Map<_, _>>(),
            );
        } else {
            note(
                seen,
                "hash",
                input_hash(operation.get("hash").expect("an operation"))?,
            );
        }
        Ok(())
    }

    async fn dedup(&self, key: &str, operation: &Value, seen: &Seen) -> Result<(), Error> {
        let window = Duration::from_secs(3600);
        assert_eq!(operation["window"], "1h");
        if operation.get("lease_ms").is_none() {
            note(
                seen,
                "first",
                self.ledger.dedup(&self.name, key, window).await?,
            );
            return Ok(());
        }
        let lease = milliseconds(&operation["lease_ms"], 0);
        let ask = async {
            loop {
                match self
                    .ledger
                    .dedup_leased(&self.name, key, window, lease)
                    .await
                {
                    Err(Error::KeyLeased { .. }) if operation.get("until_free").is_some() => {}
                    other => return other,
                }
            }
        };
        let leased = tokio::time::timeout(LONG, ask)
            .await
            .expect("the lease's end")?;
        note(seen, "first", leased.is_first());
        self.leases.lock().expect("the leases").insert(
            operation["as"].as_str().unwrap_or(key).to_owned(),
            Arc::new(leased),
        );
        Ok(())
    }

    async fn execute(&self, name: &str, operation: &Value, seen: &Seen) -> Result<(), Error> {
        let mut step = terms(&self.run, name, operation);
        if let Some(said) = operation.get("reconcile").cloned() {
            let seen = seen.clone();
            step = step.reconcile(move |lost| {
                note(&seen, "asked", lost.effect_key);
                let outcome = outcome_of(&said);
                async move { outcome }
            });
        }
        let result: Value = step
            .execute(|context| self.work(operation.clone(), context, seen.clone()))
            .await?;
        note(seen, "result", result);
        Ok(())
    }

    async fn work(
        &self,
        operation: Value,
        context: StepContext,
        seen: Seen,
    ) -> Result<Value, WorkError> {
        let executed = seen.lock().expect("what was seen")["executed"]
            .as_i64()
            .expect("a number");
        note(&seen, "executed", executed + 1);
        let grant = grant_of(&context);
        note_grant(&seen, &grant);
        self.keep(&operation, "", grant);
        let body = &operation["body"];
        if let Some(beats) = body["beats"].as_u64() {
            while context.heartbeats() < beats {
                tokio::task::yield_now().await;
            }
        }
        if body.get("overtaken").is_some() {
            overtake(&self.run, &context).await;
        }
        if body.get("until_lost").is_some() {
            std::future::pending::<()>().await;
        }
        if body.get("faults").is_some() {
            self.befall(&body["faults"]);
        }
        if let Some(error) = body.get("fail") {
            return Err(WorkError::Failed(error.clone()));
        }
        if let Some(why) = body["not_executed"].as_str() {
            return Err(WorkError::NotExecuted(why.to_owned()));
        }
        if let Some(why) = body["raise"].as_str() {
            return Err(std::io::Error::other(why.to_owned()).into());
        }
        Ok(body["return"].clone())
    }
}

fn grant_of(context: &StepContext) -> Grant {
    Grant {
        step: context.step.clone(),
        claim_id: context.claim_id.clone(),
        fence: context.fence,
        attempt: context.attempt,
        effect_key: context.effect_key.clone(),
        claimed_at: std::time::Instant::now(),
    }
}

/// Lets the lease end and another claim the step. A beat may come between the two.
async fn overtake(run: &Run, context: &StepContext) {
    let another = async {
        loop {
            run.heartbeat(&grant_of(context), Duration::from_millis(1))
                .await
                .expect("the lease's end");
            let step = run
                .step(&context.step)
                .on_lost(OnLost::Retry)
                .wait(Duration::ZERO);
            match run.claim(&step, None).await {
                Ok(Claim::Granted(_)) => return,
                Err(Error::StepRunning { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(LONG, another)
        .await
        .expect("the lease's end");
}

fn note_error(seen: &Seen, error: &Error) {
    let name = match error {
        Error::StepRunning { .. } => "StepRunning",
        Error::OutcomeUnknown { fence, .. } => {
            note(seen, "fence", *fence);
            "OutcomeUnknown"
        }
        Error::InputChanged(_) => "InputChanged",
        Error::LeaseLost(_) => "LeaseLost",
        Error::StepFailed(error) => {
            note(seen, "of", error.clone());
            "StepFailed"
        }
        Error::NotExecuted(_) => "NotExecuted",
        Error::KeyLeased { .. } => "KeyLeased",
        Error::Work(_) => "Raised",
        other => panic!("{other:?}"),
    };
    note(seen, "error", name);
}

fn milliseconds(value: &Value, default: u64) -> Duration {
    Duration::from_millis(value.as_u64().unwrap_or(default))
}

fn terms(run: &Run, step: &str, operation: &Value) -> Step {
    let step = run
        .step(step)
        .lease(milliseconds(&operation["lease_ms"], 30_000))
        .wait(milliseconds(&operation["wait_ms"], 0));
    let step = if operation["on_lost"] == "retry" {
        step.on_lost(OnLost::Retry)
    } else {
        step
    };
    match operation.get("input") {
        Some(input) => step.input(input).expect("an input"),
        None => step,
    }
}

fn outcome_of(said: &Value) -> Option<Outcome> {
    let evidence = said["evidence"].clone();
    if let Some(result) = said.get("done").cloned() {
        return Some(Outcome::Done { result, evidence });
    }
    if let Some(error) = said.get("failed").cloned() {
        return Some(Outcome::Failed { error, evidence });
    }
    said.get("not_executed").cloned().map(Outcome::not_executed)
}

fn verifier(operation: &Value) -> Verifier {
    let secrets: Vec<&str> = operation["secrets"]
        .as_array()
        .expect("secrets")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let now =
        SystemTime::UNIX_EPOCH + Duration::from_secs(operation["now"].as_u64().expect("a time"));
    Verifier::new(&secrets)
        .expect("secrets")
        .with_clock(move || now)
}

fn request(request: &Value) -> (Vec<(String, String)>, Vec<u8>) {
    let headers = request["headers"].as_object().expect("headers");
    let headers = headers
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned()))
        .collect();
    (headers, request["body"].as_str().expect("a body").into())
}

fn operations(case: &Value) -> &[Value] {
    case["do"].as_array().expect("operations")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cases_of_all_clients_hold() {
    let app = spawn_app(&config(&[])).await;
    let file: Value =
        serde_json::from_str(include_str!("../../clients/conformance.json")).expect("the cases");
    let cases = file["cases"].as_array().expect("cases");
    let needs_service = |case: &&Value| {
        operations(case)
            .iter()
            .any(|operation| operation.get("verify").is_none())
    };
    let cases: Vec<&Value> = cases.iter().filter(needs_service).collect();
    assert!(cases.len() > 25);
    for case in cases {
        let player = Player::new(&app.admin).await;
        println!("{}", case["name"]);
        for operation in operations(case) {
            player.play(operation.clone()).await;
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_relayed_is_verified_and_handled_once() {
    const SECRET: &str = "whsec_aG9va29uY2UtY29uZm9ybWFuY2Utc2VjcmV0";
    let handler = Handler::start(Vec::new()).await;
    let app = spawn_app(&config(&[(
        "h",
        &handler.url(),
        &format!("signing_secret = {SECRET:?}"),
    )]))
    .await;
    app.stripe("evt_1", "invoice.paid").await;
    let received = handler.received(1).await.remove(0);
    let ledger = Ledger::new(&app.admin, TOKEN).expect("a ledger");
    let client = ClientHandler::new(ledger.clone(), &[SECRET]).expect("a handler");
    let executed = AtomicUsize::new(0);
    for _ in 0..2 {
        let handled = client.handle(
            received.headers.clone(),
            received.body.clone(),
            |context, event| {
                executed.fetch_add(1, Ordering::Relaxed);
                assert_eq!(
                    (event.source.as_str(), event.key.as_str(), event.attempt),
                    ("stripe", "evt_1", 1)
                );
                async move {
                    Ok(context
                        .run
                        .step("email")
                        .execute(|_| async { Ok("sent".to_owned()) })
                        .await?)
                }
            },
        );
        assert_eq!(handled.await.expect("an answer").status, 200);
    }
    assert_eq!(executed.load(Ordering::Relaxed), 1);
    let run = ledger.run(&format!(
        "webhook:{}",
        received.header("webhook-id").expect("an id")
    ));
    assert_eq!(run.resume().await.expect("the run").len(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_later_is_told_what_was_done_when_and_by_whom() {
    let app = spawn_app(&(config(&[]) + "[ledger]\nresult_max = \"1KiB\"\n")).await;
    let ledger = Ledger::new(&app.admin, TOKEN)
        .expect("a ledger")
        .owner("worker-7");
    let run = ledger.run("r");
    let large = "x".repeat(2000);
    let first = run.step("large").outcome(|_| async { Ok(large.clone()) });
    let first = first.await.expect("the result");
    assert_eq!(first.result, large);
    assert_eq!(first.not_kept.expect("a reason").reason, "too-large");
    let later = run.step("large").outcome(|_| async { Ok(String::new()) });
    let Err(Error::ResultNotKept {
        reason,
        owner,
        ended_at,
        ..
    }) = later.await
    else {
        panic!("it was executed again");
    };
    assert_eq!(
        (reason.as_str(), owner.as_deref()),
        ("too-large", Some("worker-7"))
    );
    assert!(ended_at.is_some());

    let arguments = json!({ "customer": "cus_1", "amount": 500 });
    let executed = AtomicUsize::new(0);
    let charge = |_| async { Ok::<_, WorkError>(executed.fetch_add(1, Ordering::Relaxed) + 1) };
    let call = |repeat| run.call("charge", &arguments, repeat).expect("a call");
    let done = call(Repeat::Once).execute(charge).await.expect("a result");
    assert_eq!(
        (done.result, done.replayed_at, done.message),
        (1, None, None)
    );
    let replay = call(Repeat::Once).execute(charge).await.expect("a result");
    assert_eq!(replay.result, 1);
    assert!(replay.replayed_at.expect("a time") >= replay.ended_at.expect("a time"));
    assert!(
        replay
            .message
            .expect("words")
            .contains(" by worker-7; this is its result.")
    );
    let refused = call(Repeat::Ask).execute(charge).await;
    assert!(matches!(refused, Err(Error::RepeatRefused { result, .. }) if result == 1));
    let lately = call(Repeat::After(LONG * 100)).execute(charge).await;
    assert_eq!(lately.expect("a result").result, 1);
    let anew = call(Repeat::After(Duration::ZERO)).execute(charge).await;
    assert_eq!(anew.expect("a result").result, 2);
    // A run that is resumed counts its calls from the first.
    let resumed = ledger.run("r");
    for (number, expected) in [(1, 1), (2, 2), (3, 3)] {
        let numbered = resumed.call("charge", &arguments, Repeat::Numbered);
        let numbered = numbered.expect("a call").execute(charge).await;
        assert_eq!(
            numbered.expect("a result").result,
            expected,
            "call {number}"
        );
    }

    let begun = tokio::sync::Notify::new();
    let work = |_| async {
        begun.notify_one();
        std::future::pending::<Result<(), WorkError>>().await
    };
    tokio::select! {
        _ = run.step("dropped").execute(work) => panic!("it can't end"),
        () = begun.notified() => {}
    }
    let later = run.step("dropped").execute(|_| async { Ok(()) }).await;
    let Err(Error::OutcomeUnknown {
        owner, evidence, ..
    }) = later
    else {
        panic!("{later:?}");
    };
    assert_eq!(owner.as_deref(), Some("worker-7"));
    assert!(
        evidence.expect("evidence")["error"]
            .as_str()
            .expect("words")
            .contains("went away")
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_keeps_its_key_while_it_works_and_gives_it_back() {
    let app = spawn_app(&config(&[])).await;
    let ledger = Ledger::new(&app.admin, TOKEN).expect("a ledger");
    let (window, lease) = (Duration::from_secs(3600), Duration::from_millis(600));
    let fails = || async { Err::<(), _>(std::io::Error::other("boom")) };
    let failed = ledger
        .dedup_handle("orders", "k", window, LONG, fails)
        .await;
    assert!(matches!(failed, Err(Error::Work(_))), "{failed:?}");
    let slow = || async {
        // Longer than the lease: by then another would have the key.
        tokio::time::sleep(lease * 2).await;
        let another = ledger.dedup_leased("orders", "k", window, lease).await;
        assert!(matches!(another, Err(Error::KeyLeased { .. })));
        Ok::<_, std::io::Error>(7)
    };
    let again = async {
        loop {
            // The key is given back beside the answer to the one that failed.
            match ledger
                .dedup_handle("orders", "k", window, lease, slow)
                .await
            {
                Err(Error::KeyLeased { .. }) => tokio::task::yield_now().await,
                ended => return ended,
            }
        }
    };
    let handled = tokio::time::timeout(LONG / 2, again)
        .await
        .expect("the key");
    assert_eq!(handled.expect("a result"), Some(7));
    let seen = ledger
        .dedup_handle("orders", "k", window, lease, fails)
        .await;
    assert!(matches!(seen, Ok(None)), "{seen:?}");
    app.stop().await;
}
