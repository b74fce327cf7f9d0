//! The process killed, the database killed or not to be trusted: what was acknowledged is there,
//! and service goes on by itself.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use sqlx::PgPool;

use crate::{app::*, process::*};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_fsync_is_refused_unless_told() {
    let server = OwnServer::start(&[("fsync", "off")]).await;
    let ports = "[ingress]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"127.0.0.1:0\"\n";
    let place = Place::on(ports, server.url());
    for command in [&["serve"][..], &["db", "migrate"]] {
        let said = place.refused(command, 1).await;
        assert!(
            said.contains("fsync = off") && said.contains("database.allow_fsync_off = true"),
            "{said}"
        );
    }
    let tables = place
        .count("select count(*) from pg_tables where schemaname = 'public'")
        .await;
    assert_eq!(
        tables, 0,
        "something was made in a database that is refused"
    );
    place.write(&format!("{ports}[database]\nallow_fsync_off = true\n"));
    let served = place.serve().await;
    served.signal("TERM");
    assert!(served.ended().await.success(), "{}", place.log());
}

/// Holds the recording statements of a database up; they wait until it is released.
pub async fn hold(pool: &PgPool) -> sqlx::PgTransaction<'static> {
    let mut transaction = pool.begin().await.expect("a transaction");
    sqlx::query("lock table event_key in exclusive mode")
        .execute(&mut *transaction)
        .await
        .expect("a lock");
    transaction
}

pub async fn waiting_for_the_lock(pool: &PgPool) -> i32 {
    let wait = async {
        loop {
            let pid = sqlx::query_scalar(
                "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%event_key%'",
            );
            if let Some(pid) = pid.fetch_optional(pool).await.expect("the activity") {
                return pid;
            }
        }
    };
    tokio::time::timeout(LONG, wait)
        .await
        .expect("a statement that waits")
}

/// A process killed while its statement is on its way: before the commit, or after it and before
/// the answer.
async fn killed(after_the_commit: bool) {
    let handler = Handler::start(Vec::new()).await;
    let (config, to) = served_config(&handler);
    let place = Place::new(&(config + "[database]\nbatch_connections = 1\n")).await;
    let served = place.serve().await;
    let pool = PgPool::connect(&place.database_url)
        .await
        .expect("the database");
    // The first statement of a connection is prepared, which would wait for the lock too, and end
    // with the process.
    assert_eq!(
        post_stripe(&to, "evt_0").await.expect("an answer"),
        "accepted"
    );
    // Its ending is written too, or the killed process would owe it.
    place
        .until("select count(*) from delivery where state = 'delivered'", 1)
        .await;
    let held = hold(&pool).await;
    let first = tokio::spawn({
        let to = to.clone();
        async move { post_stripe(&to, "evt_1").await }
    });
    let backend = waiting_for_the_lock(&pool).await;
    served.signal("KILL");
    assert!(
        first.await.expect("the request").is_err(),
        "it was acknowledged"
    );
    served.ended().await;
    if !after_the_commit {
        sqlx::query("select pg_terminate_backend($1, 30000)")
            .bind(backend)
            .execute(&pool)
            .await
            .expect("terminated");
    }
    held.rollback().await.expect("a rollback");
    place
        .until(
            "select count(*) from event",
            1 + i64::from(after_the_commit),
        )
        .await;
    let served = place.serve().await;
    let expected = if after_the_commit {
        "duplicate"
    } else {
        "accepted"
    };
    assert_eq!(
        post_stripe(&to, "evt_1").await.expect("an answer"),
        expected
    );
    // What the killed process had leased is delivered when its lease has ended.
    place
        .until("select count(*) from delivery where state = 'delivered'", 2)
        .await;
    assert_eq!(
        (
            place.count("select count(*) from delivery").await,
            handler.count()
        ),
        (2, 2)
    );
    served.signal("TERM");
    assert!(served.ended().await.success());
}

async fn post_stripe(to: &str, id: &str) -> Result<String, reqwest::Error> {
    let body = format!(r#"{{"id":"{id}","type":"x"}}"#);
    let mut request = client().post(to).body(body.clone());
    for (name, value) in stripe_headers(STRIPE_SECRET, now_unix(), body.as_bytes()) {
        request = request.header(name, value);
    }
    let answer: serde_json::Value = request.send().await?.json().await?;
    Ok(answer["status"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_the_commit_the_senders_next_try_is_the_first() {
    killed(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_commit_and_answer_the_senders_next_try_is_a_duplicate() {
    killed(true).await;
}

/// Clients that post new events one after the other, and what each was answered.
struct Load {
    answers: Arc<Mutex<BTreeMap<String, u16>>>,
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(app: &Arc<TestApp>) -> Self {
        let (answers, stop, next) = (
            Arc::<Mutex<BTreeMap<_, _>>>::default(),
            Arc::<AtomicBool>::default(),
            Arc::new(AtomicUsize::new(0)),
        );
        let clients = (0..8)
            .map(|_| {
                let (app, answers, stop, next) =
                    (app.clone(), answers.clone(), stop.clone(), next.clone());
                tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        let id = format!("evt_{}", next.fetch_add(1, Ordering::Relaxed));
                        let said = app.stripe(&id, "x").await;
                        assert!(
                            said.status == 200 || said.headers.contains_key("retry-after"),
                            "{said:?}"
                        );
                        answers.lock().expect("answers").insert(id, said.status);
                    }
                })
            })
            .collect();
        Self {
            answers,
            stop,
            clients,
        }
    }

    fn count(&self, status: u16) -> usize {
        self.answers
            .lock()
            .expect("answers")
            .values()
            .filter(|answer| **answer == status)
            .count()
    }

    /// Waits for so many more answers of this status.
    async fn more(&self, count: usize, status: u16) {
        let before = self.count(status);
        let wait = async {
            while self.count(status) < before + count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, wait)
            .await
            .unwrap_or_else(|_| panic!("no more answers {status}"));
    }

    async fn end(self) -> BTreeMap<String, u16> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.expect("a client");
        }
        Arc::try_unwrap(self.answers)
            .expect("no client")
            .into_inner()
            .expect("answers")
    }
}

async fn under_load(server: &OwnServer, budget: &str) -> (Handler, Arc<TestApp>, Load) {
    let handler = Handler::start(Vec::new()).await;
    let config = config(&[("h", &handler.url(), "retry = { base = \"10ms\" }")])
        .replace("[relay]", "[relay]\ntimeout = \"1s\"\nlease = \"4s\"")
        .replace("[ingress]", &format!("[ingress]\nack_budget = {budget:?}"));
    let app = Arc::new(spawn_on(&config, server.url()).await);
    let load = Load::start(&app);
    load.more(100, 200).await;
    (handler, app, load)
}

/// All that was acknowledged is recorded and delivered, and nothing is left.
async fn nothing_is_lost(app: Arc<TestApp>, handler: &Handler, answers: BTreeMap<String, u16>) {
    let recorded: Vec<String> = sqlx::query_scalar("select event_key from event")
        .fetch_all(&app.pool)
        .await
        .expect("events");
    let acknowledged = answers.iter().filter(|(_, status)| **status == 200);
    for (id, _) in acknowledged {
        assert!(recorded.contains(id), "{id} was acknowledged and is lost");
    }
    app.until("select count(*) from outbox", 0).await;
    assert_eq!(
        app.count("select count(*) from delivery where state = 'delivered'")
            .await,
        recorded.len() as i64
    );
    let received = handler.received(recorded.len()).await;
    assert!(recorded.iter().all(|id| {
        received
            .iter()
            .any(|request| request.header("hookonce-event-key") == Some(id))
    }));
    Arc::into_inner(app).expect("the last of it").stop().await;
}

async fn ready(app: &TestApp, is_ready: bool) {
    let wait = async {
        while app
            .http
            .get(format!("{}/readyz", app.url))
            .send()
            .await
            .is_ok_and(|answer| answer.status() == 200)
            != is_ready
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, wait)
        .await
        .unwrap_or_else(|_| panic!("ready is not {is_ready}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_crashes_under_load_and_comes_back_loses_nothing_acknowledged() {
    let mut server = OwnServer::start(&[]).await;
    let (handler, app, load) = under_load(&server, "300ms").await;
    server.crash().await;
    ready(&app, false).await;
    load.more(8, 503).await;
    server.start_again().await;
    ready(&app, true).await;
    load.more(100, 200).await;
    let answers = load.end().await;
    nothing_is_lost(app, &handler, answers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_wait_out_a_short_crash_within_their_budget() {
    let server = OwnServer::start(&[]).await;
    let (handler, app, load) = under_load(&server, "20s").await;
    // A backend that is killed takes all others with it; PostgreSQL recovers by itself.
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&app.pool)
        .await
        .expect("a backend");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .expect("a kill");
    load.more(200, 200).await;
    let answers = load.end().await;
    assert!(
        answers.values().all(|status| *status == 200),
        "{:?}",
        answers
            .iter()
            .filter(|(_, status)| **status != 200)
            .collect::<Vec<_>>()
    );
    nothing_is_lost(app, &handler, answers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_used_up_by_sleeping_statements_stops_no_request_and_is_said_to_operators() {
    let handler = Handler::start(Vec::new()).await;
    let config = config(&[("h", &handler.url(), "")]) + "[database]\nconnections_max = 3\n";
    let app = spawn_app(&config).await;
    let mut locked = app.pool.begin().await.expect("a transaction");
    sqlx::raw_sql("lock table token in access exclusive mode")
        .execute(&mut *locked)
        .await
        .expect("the lock");
    let asleep = futures_util::future::join_all(
        (0..3).map(|_| app.api(reqwest::Method::GET, "/tokens", None)),
    );
    let posts = async {
        for n in 0..20 {
            assert_eq!(
                app.stripe(&format!("evt_{n}"), "x").await.word(),
                "accepted"
            );
        }
    };
    let seen = async {
        app.until("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'", 3).await;
        let (said, ()) = tokio::join!(app.api(reqwest::Method::GET, "/events", None), posts);
        assert_eq!(
            (said.status, said.json()["type"].as_str()),
            (503, Some("urn:hookonce:problem:unavailable")),
            "{said:?}"
        );
        assert!(said.headers.contains_key("retry-after"));
        ready(&app, false).await;
        locked.rollback().await.expect("a rollback");
    };
    let (asleep, ()) = tokio::join!(asleep, seen);
    assert!(asleep.iter().all(|said| said.status == 200), "{asleep:?}");
    ready(&app, true).await;
    app.until(
        "select count(*) from delivery where state = 'delivered' and attempts = 1",
        20,
    )
    .await;
    assert_eq!(handler.count(), 20);
    app.stop().await;
}
