//! The gateway against callers and upstreams that mean harm or know no better: what could be read
//! in two ways, what is slow, what is huge, and an upstream over TLS.

use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use reqwest::Method;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    app::*,
    gateway::{Shop, raw, spawn},
    ingress::stalled,
    process::{Place, free_port},
    upstream::*,
};

/// Where a proxy and its upstream could disagree about where a request ends, or what its headers
/// are, nothing is passed on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_read_in_two_ways_goes_nowhere() {
    let api = FakeApi::start(Vec::new()).await;
    let (app, shop) = spawn(&api, "").await;
    let smuggled = "0\r\n\r\nPOST /smuggled HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    for head in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        "content-length: 4\r\ncontent-length: 5\r\n",
        "content-length: 4, 4\r\n",
        "content-length: +4\r\n",
        "content-length: -1\r\n",
        "content-length: 0x4\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding : chunked\r\n",
        "content-length : 4\r\n",
        "x-folded: a\r\n content-length: 4\r\n",
        "x-bad name: a\r\ncontent-length: 4\r\n",
        "x-null: a\0b\r\ncontent-length: 4\r\n",
    ] {
        for (method, path) in [("POST", "/keyed"), ("PUT", "/passed")] {
            let text = format!(
                "{method} {path} HTTP/1.1\r\nhost: x\r\nidempotency-key: k\r\nconnection: close\r\n{head}\r\n{smuggled}"
            );
            let answer = raw(&shop, &text).await;
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
                "{head:?} {method}: {answer}"
            );
        }
    }
    assert_eq!(api.count(), 0, "{:?}", api.seen(0).await);
    assert_eq!(app.count("select count(*) from step").await, 0);
    // A target is a path whatever it looks like: it names no other host.
    for (target, expected) in [
        ("//evil.test/x", "//evil.test/x"),
        ("http://evil.test/y", "/y"),
        ("/@evil.test", "/@evil.test"),
    ] {
        let before = api.count();
        let answer = raw(
            &shop,
            &format!(
                "PUT {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            ),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 201"), "{target}: {answer}");
        let seen = &api.seen(before + 1).await[before];
        assert_eq!(
            (seen.target.as_str(), seen.header("host")),
            (expected, Some(api.address.to_string().as_str()))
        );
    }
    app.stop().await;
}

/// An answer with a length and chunks is one of the chunks: the length must not go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_can_be_read_in_two_ways_is_given_in_one() {
    let both = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n7\r\nabcdefg\r\n0\r\n\r\n";
    let api = FakeApi::start(vec![Act::Say(both.into()), Act::Say(both.into())]).await;
    let (app, shop) = spawn(&api, "").await;
    for request in [
        shop.order("k"),
        shop.order("k"),
        shop.request(Method::GET, "/x"),
    ] {
        let said = said(request).await;
        assert_eq!((said.status, said.text.as_str()), (200, "abcdefg"));
    }
    assert_eq!(api.count(), 2);
    app.stop().await;
}

/// Bodies that stop take all the room there is for bodies; small ones still get through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_stop_before_their_end_shut_no_caller_out() {
    let api = FakeApi::start(Vec::new()).await;
    let (app, shop) = spawn(&api, "body_max = \"1MiB\"\nbuffered_max = \"2MiB\"").await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(stalled(&shop.base, "POST /charges", 1 << 20, (1 << 20) - 4096).await);
    }
    for _ in 0..200 {
        held.push(stalled(&shop.base, "POST /charges", 4096, 100).await);
    }
    for round in 0..5 {
        let keys: Vec<String> = (0..20).map(|n| format!("{round}-{n}")).collect();
        let said = futures_util::future::join_all(keys.iter().map(|key| shop.charge(key))).await;
        assert!(said.iter().all(|said| said.status == 201), "{said:?}");
    }
    // A large one that comes whole, too.
    let whole = shop
        .request(Method::POST, "/charges")
        .header("idempotency-key", "large");
    assert_eq!(said(whole.body(vec![b'x'; 900_000])).await.status, 201);
    assert_eq!(api.count(), 101);
    drop(held);
    app.stop().await;
}

/// Of two large answers at once one has no room: it is passed on whole, and never replayed as less.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_kept_have_a_bound_together() {
    let half = "x".repeat(150_000);
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n".to_owned() + &half;
    let api = FakeApi::start(vec![
        Act::Parts(vec![head.clone(), half.clone()]),
        Act::Parts(vec![head, half]),
    ])
    .await;
    let (app, shop) = spawn(&api, "body_kept_max = \"400KiB\"\nanswers_max = \"400KiB\"").await;
    let mut begun = Vec::new();
    for key in ["one", "two"] {
        let mut response = shop.order(key).send().await.expect("a head");
        let mut bytes = 0;
        while bytes < 100_000 {
            bytes += response
                .chunk()
                .await
                .expect("a chunk")
                .expect("more")
                .len();
        }
        begun.push((response, bytes));
    }
    api.let_go(2);
    for (mut response, mut bytes) in begun {
        while let Some(piece) = response.chunk().await.expect("a chunk") {
            bytes += piece.len();
        }
        assert_eq!(bytes, 300_000);
    }
    let again = [shop.charge("one").await, shop.charge("two").await];
    let kept: Vec<_> = again
        .iter()
        .filter(|said| said.replayed() == "true")
        .collect();
    assert!(
        kept.len() == 1 && kept[0].text.len() == 300_000,
        "{} are kept",
        kept.len()
    );
    again
        .iter()
        .find(|said| said.replayed() != "true")
        .expect("another")
        .is_problem(409, "body-not-retained");
    assert_eq!(api.count(), 2);
    // The room is given back.
    assert_eq!(
        (
            shop.charge("three").await.replayed(),
            shop.charge("three").await.replayed()
        ),
        ("false", "true")
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_is_slow_or_gone_within_its_request_begins_nothing() {
    let api = FakeApi::start(Vec::new()).await;
    let (app, shop) = spawn(&api, "body_timeout = \"300ms\"\nidle_timeout = \"200ms\"").await;
    let head = "POST /charges HTTP/1.1\r\nhost: x\r\nidempotency-key: k\r\nconnection: close\r\ncontent-length: 10000000\r\n\r\n";
    let address = shop.base.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.expect("a connection");
    stream.write_all(head.as_bytes()).await.expect("written");
    let (mut reader, mut writer) = stream.into_split();
    // Never idle, and never done.
    let trickle = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::task::yield_now().await
        }
    });
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(LONG, reader.read_to_end(&mut answer))
        .await
        .expect("an answer");
    trickle.abort();
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("body-timeout"),
        "{answer}"
    );
    let silent = raw(&shop, head).await;
    assert!(
        silent.starts_with("HTTP/1.1 408") && silent.contains("body-timeout"),
        "{silent}"
    );
    let mut gone = TcpStream::connect(&address).await.expect("a connection");
    gone.write_all((head.to_owned() + "half").as_bytes())
        .await
        .expect("written");
    drop(gone);
    assert_eq!(said(shop.order("other")).await.status, 201);
    assert_eq!(
        app.count("select count(*) from step where step = 'k'")
            .await,
        0
    );
    app.stop().await;
}

/// A caller that takes nothing neither holds the record up nor has the answer pile up for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_takes_nothing_does_not_hold_up_the_record() {
    let large = "y".repeat(8 << 20);
    let api = FakeApi::start(vec![Act::status(200, "", &large)]).await;
    let (app, shop) = spawn(
        &api,
        "body_kept_max = \"16MiB\"\nanswers_max = \"16MiB\"\nidle_timeout = \"500ms\"",
    )
    .await;
    let mut stream = TcpStream::connect(shop.base.trim_start_matches("http://"))
        .await
        .expect("a connection");
    let body = r#"{"amount":5}"#;
    let head = "POST /charges?a=1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer shop\r\nidempotency-key: k\r\ncontent-type: application/json\r\n";
    let text = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.expect("written");
    app.until("select count(*) from step where state = 'done'", 1)
        .await;
    let again = shop.charge("k").await;
    assert_eq!(
        (again.replayed(), again.text.len(), api.count()),
        ("true", large.len(), 1)
    );
    drop(stream);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_and_callers_have_keys_of_their_own() {
    let (pay, mail) = (
        FakeApi::start(Vec::new()).await,
        FakeApi::start(Vec::new()).await,
    );
    let other = mail.gateway("").replace("gateways.pay", "gateways.mail");
    let app = spawn_app(&(config(&[]) + &pay.gateway("caller = \"x-account\"") + &other)).await;
    let (to_pay, to_mail) = (
        Shop::of(&app),
        Shop::at(format!("http://{}", app.app.gateways["mail"])),
    );
    let of = |shop: &Shop, account: &str| said(shop.order("k").header("x-account", account));
    assert_eq!(
        (
            of(&to_pay, "a").await.replayed(),
            of(&to_pay, "b").await.replayed()
        ),
        ("false", "false")
    );
    // The token changes and the account stays.
    let renewed = to_pay
        .order("k")
        .header("x-account", "a")
        .build()
        .expect("a request");
    let mut renewed = renewed;
    renewed
        .headers_mut()
        .insert("authorization", "Bearer renewed".parse().expect("a value"));
    let again = app.http.execute(renewed).await.expect("an answer");
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(to_mail.charge("k").await.replayed(), "false");
    assert_eq!((pay.count(), mail.count()), (2, 1));
    app.stop().await;
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    _folder: tempfile::TempDir,
    file: std::path::PathBuf,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("names");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
            .expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, issuer.pem()).expect("written");
        Self {
            issuer,
            _folder: folder,
            file,
        }
    }

    /// TLS in front of an upstream, for this name.
    async fn front(&self, name: &str, upstream: std::net::SocketAddr) -> std::net::SocketAddr {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("names");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions");
        let config = config
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let (Ok(mut tls), Ok(mut plain)) = (
                        acceptor.accept(stream).await,
                        TcpStream::connect(upstream).await,
                    ) {
                        let _ = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
                    }
                });
            }
        });
        address
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_over_tls_is_verified_before_anything_is_sent() {
    let api = FakeApi::start(Vec::new()).await;
    let authority = Authority::new();
    let front = authority.front("localhost", api.address).await;
    let ca = format!("upstream_ca = {:?}", authority.file);
    let gateway = |host: &str, more: &str| {
        config(&[])
            + &gateway_config(front, more).replace(
                &format!("http://{front}"),
                &format!("https://{host}:{}", front.port()),
            )
    };
    let app = spawn_app(&gateway("localhost", &ca)).await;
    let shop = Shop::of(&app);
    assert_eq!(
        (
            shop.charge("k").await.replayed(),
            shop.charge("k").await.replayed()
        ),
        ("false", "true")
    );
    assert_eq!(
        api.seen(1).await[0].header("host"),
        Some(format!("localhost:{}", front.port()).as_str())
    );
    app.stop().await;
    // One that nobody knows, and one of another name: nothing is sent, and the key is free.
    for (host, more) in [("localhost", String::new()), ("127.0.0.1", ca)] {
        let app = spawn_app(&gateway(host, &more)).await;
        let refused = Shop::of(&app).charge("k").await;
        refused.is_problem(503, "upstream-unreachable");
        assert!(refused.text.contains("certificate"), "{refused:?}");
        app.stop().await;
    }
    assert_eq!(api.count(), 1);
}

/// What callers send as secrets stays out of the log, however much is logged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_logs_no_secrets() {
    let api = FakeApi::start(vec![Act::SayAndClose(String::new())]).await;
    let port = free_port();
    let text = "[ingress]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"127.0.0.1:0\"\n[log]\nfilter = \"trace\"\n".to_owned()
        + &api.gateway("").replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let place = Place::new(&text).await;
    let served = place.serve().await;
    let shop = Shop::at(format!("http://127.0.0.1:{port}"));
    let secret = |key: &str| {
        let request = shop
            .request(Method::POST, "/charges")
            .header("idempotency-key", key);
        said(
            request
                .header("cookie", "s3cret-cookie")
                .body("s3cret-body"),
        )
    };
    secret("k").await.is_problem(409, "outcome-unknown");
    assert_eq!(secret("l").await.status, 201);
    served.signal("TERM");
    assert!(served.ended().await.success());
    let log = place.log();
    assert!(log.contains("DEBUG"), "little was logged: {log}");
    for secret in ["Bearer shop", "s3cret-cookie", "s3cret-body"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "a secret was logged");
    }
}
