//! A database that says nothing any more, that can be read alone, or that has lost something.
//! Between service and server stands a relay, which can be told to hold everything back: as after a
//! failover without a reset, nobody hears that the other side is gone.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use hookonce::{
    postgres::{Server, ServerOptions},
    store::{link, retention, schema},
};
use sqlx::{Connection as _, PgConnection};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};

use crate::{
    app::*,
    wire::{Upstream, listen},
};

#[derive(Clone)]
struct State {
    upstream: Upstream,
    /// Connections of this number and lower are held still.
    frozen: u32,
    /// Connections of this number and lower are closed.
    closed: u32,
}

struct Relay {
    address: SocketAddr,
    state: watch::Sender<State>,
    made: Arc<AtomicU32>,
}

impl Relay {
    async fn to(url: &str) -> (Self, String) {
        let (state, watched) = watch::channel(State {
            upstream: Upstream::of(url),
            frozen: 0,
            closed: 0,
        });
        let (listener, address, url) = listen(url).await;
        let made = Arc::new(AtomicU32::new(0));
        let count = made.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::Relaxed) + 1;
                tokio::spawn(pass(client, number, watched.clone()));
            }
        });
        (
            Self {
                address,
                state,
                made,
            },
            url,
        )
    }

    /// Holds back what the connections of now would say, and those to come as well where all is
    /// silent.
    fn freeze(&self, all: bool) {
        let made = if all {
            u32::MAX
        } else {
            self.made.load(Ordering::Relaxed)
        };
        self.state.send_modify(|state| state.frozen = made);
    }

    fn thaw(&self) {
        self.state.send_modify(|state| state.frozen = 0);
    }

    fn fail_over(&self, url: &str) {
        let made = self.made.load(Ordering::Relaxed);
        self.state.send_modify(|state| {
            state.upstream = Upstream::of(url);
            state.closed = made;
        });
    }
}

async fn pass(client: TcpStream, number: u32, state: watch::Receiver<State>) {
    let upstream = state.borrow().upstream.clone();
    let mut closed = state.clone();
    let passing = async {
        let (mut down, mut up) = tokio::io::split(upstream.connect().await?);
        let (mut from, mut to) = client.into_split();
        tokio::select! {
            ended = copy(&mut from, &mut up, number, state.clone()) => ended,
            ended = copy(&mut down, &mut to, number, state) => ended,
        }
    };
    tokio::select! {
        _ = passing => {}
        _ = closed.wait_for(|state| state.closed >= number) => {}
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    number: u32,
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut bytes).await?;
        if state.wait_for(|state| state.frozen < number).await.is_err() || read == 0 {
            return Ok(());
        }
        to.write_all(&bytes[..read]).await?;
    }
}

async fn is_ready(app: &TestApp) -> bool {
    app.http
        .get(format!("{}/readyz", app.url))
        .send()
        .await
        .expect("an answer")
        .status()
        == 200
}

/// How long it takes until the service says so.
async fn until_ready_is(app: &TestApp, ready: bool) -> Duration {
    let began = Instant::now();
    while is_ready(app).await != ready {
        assert!(began.elapsed() < LONG, "ready is not {ready}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

const IMPATIENT: &str = "[database]\nwrite_timeout = \"1s\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_go_silent_are_given_up_and_made_anew() {
    let handler = Handler::start(Vec::new()).await;
    let (relay, url) = Relay::to(&database().await).await;
    let app = spawn_on(&(config(&[("h", &handler.url(), "")]) + IMPATIENT), url).await;
    assert_eq!(app.github("d-1", r#"{"n":1}"#).await.word(), "accepted");
    assert_eq!(app.github("d-2", r#"{"n":2}"#).await.word(), "accepted");
    handler.received(2).await;
    for number in 3..6 {
        relay.freeze(false);
        let began = Instant::now();
        assert_eq!(
            app.github(&format!("d-{number}"), &format!(r#"{{"n":{number}}}"#))
                .await
                .word(),
            "accepted"
        );
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(handler.received(number).await.len(), number, "each once");
    }
    relay.freeze(false);
    // What asks the database on a connection of the pool is bounded as well.
    assert_eq!(
        app.api(reqwest::Method::GET, "/events", None).await.status,
        200
    );
    assert!(relay.address.port() != 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_is_what_the_writers_meet() {
    let database_url = database().await;
    let (relay, url) = Relay::to(&database_url).await;
    let app = spawn_on(&(config(&[]) + IMPATIENT), url).await;
    until_ready_is(&app, true).await;
    relay.freeze(true);
    let (down, up) = (until_ready_is(&app, false).await, {
        relay.thaw();
        until_ready_is(&app, true).await
    });
    assert!(
        down < Duration::from_secs(3) && up < Duration::from_secs(3),
        "{down:?} {up:?}"
    );

    // A server that was taken over by another: it answers, and takes nothing.
    let mut operator = PgConnection::connect(&database_url)
        .await
        .expect("the database");
    let name: String = sqlx::query_scalar("select current_database()")
        .fetch_one(&mut operator)
        .await
        .expect("a name");
    let read_only = async |value: &str, operator: &mut PgConnection| {
        let alter = format!("alter database {name} set default_transaction_read_only = {value}");
        let cut = format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}' and pid <> pg_backend_pid()"
        );
        for sql in [alter, cut] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
                .execute(&mut *operator)
                .await
                .expect("SQL");
        }
    };
    read_only("on", &mut operator).await;
    until_ready_is(&app, false).await;
    sqlx::raw_sql("set transaction_read_only = off")
        .execute(&mut operator)
        .await
        .expect("SQL");
    read_only("off", &mut operator).await;
    until_ready_is(&app, true).await;
    app.stop().await;
}

/// Ends a server that a failed test left running.
struct Left(i32);

impl Drop for Left {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.0),
            nix::sys::signal::Signal::SIGQUIT,
        );
    }
}

/// A server with a folder of its own.
async fn server(folder: &Path) -> Server {
    let options = ServerOptions {
        binaries: binaries().await,
        data_dir: folder.to_owned(),
        adopt: false,
        settings: Vec::new(),
    };
    Server::start(options).await.expect("a server")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failover_lost_is_recorded_when_it_is_sent_again() {
    let handler = Handler::start(Vec::new()).await;
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(
        folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("the folder");
    let (first, second) = (folder.path().join("a"), folder.path().join("b"));
    let primary = server(&first).await;
    let db = schema::pool(&link::options(&primary.url()).expect("a URL"), 2);
    schema::migrate(&db).await.expect("the schema");
    retention::prepare(&db).await.expect("the partitions");
    db.close().await;
    primary.stop().await.expect("a stop");
    std::fs::create_dir(&second).expect("a folder");
    std::fs::set_permissions(&second, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("the folder");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(first.join("pgdata"))
        .arg(&second)
        .status()
        .expect("cp");
    assert!(copied.success());
    let signal = second.join("pgdata/standby.signal");
    std::fs::write(&signal, "").expect("the signal");
    let owner = std::fs::metadata(second.join("pgdata/PG_VERSION")).expect("the cluster");
    std::os::unix::fs::chown(
        &signal,
        Some(std::os::unix::fs::MetadataExt::uid(&owner)),
        None,
    )
    .expect("the signal's owner");

    let primary = server(&first).await;
    let _left = Left(primary.pid());
    let primary_url: url::Url = primary.url().parse().expect("a URL");
    let socket = primary_url
        .query_pairs()
        .find(|(name, _)| name == "host")
        .expect("a socket")
        .1
        .into_owned();
    let follow = format!("\nprimary_conninfo = 'host={socket} port=5432 user=hookonce'\n");
    let settings = second.join("pgdata/postgresql.auto.conf");
    std::fs::write(
        &settings,
        std::fs::read_to_string(&settings).expect("the settings") + &follow,
    )
    .expect("the settings");
    let standby = server(&second).await;
    let _left_too = Left(standby.pid());
    let (relay, url) = Relay::to(&primary.url()).await;
    let app = spawn_on(&config(&[("h", &handler.url(), "")]), url).await;
    assert_eq!(app.github("kept", r#"{"n":1}"#).await.word(), "accepted");
    handler.received(1).await;
    let mut on_standby = PgConnection::connect(&standby.url())
        .await
        .expect("the standby");
    let began = Instant::now();
    loop {
        let events: i64 = sqlx::query_scalar("select count(*) from event")
            .fetch_one(&mut on_standby)
            .await
            .expect("a count");
        if events == 1 {
            break;
        }
        assert!(began.elapsed() < LONG, "the standby does not follow");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // It falls behind, and what is acknowledged now is on the primary alone.
    for sql in [
        "alter system set primary_conninfo = ''",
        "select pg_reload_conf()",
    ] {
        sqlx::raw_sql(sql)
            .execute(&mut on_standby)
            .await
            .expect("SQL");
    }
    let began = Instant::now();
    while sqlx::query_scalar::<_, i64>("select count(*) from pg_stat_wal_receiver")
        .fetch_one(&mut on_standby)
        .await
        .expect("a count")
        > 0
    {
        assert!(began.elapsed() < LONG, "the standby still follows");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(app.github("lost", r#"{"n":2}"#).await.word(), "accepted");
    assert_eq!(
        app.github("lost", r#"{"n":2}"#).await.word(),
        "duplicate",
        "from memory"
    );
    handler.received(2).await;

    sqlx::raw_sql("select pg_promote()")
        .execute(&mut on_standby)
        .await
        .expect("a promotion");
    relay.fail_over(&standby.url());
    // Whoever looks twice a second has noticed.
    until_ready_is(&app, false).await;
    until_ready_is(&app, true).await;
    primary.stop().await.expect("a stop");
    assert_eq!(
        app.github("kept", r#"{"n":1}"#).await.word(),
        "duplicate",
        "it was replicated"
    );
    assert_eq!(
        app.github("lost", r#"{"n":2}"#).await.word(),
        "accepted",
        "the provider's resend heals what was lost"
    );
    assert_eq!(handler.received(3).await.len(), 3);
    app.stop().await;
    drop(on_standby);
    standby.stop().await.expect("a stop");
}

/// A full disk is seen by taking of it: a page each time, and never more than a few.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_takes_a_page_of_the_servers_disk() {
    let mut connection = PgConnection::connect(&database().await)
        .await
        .expect("a connection");
    let mut pages = schema::Pages::of(&mut connection)
        .await
        .expect("an answer")
        .expect("a table");
    let mut most = 0;
    for n in 1..=200_i64 {
        pages.take(&mut connection).await.expect("a page");
        let bytes: i64 = sqlx::query_scalar("select pg_relation_size('hookonce_pages')")
            .fetch_one(&mut connection)
            .await
            .expect("a size");
        assert!(n > 64 || bytes == n * 8192, "{n}: {bytes}");
        most = most.max(bytes);
    }
    assert_eq!(most, 64 * 8192);
    connection.close().await.expect("the end");
}
