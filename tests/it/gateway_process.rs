//! The gateway when its process is killed: at each point of a call, what is known is said and what
//! is not is never run again.

use sqlx::PgPool;

use crate::{app::*, gateway::Shop, process::*, upstream::*};

/// One connection for each kind of statement, so that none is prepared while a test holds the
/// table.
const PORTS: &str = "[ingress]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"127.0.0.1:0\"\n[ledger]\nbatch_connections = 1\n";

/// A place whose gateway goes to this upstream, and who calls it.
async fn place(upstream: std::net::SocketAddr) -> (Place, Shop) {
    let port = free_port();
    let gateway = gateway_config(upstream, "lease = \"1s\"")
        .replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    (
        Place::new(&(PORTS.to_owned() + &gateway)).await,
        Shop::at(format!("http://127.0.0.1:{port}")),
    )
}

/// Calls until the answer is another than that the first is still being answered.
async fn settled(shop: &Shop, key: &str) -> Said {
    let wait = async {
        loop {
            let said = said(shop.order(key).header("prefer", "wait=5")).await;
            if said.status != 409 || !said.text.contains("in-progress") {
                return said;
            }
        }
    };
    tokio::time::timeout(LONG, wait)
        .await
        .expect("the lease to end")
}

async fn hold(pool: &PgPool) -> sqlx::PgTransaction<'static> {
    let mut transaction = pool.begin().await.expect("a transaction");
    sqlx::query("lock table step in exclusive mode")
        .execute(&mut *transaction)
        .await
        .expect("a lock");
    transaction
}

/// The backend whose statement of this kind waits for the lock.
async fn waiting(pool: &PgPool, statement: &str) -> i32 {
    let wait = async {
        loop {
            let pid = sqlx::query_scalar(
                "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%' || $1 || '%'",
            );
            if let Some(pid) = pid
                .bind(statement)
                .fetch_optional(pool)
                .await
                .expect("the activity")
            {
                return pid;
            }
        }
    };
    tokio::time::timeout(LONG, wait)
        .await
        .expect("a statement that waits")
}

fn begin(shop: &Shop, key: &str) -> tokio::task::JoinHandle<bool> {
    let request = shop.order(key);
    tokio::spawn(async move { request.send().await.is_err() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_the_claim_is_committed_the_key_is_free() {
    let api = FakeApi::start(Vec::new()).await;
    let (place, shop) = place(api.address).await;
    let served = place.serve().await;
    let pool = PgPool::connect(&place.database_url)
        .await
        .expect("the database");
    // The first statement of a connection is prepared, which would wait for the lock too.
    assert_eq!(shop.charge("other").await.status, 201);
    let held = hold(&pool).await;
    let first = begin(&shop, "k");
    let backend = waiting(&pool, "lease_seconds, input_hash, about").await;
    served.signal("KILL");
    assert!(first.await.expect("the request"), "it was answered");
    served.ended().await;
    sqlx::query("select pg_terminate_backend($1, 30000)")
        .bind(backend)
        .execute(&pool)
        .await
        .expect("terminated");
    held.rollback().await.expect("a rollback");
    assert_eq!(api.count(), 1, "it was sent before its claim was committed");
    let served = place.serve().await;
    assert_eq!(shop.charge("k").await.replayed(), "false");
    assert_eq!(api.count(), 2);
    served.signal("TERM");
    assert!(served.ended().await.success());
}

/// A listener whose queue is full: who connects waits.
fn deaf() -> (std::net::TcpListener, Vec<std::net::TcpStream>) {
    use std::os::fd::AsRawFd as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    // SAFETY: the descriptor is the listener's; a second listen() only sets the length of its
    // queue.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let address = listener.local_addr().expect("an address");
    let connect =
        || std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(200));
    let queued = std::iter::from_fn(|| connect().ok()).take(16).collect();
    (listener, queued)
}

/// The claim is all that is known: whether it was sent can't be, so it counts as sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_the_claim_and_before_sending_it_is_not_run_again() {
    let (listener, queued) = deaf();
    let address = listener.local_addr().expect("an address");
    let (place, shop) = place(address).await;
    let served = place.serve().await;
    let first = begin(&shop, "k");
    place
        .until("select count(*) from step where state = 'running'", 1)
        .await;
    served.signal("KILL");
    assert!(first.await.expect("the request"));
    served.ended().await;
    drop((listener, queued));
    let api = FakeApi::start_at(address, Vec::new()).await;
    let served = place.serve().await;
    settled(&shop, "k").await.is_problem(409, "outcome-unknown");
    assert_eq!(api.count(), 0);
    let run = place.json(&["ledger", "list", "--status", "unknown"]).await[0]["run"]
        .as_str()
        .expect("a run")
        .to_owned();
    let resolve = [
        "ledger",
        "resolve",
        &run,
        "k",
        "--tenant",
        "gateway:pay",
        "--outcome",
        "not-executed",
        "--evidence",
        "it has no such charge",
    ];
    assert!(place.text(&resolve).await.contains("may be claimed again"));
    assert_eq!(
        (shop.charge("k").await.replayed(), api.count()),
        ("false", 1)
    );
    served.signal("TERM");
    assert!(served.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_sending_it_is_not_run_again_on_any_node() {
    let api = FakeApi::start(vec![Act::Hang]).await;
    let (here, shop) = place(api.address).await;
    let port = free_port();
    let config = PORTS.to_owned()
        + &api
            .gateway("")
            .replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let there = Place::on(&config, here.database_url.clone());
    let other = Shop::at(format!("http://127.0.0.1:{port}"));
    let (served, survivor) = (here.serve().await, there.serve().await);
    let first = begin(&shop, "k");
    api.seen(1).await;
    served.signal("KILL");
    assert!(first.await.expect("the request"));
    served.ended().await;
    settled(&other, "k")
        .await
        .is_problem(409, "outcome-unknown");
    let served = here.serve().await;
    shop.charge("k").await.is_problem(409, "outcome-unknown");
    assert_eq!(api.count(), 1);
    let run = there.json(&["ledger", "list", "--status", "unknown"]).await[0]["run"]
        .as_str()
        .expect("a run")
        .to_owned();
    let answer = r#"{"status":201,"body":"found"}"#;
    let resolve = [
        "ledger",
        "resolve",
        &run,
        "k",
        "--tenant",
        "gateway:pay",
        "--outcome",
        "done",
        "--result",
        answer,
        "--evidence",
        "ch_1",
    ];
    assert!(there.text(&resolve).await.contains("is done"));
    assert_eq!(
        (shop.charge("k").await.text, other.charge("k").await.text),
        ("found".to_owned(), "found".to_owned())
    );
    for served in [served, survivor] {
        served.signal("TERM");
        assert!(served.ended().await.success());
    }
}

/// The upstream has answered and the record waits: it is lost, or committed by the database after
/// all.
async fn killed_while_recording(is_committed: bool) {
    let api = FakeApi::start(vec![Act::status(201, "", "warm"), Act::Hang]).await;
    let (place, shop) = place(api.address).await;
    let served = place.serve().await;
    let pool = PgPool::connect(&place.database_url)
        .await
        .expect("the database");
    assert_eq!(shop.charge("other").await.status, 201);
    let first = begin(&shop, "k");
    api.seen(2).await;
    let held = hold(&pool).await;
    api.let_go(1);
    let backend = waiting(&pool, "ended as (").await;
    served.signal("KILL");
    assert!(
        first.await.expect("the request"),
        "it was answered before its record"
    );
    served.ended().await;
    if !is_committed {
        sqlx::query("select pg_terminate_backend($1, 30000)")
            .bind(backend)
            .execute(&pool)
            .await
            .expect("terminated");
    }
    held.rollback().await.expect("a rollback");
    let served = place.serve().await;
    let again = settled(&shop, "k").await;
    match is_committed {
        true => assert_eq!(
            (again.status, again.text.as_str(), again.replayed()),
            (201, "{\"n\":002}", "true")
        ),
        false => again.is_problem(409, "outcome-unknown"),
    }
    assert_eq!(api.count(), 2);
    served.signal("TERM");
    assert!(served.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_the_answer_and_before_its_record_it_is_not_run_again() {
    killed_while_recording(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_the_record_and_before_answering_it_is_given_again() {
    killed_while_recording(true).await;
}
