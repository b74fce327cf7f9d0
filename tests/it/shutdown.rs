//! How a process ends: softly under load without a loss, at once when it is told twice.

use std::{
    collections::BTreeSet,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{app::*, process::*};

const ROUNDS: usize = 10;
const ROUNDS_LONG: usize = 100;
const CLIENTS: usize = 8;

/// What clients were told is accepted, by event id.
#[derive(Clone, Default)]
struct Acknowledged(Arc<Mutex<BTreeSet<String>>>);

impl Acknowledged {
    fn count(&self) -> usize {
        self.0.lock().expect("the events").len()
    }
}

/// Posts new events one after the other until the service is gone.
async fn post_until_refused(to: String, next: Arc<AtomicUsize>, acknowledged: Acknowledged) {
    let http = client();
    loop {
        let body = format!(
            r#"{{"id":"evt_{}","type":"x"}}"#,
            next.fetch_add(1, Ordering::Relaxed)
        );
        let mut request = http.post(&to).body(body.clone());
        for (name, value) in stripe_headers(STRIPE_SECRET, now_unix(), body.as_bytes()) {
            request = request.header(name, value);
        }
        let Ok(response) = request.send().await else {
            return;
        };
        if response.status() != 200 {
            assert_eq!(response.status(), 503, "{response:?}");
            continue;
        }
        let event = response.headers()["hookonce-event"]
            .to_str()
            .expect("an id")
            .to_owned();
        acknowledged.0.lock().expect("the events").insert(event);
    }
}

async fn stop_under_load(rounds: usize) {
    let handler = Handler::start(Vec::new()).await;
    let (config, to) = served_config(&handler);
    let place = Place::new(&config).await;
    let (next, acknowledged) = (Arc::new(AtomicUsize::new(0)), Acknowledged::default());
    for round in 0..rounds {
        let served = place.serve().await;
        let before = acknowledged.count();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                tokio::spawn(post_until_refused(
                    to.clone(),
                    next.clone(),
                    acknowledged.clone(),
                ))
            })
            .collect();
        let loaded = async {
            while acknowledged.count() < before + 50 + 10 * round {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, loaded)
            .await
            .expect("acknowledged events");
        served.signal("TERM");
        let status = served.ended().await;
        assert_eq!(status.code(), Some(0), "round {round}: {}", place.log());
        for client in clients {
            client.await.expect("a client");
        }
    }
    let acknowledged = acknowledged.0.lock().expect("the events").clone();
    let pool = sqlx::PgPool::connect(&place.database_url)
        .await
        .expect("the database");
    let recorded: BTreeSet<String> = sqlx::query_scalar::<_, uuid::Uuid>("select id from event")
        .fetch_all(&pool)
        .await
        .expect("events")
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        acknowledged.is_subset(&recorded),
        "{} acknowledged, {} recorded",
        acknowledged.len(),
        recorded.len()
    );
    let served = place.serve().await;
    handler.received(recorded.len()).await;
    served.signal("TERM");
    assert!(served.ended().await.success(), "{}", place.log());
    let received: Vec<String> = handler
        .received(0)
        .await
        .iter()
        .filter_map(|request| request.header("webhook-id"))
        .map(str::to_owned)
        .collect();
    assert_eq!(received.iter().cloned().collect::<BTreeSet<_>>(), recorded);
    assert_eq!(
        received.len(),
        recorded.len(),
        "a soft stop costs no delivery a second try"
    );
    assert_eq!(place.count("select count(*) from outbox").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_under_load_nothing_acknowledged_is_lost() {
    stop_under_load(ROUNDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes long: the same for many more rounds"]
async fn stopped_under_load_a_hundred_times() {
    stop_under_load(ROUNDS_LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_interrupt_ends_serve_at_once_and_its_delivery_is_made_again() {
    let handler = Handler::start(vec![Reply::Hang]).await;
    let (config, to) = served_config(&handler);
    let config = config.replacen(
        "timeout = \"1s\"\nlease = \"4s\"",
        "timeout = \"5m\"\nlease = \"6m\"\ndrain_timeout = \"5m\"",
        1,
    );
    let place = Place::new(&config).await;
    let served = place.serve().await;
    place.text(&["send", "stripe", "--to", &to]).await;
    handler.received(1).await;
    served.signal("INT");
    place.logged("stopping").await;
    // It waits for nothing: not for the hung handler's timeout, nor for the drain, which are longer
    // than the test waits.
    served.signal("INT");
    let status = served.ended().await;
    assert_eq!(status.code(), Some(1), "{}", place.log());
    let pool = sqlx::PgPool::connect(&place.database_url)
        .await
        .expect("the database");
    sqlx::query("update outbox set lease_until = now()")
        .execute(&pool)
        .await
        .expect("the lease's end");
    let served = place.serve().await;
    let again = handler.received(2).await.remove(1);
    assert_eq!(again.header("hookonce-attempt"), Some("1"));
    served.signal("TERM");
    assert!(served.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_interrupt_ends_dev_at_once() {
    let handler = Handler::start(vec![Reply::Hang]).await;
    let place = Place::new("").await;
    let port = free_port().to_string();
    let log = std::fs::File::create(place.folder.path().join("log")).expect("a log");
    let mut command = place.command(&["dev", "--forward-to", &handler.url(), "--port", &port]);
    command
        .env("HOOKONCE__ADMIN__BIND", "127.0.0.1:0")
        .env("HOOKONCE__RELAY__DRAIN_TIMEOUT", "5m");
    command
        .env("HOOKONCE__RELAY__TIMEOUT", "5m")
        .env("HOOKONCE__RELAY__LEASE", "6m");
    let served = Served(
        command
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .expect("dev"),
    );
    place.logged("Ctrl-C stops").await;
    place
        .text(&[
            "send",
            "slack",
            "--to",
            &format!("http://127.0.0.1:{port}/hooks/slack"),
        ])
        .await;
    handler.received(1).await;
    served.signal("INT");
    // Not ready is the first step of a stop.
    let http = client();
    let stopping = async {
        while http
            .get(format!("http://127.0.0.1:{port}/livez"))
            .send()
            .await
            .is_ok_and(|response| response.status() == 200)
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, stopping)
        .await
        .expect("the stop");
    // It waits for nothing: not for the hung handler's timeout, nor for the drain, which are longer
    // than the test waits.
    served.signal("INT");
    let status = served.ended().await;
    assert_eq!(status.code(), Some(1));
}
