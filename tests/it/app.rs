//! Spawns the service on port 0 with a database of its own, made from a migrated template in one
//! private cluster (or at DATABASE_URL), and a real HTTP handler. Nothing sleeps: tests wait for
//! requests and answers.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use hookonce::{
    clock::Clock,
    node::application::{Addresses, Application, Parts},
    postgres,
    settings::load,
    store::{link, schema},
    tail::Tail,
};
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::sync::{Notify, OnceCell, watch};
use uuid::Uuid;

/// What no test should have to wait for.
pub const LONG: Duration = Duration::from_secs(30);
pub const TOKEN: &str = "test-token";
pub const GITHUB_SECRET: &str = "It's a Secret to Everybody";
pub const STRIPE_SECRET: &str = "whsec_test_secret";

/// Unix seconds.
pub fn now_unix() -> i64 {
    Clock::System.unix_ms() / 1000
}

/// A client for plain HTTP that goes through no proxy.
pub fn client() -> reqwest::Client {
    // It wants one all the same; whoever comes second finds it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client")
}

static SERVER: OnceCell<String> = OnceCell::const_new();
static DATABASES: AtomicUsize = AtomicUsize::new(0);

/// The URL of the server that tests share, with its template database made.
async fn server() -> &'static str {
    SERVER
        .get_or_init(|| async {
            let url = match std::env::var("DATABASE_URL") {
                Ok(url) if !url.is_empty() => {
                    drop_databases_at_exit(&url);
                    url
                }
                _ => private_server().await,
            };
            let template = with_database(&url, &template_name());
            let mut connection = PgConnection::connect(&url)
                .await
                .expect("the tests' server");
            run(
                &mut connection,
                format!("drop database if exists {}", template_name()),
            )
            .await;
            run(
                &mut connection,
                format!("create database {}", template_name()),
            )
            .await;
            let pool = schema::pool(&link::options(&template).expect("a URL"), 2);
            schema::migrate(&pool).await.expect("the migrations");
            pool.close().await;
            url
        })
        .await
}

/// PostgreSQL's programs, fetched where there are none.
pub async fn binaries() -> postgres::Binaries {
    let data_dir = postgres::default_data_dir().expect("a data folder");
    match postgres::Binaries::find(None, &data_dir) {
        Ok(binaries) => binaries,
        Err(_) => {
            eprintln!(
                "no PostgreSQL is installed: fetching one into {}",
                data_dir.display()
            );
            postgres::install(&data_dir, &mut |progress| eprintln!("{progress:?}"))
                .await
                .expect("PostgreSQL")
        }
    }
}

/// A server of this test run's own; its watchdog stops it and removes its folder when this process
/// ends.
async fn private_server() -> String {
    let binaries = binaries().await;
    let folder = std::env::temp_dir().join(format!("hookonce-tests-{}", std::process::id()));
    // Its own runtime outlives the test that happens to come first.
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let server = runtime
            .block_on(postgres::Server::start_private(binaries, &folder))
            .expect("a private PostgreSQL");
        std::mem::forget(runtime);
        server
    });
    let server = tokio::task::spawn_blocking(|| server.join().expect("the server's thread"))
        .await
        .expect("the server");
    let url = server.url_of("postgres");
    std::mem::forget(server);
    url
}

fn template_name() -> String {
    format!("hookonce_template_{}", std::process::id())
}

fn with_database(url: &str, database: &str) -> String {
    let mut url: url::Url = url.parse().expect("a URL");
    url.set_path(database);
    url.into()
}

async fn run(connection: &mut PgConnection, sql: String) {
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .execute(connection)
        .await
        .expect("SQL");
}

/// A new database with the current schema.
pub async fn database() -> String {
    let server = server().await;
    database_from(server, &template_name()).await
}

/// A new database with nothing in it.
pub async fn empty_database() -> String {
    database_from(server().await, "template1").await
}

async fn database_from(server: &str, template: &str) -> String {
    let name = format!(
        "hookonce_test_{}_{}",
        std::process::id(),
        DATABASES.fetch_add(1, Ordering::Relaxed)
    );
    let mut connection = PgConnection::connect(server)
        .await
        .expect("the tests' server");
    run(
        &mut connection,
        format!("create database {name} template {template}"),
    )
    .await;
    with_database(server, &name)
}

/// A server that the run did not start keeps nothing of it: its databases go when the process ends.
fn drop_databases_at_exit(url: &str) {
    static URL: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    extern "C" fn drop_databases() {
        let url = URL.get().expect("set before");
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let mut connection = PgConnection::connect(url).await.expect("the tests' server");
                let made = (0..DATABASES.load(Ordering::Relaxed))
                    .map(|n| format!("hookonce_test_{}_{n}", std::process::id()));
                for name in made.chain([template_name()]) {
                    run(
                        &mut connection,
                        format!("drop database if exists {name} with (force)"),
                    )
                    .await;
                }
            });
        });
        if dropped.join().is_err() {
            eprintln!(
                "databases hookonce_test_{}_* were left behind",
                std::process::id()
            );
        }
    }
    if URL.set(url.to_owned()).is_ok() {
        // SAFETY: the handler takes no arguments and does not unwind.
        assert_eq!(unsafe { libc::atexit(drop_databases) }, 0);
    }
}

/// One request as the handler got it.
#[derive(Clone, Debug)]
pub struct Received {
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: Instant,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What the handler answers.
#[derive(Clone, Debug)]
pub enum Reply {
    Status(u16),
    With(u16, &'static str, &'static str),
    /// No answer until `release`.
    Hang,
}

#[derive(Clone)]
pub struct Handler {
    pub address: SocketAddr,
    state: Arc<HandlerState>,
}

struct HandlerState {
    replies: Mutex<Vec<Reply>>,
    received: watch::Sender<Vec<Received>>,
    release: Notify,
}

impl Handler {
    /// Answers with the replies in turn, then with 200 for ever.
    pub async fn start(replies: Vec<Reply>) -> Self {
        let state = Arc::new(HandlerState {
            replies: Mutex::new(replies),
            received: watch::channel(Vec::new()).0,
            release: Notify::new(),
        });
        let data = web::Data::from(state.clone());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .app_data(web::PayloadConfig::new(64 << 20))
                .default_service(web::to(handle))
        })
        .workers(1)
        .disable_signals()
        .listen(listener)
        .expect("a server")
        .run();
        tokio::spawn(server);
        Self { address, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}/webhooks", self.address)
    }

    /// Waits until so many requests have come and returns them all.
    pub async fn received(&self, count: usize) -> Vec<Received> {
        let mut receiver = self.state.received.subscribe();
        let received =
            tokio::time::timeout(LONG, receiver.wait_for(|received| received.len() >= count)).await;
        received
            .unwrap_or_else(|_| panic!("{count} requests did not come in time"))
            .expect("the handler")
            .clone()
    }

    pub fn count(&self) -> usize {
        self.state.received.borrow().len()
    }

    pub fn release(&self) {
        self.state.release.notify_waiters();
    }
}

async fn handle(
    request: HttpRequest,
    body: web::Bytes,
    state: web::Data<HandlerState>,
) -> HttpResponse {
    let headers = request
        .headers()
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                value.as_bytes().iter().map(|b| char::from(*b)).collect(),
            )
        })
        .collect();
    let reply = {
        let mut replies = state.replies.lock().expect("replies");
        if replies.is_empty() {
            Reply::Status(200)
        } else {
            replies.remove(0)
        }
    };
    let released = state.release.notified();
    state.received.send_modify(|received| {
        received.push(Received {
            headers,
            body: body.to_vec(),
            at: Instant::now(),
        })
    });
    let status =
        |code| HttpResponse::build(actix_web::http::StatusCode::from_u16(code).expect("a status"));
    match reply {
        Reply::Status(code) => status(code).body("ok"),
        Reply::With(code, name, value) => status(code)
            .insert_header((name, value))
            .body("see the header"),
        Reply::Hang => {
            released.await;
            HttpResponse::Ok().finish()
        }
    }
}

/// The service under test. A test ends it with `stop`, or with `stop_with_open` where deliveries
/// stay behind.
pub struct TestApp {
    pub app: Application,
    pub url: String,
    pub admin: String,
    pub database_url: String,
    pub pool: PgPool,
    pub http: reqwest::Client,
    tail: Tail,
    running: Running,
}

/// Fails the test that drops its service without a stop: what such a service does afterwards is
/// seen by nobody.
struct Running(bool);

impl Drop for Running {
    fn drop(&mut self) {
        if self.0 && !std::thread::panicking() {
            panic!("a test dropped its service without a stop");
        }
    }
}

const SOURCES: &str = r#"
[ingress]
bind = "127.0.0.1:0"
[admin]
bind = "127.0.0.1:0"
[relay]
poll_interval = "20ms"
[sources.github]
provider = "github"
secret = "It's a Secret to Everybody"
[sources.stripe]
provider = "stripe"
secret = "whsec_test_secret"
"#;

/// Settings for a service whose sources go to these destinations.
pub fn config(destinations: &[(&str, &str, &str)]) -> String {
    let mut config = SOURCES.to_owned();
    for (name, url, more) in destinations {
        config += &format!("[destinations.{name}]\nurl = {url:?}\n{more}\n");
    }
    for (name, ..) in destinations {
        for source in ["github", "stripe"] {
            config += &format!("[[routes]]\nsource = {source:?}\ndestination = {name:?}\n");
        }
    }
    config
}

pub fn settings(config: &str) -> hookonce::settings::Settings {
    let file = tempfile::Builder::new()
        .suffix(".toml")
        .tempfile()
        .expect("a file");
    std::fs::write(file.path(), config).expect("the file");
    let inputs = load::Inputs {
        file: Some(file.path().into()),
        environment: Vec::new(),
        overlay: None,
    };
    load::load(&inputs).expect("valid settings").settings
}

pub async fn spawn_app(config: &str) -> TestApp {
    spawn_on(config, database().await).await
}

pub async fn spawn_on(config: &str, database_url: String) -> TestApp {
    spawn_with(config, database_url, Clock::System).await
}

/// The service with a clock that the test holds.
pub async fn spawn_with(config: &str, database_url: String, clock: Clock) -> TestApp {
    spawn_announced(config, database_url, clock, Box::new(drop)).await
}

/// The service, which tells `announce` where its admin port is before it is ready.
pub async fn spawn_announced(
    config: &str,
    database_url: String,
    clock: Clock,
    announce: Box<dyn FnOnce(Addresses) + Send>,
) -> TestApp {
    let tail = Tail::new(1024);
    let parts = Parts {
        settings: settings(config),
        database_url: database_url.clone(),
        token: TOKEN.into(),
        clock,
        tail: tail.clone(),
        fetch: None,
        announce,
        background: true,
    };
    let app = Application::start(parts).await.expect("the service");
    TestApp::of(app, database_url, tail)
}

/// What the service said.
#[derive(Debug)]
pub struct Said {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

/// Sends a request and reads its answer.
pub async fn said(request: reqwest::RequestBuilder) -> Said {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Said {
        status,
        headers,
        text: response.text().await.expect("a body"),
    }
}

impl Said {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub fn word(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()["status"].as_str().expect("a status").to_owned()
    }

    pub fn event(&self) -> Uuid {
        self.json()["event"]
            .as_str()
            .expect("an event")
            .parse()
            .expect("a UUID")
    }
}

pub fn github_headers(secret: &str, id: &str, body: &[u8]) -> Vec<(String, String)> {
    use hmac::{KeyInit as _, Mac as _};
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).expect("a key");
    mac.update(body);
    let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
    [
        ("content-type", "application/json"),
        ("x-github-event", "push"),
        ("x-github-delivery", id),
        ("x-hub-signature-256", &signature),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

pub fn stripe_headers(secret: &str, unix: i64, body: &[u8]) -> Vec<(String, String)> {
    use hmac::{KeyInit as _, Mac as _};
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).expect("a key");
    mac.update(format!("{unix}.").as_bytes());
    mac.update(body);
    let signature = format!("t={unix},v1={}", hex::encode(mac.finalize().into_bytes()));
    vec![
        (
            "content-type".into(),
            "application/json; charset=utf-8".into(),
        ),
        ("stripe-signature".into(), signature),
    ]
}

impl TestApp {
    /// A service that runs already, with its database and the tail that it was started with.
    pub fn of(app: Application, database_url: String, tail: Tail) -> Self {
        Self {
            url: format!("http://{}", app.public),
            admin: format!("http://{}", app.admin),
            pool: PgPool::connect_lazy(&database_url).expect("a URL"),
            app,
            database_url,
            http: client(),
            tail,
            running: Running(true),
        }
    }

    pub async fn post(
        &self,
        path: &str,
        headers: &[(String, String)],
        body: impl Into<reqwest::Body>,
    ) -> Said {
        let mut request = self.http.post(format!("{}{path}", self.url)).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        said(request).await
    }

    pub async fn github(&self, id: &str, body: &str) -> Said {
        self.post(
            "/hooks/github",
            &github_headers(GITHUB_SECRET, id, body.as_bytes()),
            body.to_owned(),
        )
        .await
    }

    pub async fn stripe(&self, id: &str, event_type: &str) -> Said {
        let body = format!(r#"{{"id":"{id}","object":"event","type":"{event_type}"}}"#);
        self.post(
            "/hooks/stripe",
            &stripe_headers(STRIPE_SECRET, now_unix(), body.as_bytes()),
            body,
        )
        .await
    }

    pub async fn api(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Said {
        let mut request = self
            .http
            .request(method, format!("{}/api/v1{path}", self.admin))
            .bearer_auth(TOKEN);
        if let Some(body) = body {
            request = request.json(&body);
        }
        said(request).await
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql)
            .fetch_one(&self.pool)
            .await
            .expect("a count")
    }

    /// Waits until the database gives this count. It asks again whenever the service tells its tail
    /// that something happened; what the tail does not tell is found by asking every 20 ms.
    pub async fn until(&self, sql: &'static str, count: i64) {
        if !self.becomes(sql, count).await {
            panic!("{sql} is {} and not {count}", self.count(sql).await);
        }
    }

    async fn becomes(&self, sql: &'static str, count: i64) -> bool {
        let mut lines = self.tail.read();
        let asked = async {
            while self.count(sql).await != count {
                let _ = tokio::time::timeout(Duration::from_millis(20), lines.recv()).await;
            }
        };
        tokio::time::timeout(LONG, asked).await.is_ok()
    }

    /// Ends the service, after all deliveries have ended.
    pub async fn stop(self) {
        self.stop_with_open(0).await;
    }

    /// Ends the service where so many deliveries are to stay open.
    pub async fn stop_with_open(self, open: i64) {
        let as_expected = self.becomes("select count(*) from outbox", open).await;
        let found = self.count("select count(*) from outbox").await;
        self.end().await;
        assert!(as_expected, "{found} deliveries are open, not {open}");
    }

    /// Ends the service whatever is open: its database may be gone.
    pub async fn end(mut self) {
        self.running.0 = false;
        self.app.stop().await;
    }
}
