//! A run of steps while everything that takes part is killed again and again: the workers
//! (processes), hookonce, a backend of PostgreSQL and all others with it, and PostgreSQL's first
//! process. The longer one: cargo test --test it -- --ignored --nocapture of_5000_steps

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::{app::*, process::*};

const WORKERS: usize = 4;
/// What a worker process is told, as JSON.
const TOLD: &str = "HOOKONCE_STORM_WORKER";
const LEASE_MS: u64 = 1000;

/// Every other step is held when its holder is lost, every other tried again.
fn name(step: usize) -> String {
    format!(
        "{}-{step}",
        if step.is_multiple_of(2) {
            "hold"
        } else {
            "retry"
        }
    )
}

struct Worker {
    http: reqwest::Client,
    node: String,
    world: String,
    name: String,
}

impl Worker {
    /// Sends the same call until somebody answers it.
    async fn call(&self, request: impl Fn() -> reqwest::RequestBuilder) -> (u16, Value) {
        loop {
            let Ok(response) = request().bearer_auth(TOKEN).send().await else {
                tokio::task::yield_now().await;
                continue;
            };
            let status = response.status().as_u16();
            if let (Ok(said), true) = (response.json().await, status < 500) {
                return (status, said);
            }
        }
    }

    async fn post(&self, step: &str, action: &str, body: Value) -> (u16, Value) {
        self.call(|| {
            self.http
                .post(format!("{}/v1/runs/r/steps/{step}/{action}", self.node))
                .json(&body)
        })
        .await
    }

    /// The steps that have come to an end, as whoever resumes a run asks for them.
    async fn ended(&self) -> BTreeSet<String> {
        let (mut ended, mut cursor) = (BTreeSet::new(), String::new());
        loop {
            let (status, page) = self
                .call(|| {
                    self.http
                        .get(format!("{}/v1/runs/r/steps{cursor}", self.node))
                })
                .await;
            assert_eq!(status, 200, "{page}");
            let is_ended =
                |step: &&Value| matches!(step["status"].as_str(), Some("done" | "unknown"));
            let names = page["items"]
                .as_array()
                .expect("items")
                .iter()
                .filter(is_ended)
                .filter_map(|step| step["step"].as_str());
            ended.extend(names.map(str::to_owned));
            match page["next"].as_str() {
                Some(next) => cursor = format!("?cursor={next}"),
                None => return ended,
            }
        }
    }

    async fn execute(&self, step: &str) {
        let claim_id = format!("{}-{}", self.name, uuid::Uuid::now_v7());
        let on_lost = step.split('-').next();
        let claim = json!({ "claim_id": claim_id, "owner": self.name, "lease_ms": LEASE_MS, "on_lost": on_lost, "wait_ms": 100 });
        let (status, said) = self.post(step, "claim", claim).await;
        if status != 201 {
            assert!(matches!(status, 200 | 409), "{status} {said}");
            return;
        }
        let key = said["effect_key"].as_str().expect("a key");
        let effect = self
            .http
            .post(&self.world)
            .header("x-step", step)
            .header("idempotency-key", key);
        assert_eq!(effect.send().await.expect("the world").status(), 200);
        let (status, said) = self
            .post(
                step,
                "complete",
                json!({ "fence": said["fence"], "result": key }),
            )
            .await;
        // 409: the lease was over, and another has it now, or it is unknown.
        assert!(matches!(status, 200 | 409), "{status} {said}");
    }
}

/// Not a test: what the storm starts as processes of their own.
#[tokio::test]
#[ignore = "a part of the storm"]
async fn a_worker() {
    let Ok(told) = std::env::var(TOLD) else {
        return;
    };
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let text = |key: &str| told[key].as_str().expect("text").to_owned();
    let worker = Worker {
        http: client(),
        node: text("node"),
        world: text("world"),
        name: text("name"),
    };
    let steps = told["steps"].as_u64().expect("a number") as usize;
    let first = told["first"].as_u64().expect("a number") as usize;
    loop {
        let ended = worker.ended().await;
        let open: Vec<String> = (0..steps)
            .map(|step| name((step + first) % steps))
            .filter(|step| !ended.contains(step))
            .collect();
        if open.is_empty() {
            return;
        }
        for step in &open {
            worker.execute(step).await;
        }
    }
}

fn start_worker(
    number: usize,
    life: usize,
    steps: usize,
    node: &str,
    world: &str,
) -> tokio::process::Child {
    let told = json!({ "node": node, "world": world, "steps": steps, "first": number * steps / WORKERS, "name": format!("{number}.{life}") });
    tokio::process::Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "ledger_storm::a_worker", "--ignored", "--quiet"])
        .env(TOLD, told.to_string())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("a worker")
}

/// PostgreSQL ends all its backends when one is killed, and recovers from its log.
async fn kill_a_backend(url: &str) {
    let mut connection = PgConnection::connect(url).await.expect("the database");
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut connection)
        .await
        .expect("a backend");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .expect("a kill");
    let gone = async {
        while sqlx::query("select 1")
            .execute(&mut connection)
            .await
            .is_ok()
        {}
    };
    tokio::time::timeout(LONG, gone)
        .await
        .expect("the end of the backend");
    let back = async { while PgConnection::connect(url).await.is_err() {} };
    tokio::time::timeout(LONG, back)
        .await
        .expect("the database's return");
}

/// `rounds` times, at even parts of the work, a worker is killed; at every third the node too, and
/// at every third PostgreSQL: a backend and the postmaster in turn.
async fn storm(steps: usize, rounds: usize) {
    let mut server = OwnServer::start(&[]).await;
    let port = free_port();
    let config = format!(
        "[ingress]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"127.0.0.1:{port}\"\ntoken = {TOKEN:?}\n"
    );
    let place = Place::on(&config, server.url());
    let world = Handler::start(Vec::new()).await;
    let (node, to) = (format!("http://127.0.0.1:{port}"), world.url());
    let mut served = place.serve().await;
    let mut workers: Vec<_> = (0..WORKERS)
        .map(|number| start_worker(number, 0, steps, &node, &to))
        .collect();
    let started = Instant::now();
    for round in 1..=rounds {
        world.received(round * steps / (rounds + 2)).await;
        let number = round % WORKERS;
        workers[number].kill().await.expect("a kill");
        match round % 3 {
            1 => {
                served.signal("KILL");
                served.ended().await;
                served = place.serve().await;
            }
            2 if round % 2 == 0 => kill_a_backend(&place.database_url).await,
            2 => {
                server.kill().await;
                server.start_again().await;
                assert_eq!(server.url(), place.database_url);
            }
            _ => {}
        }
        workers[number] = start_worker(number, round, steps, &node, &to);
    }
    for mut worker in workers {
        let ended = tokio::time::timeout(LONG * 4, worker.wait())
            .await
            .expect("the end of the run")
            .expect("a worker");
        assert!(ended.success(), "{}", place.log());
    }
    let mut effects: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for received in world.received(0).await {
        let text = |name| received.header(name).expect("a header").to_owned();
        effects
            .entry(text("x-step"))
            .or_default()
            .push(text("idempotency-key"));
    }
    for (step, keys) in &effects {
        assert!(
            !step.starts_with("hold") || keys.len() == 1,
            "{step} happened {} times",
            keys.len()
        );
        assert_eq!(
            keys.iter().collect::<BTreeSet<_>>().len(),
            1,
            "{step} has keys {keys:?}"
        );
    }
    let mut connection = PgConnection::connect(&place.database_url)
        .await
        .expect("the database");
    let rows: Vec<(String, String, String, i32)> =
        sqlx::query_as("select step, state, id::text, attempt from step")
            .fetch_all(&mut connection)
            .await
            .expect("the steps");
    assert_eq!(rows.len(), steps);
    for (step, state, key, _) in &rows {
        match state.as_str() {
            "done" => assert_eq!(
                effects.get(step).and_then(|keys| keys.first()),
                Some(key),
                "{step} is done and did not happen"
            ),
            _ => assert!(step.starts_with("hold"), "{step} is {state}"),
        }
    }
    let (unknown, repeated) = (
        rows.iter().filter(|row| row.1 != "done").count(),
        rows.iter().filter(|row| row.3 > 1).count(),
    );
    let twice = effects.values().filter(|keys| keys.len() > 1).count();
    eprintln!(
        "{steps} steps in {:?}: {unknown} unknown, {repeated} tried again, {twice} of these happened twice under one key",
        started.elapsed()
    );
    served.signal("TERM");
    assert!(served.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_300_steps_none_that_is_held_happens_twice_whatever_is_killed() {
    storm(300, 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute or more: the same for many more steps and kills"]
async fn of_5000_steps_none_that_is_held_happens_twice_whatever_is_killed() {
    storm(5000, 60).await;
}
