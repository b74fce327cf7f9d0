//! Each test runs a real server on a cluster of its own, watched so that a failing test leaves
//! nothing behind.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use sqlx::Row;

use super::*;
use crate::postgres::{
    Binaries, PostgresError, Progress, default_data_dir, install, watchdog::Watchdog,
};

/// The machine's PostgreSQL, else one that is installed into the data folder as `dev` would do. It
/// is found once for all tests.
async fn binaries() -> Binaries {
    static FOUND: tokio::sync::OnceCell<Binaries> = tokio::sync::OnceCell::const_new();
    let find = || async {
        let data_dir = default_data_dir().unwrap();
        match Binaries::find(None, &data_dir) {
            Ok(binaries) => binaries,
            Err(_) => install(&data_dir, &mut |progress: Progress| {
                eprintln!("{progress:?}")
            })
            .await
            .unwrap(),
        }
    };
    FOUND.get_or_init(find).await.clone()
}

/// A data folder that is cleaned up with whatever runs in it.
struct Home {
    path: PathBuf,
    watchdog: Option<Watchdog>,
}

impl Home {
    fn new() -> Self {
        let path = tempfile::Builder::new()
            .prefix("hookonce-")
            .tempdir()
            .unwrap()
            .keep();
        let watchdog = Some(Watchdog::over(&path).unwrap());
        Self { path, watchdog }
    }

    async fn options(&self) -> ServerOptions {
        ServerOptions {
            binaries: binaries().await,
            data_dir: self.path.clone(),
            adopt: true,
            settings: Vec::new(),
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.release();
        }
    }
}

async fn query(url: &str, sql: &'static str) -> String {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let row = connection.fetch_one(sql).await.unwrap();
    row.get(0)
}

async fn run(url: &str, sql: &'static str) {
    PgConnection::connect(url)
        .await
        .unwrap()
        .execute(sql)
        .await
        .unwrap();
}

#[tokio::test]
async fn it_starts_durable_and_private_stops_and_starts_again_with_its_data() {
    let home = Home::new();
    let server = Server::start(home.options().await).await.unwrap();
    assert!(!server.adopted());
    for (setting, value) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("listen_addresses", ""),
        ("data_checksums", "on"),
    ] {
        let sql: &'static str = Box::leak(format!("show {setting}").into_boxed_str());
        assert_eq!(query(&server.url(), sql).await, value, "{setting}");
    }
    assert_eq!(
        query(
            &server.url(),
            "select 'ä' || current_database() || current_user"
        )
        .await,
        "ähookoncehookonce"
    );
    assert_eq!(
        fs::metadata(&server.socket_dir).unwrap().mode() & 0o777,
        0o700
    );
    run(&server.url(), "create table kept as select 'yes' as answer").await;
    let exited = server.exited();
    let cluster = server.cluster.clone();
    server.stop().await.unwrap();
    assert!(exited.await.contains("exit status: 0"));
    assert!(!cluster.join("postmaster.pid").exists());

    let server = Server::start(home.options().await).await.unwrap();
    assert_eq!(query(&server.url(), "select answer from kept").await, "yes");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_left_running_is_adopted_with_its_data_and_can_be_stopped() {
    let home = Home::new();
    let options = home.options().await;
    let first = Server::start(options.clone()).await.unwrap();
    let pid = first.pid();
    assert!(matches!(
        Server::start(options.clone()).await,
        Err(PostgresError::InUse { .. })
    ));
    assert_eq!(running_url(&home.path), Some(first.url()));
    drop(first);

    let refused = Server::start(ServerOptions {
        adopt: false,
        ..options.clone()
    })
    .await;
    assert!(
        matches!(refused, Err(PostgresError::AlreadyRunning { pid: found, .. }) if found == pid),
        "{refused:?}"
    );
    let second = Server::start(options.clone()).await.unwrap();
    assert!(second.adopted());
    assert_eq!(second.pid(), pid);
    assert_eq!(query(&second.url(), "select 'here'").await, "here");
    let exited = second.exited();
    second.stop().await.unwrap();
    exited.await;
    assert!(running_url(&home.path).is_none());

    let third = Server::start(options).await.unwrap();
    assert!(!third.adopted());
    third.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_is_noticed_and_recovers_past_its_stale_pid_file() {
    let home = Home::new();
    let options = home.options().await;
    let server = Server::start(options.clone()).await.unwrap();
    run(&server.url(), "create table kept as select 'yes' as answer").await;
    kill(Pid::from_raw(server.pid()), Signal::SIGKILL).unwrap();
    assert!(server.exited().await.contains("signal: 9"));
    drop(server);

    // The pid of the killed server now belongs to a living process: this one.
    let pid_file = home.path.join("pgdata/postmaster.pid");
    let stale = fs::read_to_string(&pid_file).unwrap();
    let rest = stale.split_once('\n').unwrap().1;
    fs::write(&pid_file, format!("{}\n{rest}", std::process::id())).unwrap();
    let server = Server::start(options).await.unwrap();
    assert!(!server.adopted());
    assert_eq!(query(&server.url(), "select answer from kept").await, "yes");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_cluster_of_another_major_version_is_refused_with_advice() {
    let home = Home::new();
    fs::create_dir(home.path.join("pgdata")).unwrap();
    fs::write(home.path.join("pgdata/PG_VERSION"), "9\n").unwrap();
    let error = Server::start(home.options().await).await.unwrap_err();
    assert!(
        matches!(error, PostgresError::OtherMajor { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("HOOKONCE_POSTGRES_BIN"));
}

#[tokio::test]
async fn a_half_made_cluster_is_replaced_and_foreign_files_are_not() {
    let home = Home::new();
    fs::create_dir_all(home.path.join("pgdata.new-1/base")).unwrap();
    Server::start(home.options().await)
        .await
        .unwrap()
        .stop()
        .await
        .unwrap();
    let left: Vec<_> = fs::read_dir(&home.path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().starts_with("pgdata.new")),
        "{left:?}"
    );

    let other = Home::new();
    fs::create_dir(other.path.join("pgdata")).unwrap();
    fs::write(other.path.join("pgdata/letter"), "mine").unwrap();
    assert!(matches!(
        Server::start(other.options().await).await,
        Err(PostgresError::NotACluster { .. })
    ));
    assert!(other.path.join("pgdata/letter").exists());
}

#[tokio::test]
async fn a_setting_that_the_server_refuses_is_reported_with_its_log() {
    let home = Home::new();
    let settings = vec![("shared_buffers".to_string(), "none".to_string())];
    let error = Server::start(ServerOptions {
        settings,
        ..home.options().await
    })
    .await
    .unwrap_err();
    assert!(
        matches!(&error, PostgresError::Died { tail, .. } if tail.contains("shared_buffers")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_long_data_folder_gets_a_short_socket_folder() {
    let home = Home::new();
    let deep = home.path.join("a".repeat(100));
    let server = Server::start(ServerOptions {
        data_dir: deep.clone(),
        ..home.options().await
    })
    .await
    .unwrap();
    let watchdog = Watchdog::over(&deep).unwrap();
    assert!(server.socket_dir.starts_with("/tmp") && !server.socket_dir.starts_with(&deep));
    assert_eq!(query(&server.url(), "select 'here'").await, "here");
    let socket_dir = server.socket_dir.clone();
    server.stop().await.unwrap();
    watchdog.release();
    fs::remove_dir_all(socket_dir).unwrap();
}

#[tokio::test]
async fn a_private_server_goes_with_its_folder_when_its_process_ends() {
    let home = tempfile::tempdir().unwrap();
    let data_dir = home.path().join("private");
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mine = home.path().join("mine");
    fs::create_dir(&mine).unwrap();
    fs::write(mine.join("letter"), "").unwrap();
    let refused = Server::start_private(binaries().await, &mine).await;
    assert!(
        matches!(refused, Err(PostgresError::NotEmpty { .. })),
        "{refused:?}"
    );
    let mut server = Server::start_private(binaries().await, &data_dir)
        .await
        .unwrap();
    assert_eq!(
        query(&server.url_of("postgres"), "select 'here'").await,
        "here"
    );
    // The end of the process would do this: the pipe closes, and no code of ours runs.
    let exited = server.exited();
    let watchdog = server.watchdog.take().unwrap();
    tokio::task::spawn_blocking(|| watchdog.release())
        .await
        .unwrap();
    exited.await;
    assert!(!data_dir.exists());
}
