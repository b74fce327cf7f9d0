//! Keys fetched from providers: once for many requests, not again for forged ones, and nothing is
//! trusted for want of one.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicI64, AtomicUsize, Ordering},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::future::BoxFuture;
use hookonce::{
    clock::Clock,
    intake::keyring::{Fetch, HttpFetch, Missing, read},
    node::application::{Application, Parts},
    tail::Tail,
};
use reqwest::Method;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::app::*;

const TOPIC: &str = "arn:aws:sns:us-west-2:123456789012:MyTopic";
const MESSAGE: &str = include_str!("../keys/sns-version-1.json");
const CERTIFICATE: &str = include_str!("../keys/rsa-1-certificate.pem");
/// When the certificate is valid.
const NOW: i64 = 1_800_000_000;

/// The provider's host, as the test wants it.
struct Host {
    answer: Mutex<Result<Vec<u8>, Missing>>,
    asked: Mutex<Vec<String>>,
    /// A fetch takes one.
    gate: Semaphore,
    waiting: AtomicUsize,
}

struct ToHost(Arc<Host>);

impl Fetch for ToHost {
    fn fetch(
        &self,
        url: String,
        _: Option<SecretString>,
    ) -> BoxFuture<'static, Result<Vec<u8>, Missing>> {
        let host = self.0.clone();
        Box::pin(async move {
            host.waiting.fetch_add(1, Ordering::SeqCst);
            host.gate.acquire().await.expect("a gate").forget();
            host.asked.lock().expect("a list").push(url);
            host.answer.lock().expect("an answer").clone()
        })
    }
}

async fn spawn(open: usize) -> (TestApp, Arc<Host>) {
    let config = format!(
        "{}[sources.sns]\nprovider = \"aws-sns\"\nsecret = {TOPIC:?}\n[sources.other]\nprovider = \"aws-sns\"\nsecret = \"{TOPIC}2\"\n",
        config(&[])
    );
    spawn_with_host(&config, CERTIFICATE, open).await
}

/// The service, and the host that it fetches keys from: so many times, and this is the answer.
async fn spawn_with_host(config: &str, answer: &str, open: usize) -> (TestApp, Arc<Host>) {
    let answer = Mutex::new(Ok(answer.as_bytes().to_vec()));
    let host = Arc::new(Host {
        answer,
        asked: Mutex::default(),
        gate: Semaphore::new(open),
        waiting: AtomicUsize::new(0),
    });
    let database_url = database().await;
    let tail = Tail::new(16);
    let parts = Parts {
        settings: settings(config),
        database_url: database_url.clone(),
        token: TOKEN.into(),
        clock: Clock::Fixed(Arc::new(AtomicI64::new(NOW * 1000))),
        tail: tail.clone(),
        fetch: Some(Arc::new(ToHost(host.clone()))),
        announce: Box::new(drop),
        background: false,
    };
    let app = Application::start(parts).await.expect("the service");
    (TestApp::of(app, database_url, tail), host)
}

async fn post(app: &TestApp, body: &str) -> Said {
    app.post(
        "/hooks/sns",
        &[("content-type".into(), "text/plain; charset=UTF-8".into())],
        body.to_owned(),
    )
    .await
}

fn named(certificate: &str) -> String {
    MESSAGE.replace("f3ecfb7224c7233fe7bb5f59f96de52f", certificate)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_fetch_a_certificate_once() {
    let (app, host) = spawn(0).await;
    let posts = futures_util::future::join_all((0..20).map(|_| post(&app, MESSAGE)));
    let (said, ()) = tokio::join!(posts, async {
        while host.waiting.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        host.gate.add_permits(100);
    });
    assert_eq!(
        said.iter().filter(|said| said.word() == "accepted").count(),
        1
    );
    assert_eq!(host.asked.lock().expect("a list").len(), 1);
    assert_eq!(
        post(&app, &MESSAGE.replace("Hello", "Hullo")).await.status,
        401
    );
    assert_eq!(
        host.asked.lock().expect("a list").len(),
        1,
        "a forged one asks for nothing that was asked for just now"
    );
    assert_eq!(app.count("select count(*) from event").await, 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_fetched_is_neither_trusted_nor_lost() {
    let (app, host) = spawn(1000).await;
    *host.answer.lock().expect("an answer") = Err(Missing::Unavailable);
    for _ in 0..10 {
        let said = post(&app, MESSAGE).await;
        assert_eq!(
            (said.status, said.headers.contains_key("retry-after")),
            (503, true),
            "the provider is to send it again"
        );
    }
    assert_eq!(
        host.asked.lock().expect("a list").len(),
        1,
        "and its host is left alone meanwhile"
    );
    *host.answer.lock().expect("an answer") = Err(Missing::NotThere);
    assert_eq!(
        post(&app, &named("1")).await.status,
        401,
        "a certificate that is not there was made up"
    );
    *host.answer.lock().expect("an answer") = Ok(b"no certificate".to_vec());
    assert_eq!(post(&app, &named("2")).await.status, 401);
    let before = host.asked.lock().expect("a list").len();
    let mut refused = Vec::new();
    for n in 0..200 {
        refused.push(post(&app, &named(&format!("flood{n}"))).await.status);
    }
    let asked = host.asked.lock().expect("a list").len() - before;
    assert!(asked <= 61, "a flood of made-up URLs is held back: {asked}");
    assert!(
        refused.iter().all(|status| [401, 503].contains(status)),
        "{refused:?}"
    );
    assert_eq!(app.count("select count(*) from event_key").await, 0);
    app.stop().await;
}

/// The newest rejection: its reason, what its last check found, its diagnoses.
async fn explained(app: &TestApp) -> (String, String, Vec<String>) {
    let list = app
        .api(Method::GET, "/rejections?limit=1", None)
        .await
        .json();
    let id = list["items"][0]["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{list}"))
        .to_owned();
    let said = app
        .api(Method::GET, &format!("/rejections/{id}/explain"), None)
        .await
        .json();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let codes = said["diagnoses"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|found| text(&found["code"]))
        .collect();
    (
        text(&said["reason"]),
        text(
            &said["checks"]
                .as_array()
                .and_then(|checks| checks.last())
                .expect("checks")["found"],
        ),
        codes,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_explained_with_the_keys_that_were_tried() {
    let (app, host) = spawn(1000).await;
    let certificate = "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem";
    *host.answer.lock().expect("an answer") = Err(Missing::Unavailable);
    assert_eq!(post(&app, MESSAGE).await.status, 503);
    let (reason, found, diagnoses) = explained(&app).await;
    assert_eq!(
        (reason.as_str(), diagnoses),
        ("key_unavailable", vec!["key_unavailable".to_owned()])
    );
    assert!(
        found.contains(&format!("no key of {certificate} is here"))
            && found.contains("1 secret tried"),
        "{found}"
    );

    *host.answer.lock().expect("an answer") = Ok(CERTIFICATE.as_bytes().to_vec());
    assert_eq!(post(&app, &named("1")).await.word(), "accepted");
    assert_eq!(
        post(&app, &named("1").replace("Hello", "Hullo"))
            .await
            .status,
        401
    );
    let (reason, found, diagnoses) = explained(&app).await;
    assert_eq!((reason.as_str(), diagnoses.len()), ("no_match", 0));
    let tried = format!(
        "the keys of {}: RSA; 1 secret tried",
        certificate.replace("f3ecfb7224c7233fe7bb5f59f96de52f", "1")
    );
    assert!(found.contains(&tried), "{found}");

    let headers = [("content-type".into(), "text/plain; charset=UTF-8".into())];
    assert_eq!(
        app.post("/hooks/other", &headers, named("1")).await.status,
        401
    );
    assert_eq!(
        explained(&app).await.2,
        ["other_source"],
        "the topic of another source"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_client_is_bounded_and_follows_nothing() {
    let replies = vec![
        Reply::Status(200),
        Reply::With(302, "location", "http://127.0.0.1:1/"),
        Reply::Status(404),
        Reply::Status(500),
        Reply::Status(429),
    ];
    let handler = Handler::start(replies).await;
    let get = || {
        read(
            reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .expect("a client")
                .get(handler.url()),
        )
    };
    let _ = client();
    assert_eq!(get().await, Ok(b"ok".to_vec()));
    assert_eq!(get().await, Err(Missing::NotThere), "a redirect is no key");
    assert_eq!(get().await, Err(Missing::NotThere));
    assert_eq!(get().await, Err(Missing::Unavailable));
    assert_eq!(get().await, Err(Missing::Unavailable));
    let asked = handler.count();
    let plain = HttpFetch::new(None)
        .expect("a client")
        .fetch(handler.url(), None)
        .await;
    assert_eq!(
        (plain, handler.count()),
        (Err(Missing::Unavailable), asked),
        "nothing is fetched without TLS"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_words_of_plaids_at_another_time_are_another_event() {
    let random = SystemRandom::new();
    let document =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random)
            .expect("the key");
    let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let (x, y) = (
        text(&pair.public_key().as_ref()[1..33]),
        text(&pair.public_key().as_ref()[33..]),
    );
    let key = json!({ "key": { "alg": "ES256", "crv": "P-256", "kid": "k-1", "kty": "EC", "use": "sig", "x": x, "y": y } });
    let handler = Handler::start(Vec::new()).await;
    let config = config(&[("h", &handler.url(), "")])
        + "[sources.plaid]\nprovider = \"plaid\"\nsecret = \"client-1:s3cret\"\n[[routes]]\nsource = \"plaid\"\ndestination = \"h\"\n";
    let (app, _) = spawn_with_host(&config, &key.to_string(), 1).await;
    let body = r#"{"webhook_type":"TRANSACTIONS","webhook_code":"SYNC_UPDATES_AVAILABLE","item_id":"i-1"}"#;
    let signed = |iat: i64| {
        let digest = hookonce::event::BodyDigest::of(body.as_bytes()).0;
        let header = text(
            json!({ "alg": "ES256", "kid": "k-1", "typ": "JWT" })
                .to_string()
                .as_bytes(),
        );
        let claims = text(
            json!({ "iat": iat, "request_body_sha256": hex::encode(digest) })
                .to_string()
                .as_bytes(),
        );
        let signature = pair
            .sign(&random, format!("{header}.{claims}").as_bytes())
            .expect("a signature");
        vec![(
            "plaid-verification".to_owned(),
            format!("{header}.{claims}.{}", text(signature.as_ref())),
        )]
    };
    let first = signed(NOW - 60);
    let mut said = Vec::new();
    for headers in [&first, &first, &signed(NOW)] {
        said.push(app.post("/hooks/plaid", headers, body).await.word());
    }
    assert_eq!(said, ["accepted", "duplicate", "accepted"]);
    assert!(
        handler
            .received(2)
            .await
            .iter()
            .all(|request| request.body == body.as_bytes())
    );
    app.stop().await;
    assert_eq!(handler.count(), 2);
}
