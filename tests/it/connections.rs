//! What one connection may do to a port, and many: requests without an end, what can be read in two
//! ways, more of them than there is room for.

use std::{net::SocketAddr, time::Duration};

use reqwest::Method;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{app::*, upstream::*};

/// All four kinds of ports, with a name each.
fn ports(app: &TestApp) -> Vec<(&'static str, SocketAddr)> {
    let app = &app.app;
    vec![
        ("public", app.public),
        ("admin", app.admin),
        ("ledger", app.ledger.expect("a port")),
        ("gateway", app.gateways["pay"]),
    ]
}

async fn spawn(api: &FakeApi, ingress: &str) -> TestApp {
    let config = config(&[]).replace("[ingress]", &format!("[ingress]\n{ingress}"));
    spawn_app(&format!(
        "{config}\n[ledger]\nbind = \"127.0.0.1:0\"\n{}",
        api.gateway("")
    ))
    .await
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("a connection")
}

async fn send(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = connect(address).await;
    stream.write_all(text.as_bytes()).await.expect("written");
    stream
}

/// What comes until the other side closes.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // Closed in the middle of what we send, it may end with a reset.
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut all))
        .await
        .expect("the end");
    String::from_utf8_lossy(&all).into_owned()
}

/// A body that never ends, on every port, whatever it is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_an_end_is_answered_and_closed() {
    let api = FakeApi::start(Vec::new()).await;
    let app = spawn(&api, "body_max = \"1KiB\"\nbody_timeout = \"2s\"").await;
    let bearer = format!("authorization: Bearer {TOKEN}\r\n");
    let announced = format!("{bearer}content-length: 4096\r\n");
    let mut cases = Vec::new();
    for (port, address) in ports(&app) {
        for (method, path, status) in [("GET", "/livez", 200), ("POST", "/none", 404)] {
            // The gateway's paths are all the upstream's.
            if port != "gateway" {
                cases.push((port, address, method, path, "", status));
            }
        }
    }
    let [public, admin, ledger, gateway] = ports(&app).try_into().expect("four");
    for (method, path, head, status) in [
        ("POST", "/livez", "", 405),
        ("POST", "/hooks/none", "", 404),
        ("PUT", "/hooks/github", "", 405),
        ("POST", "/hooks/github", "content-encoding: br\r\n", 415),
        ("POST", "/hooks/github", announced.as_str(), 413),
        ("POST", "/hooks/github", "", 408),
    ] {
        cases.push((public.0, public.1, method, path, head, status));
    }
    for (port, address) in [admin, ledger] {
        cases.push((
            port,
            address,
            "POST",
            "/v1/runs/r/steps/s/claim",
            bearer.as_str(),
            400,
        ));
        cases.push((port, address, "POST", "/v1/runs/r/steps/s/claim", "", 401));
    }
    cases.push((gateway.0, gateway.1, "TRACE", "/x", "", 405));
    cases.push((
        gateway.0,
        gateway.1,
        "POST",
        "/x",
        "idempotency-key: k\r\nupgrade: x\r\n",
        501,
    ));
    let tries = cases.iter().map(|(port, address, method, path, head, status)| async move {
        let length = if head.contains("content-length") { "" } else { "transfer-encoding: chunked\r\n" };
        let text =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{head}{length}\r\n5\r\nhello\r\n");
        let answer = until_closed(&mut send(*address, &text).await).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{port} {method} {path} {head:?}: {answer}");
        // A body that breaks off at the time's end has nobody left to be told that.
        assert!(*status == 400 || answer.contains("connection: close"), "{port} {method} {path} {head:?}: {answer}");
    });
    futures_util::future::join_all(tries).await;
    assert_eq!(api.count(), 0);
    app.stop().await;
}

/// A small body that comes whole costs a connection nothing, whatever it is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_request_that_has_come_whole_keeps_its_connection() {
    let api = FakeApi::start(Vec::new()).await;
    let app = spawn(&api, "keep_alive = \"1s\"").await;
    let chunked = "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let text = format!(
        "POST /hooks/none HTTP/1.1\r\nhost: x\r\n{chunked}GET /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
    );
    let answers = until_closed(&mut send(app.app.public, &text).await).await;
    assert!(
        answers.starts_with("HTTP/1.1 404") && answers.contains("HTTP/1.1 200"),
        "{answers}"
    );
    app.stop().await;
}

/// The time of a head counts for each, not only for a connection's first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_head_is_given_up_also_after_a_whole_one() {
    let api = FakeApi::start(Vec::new()).await;
    let app = spawn(&api, "head_timeout = \"500ms\"").await;
    for (port, address) in ports(&app) {
        let text = format!(
            "GET /livez HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
        );
        let answers =
            until_closed(&mut send(address, &format!("{text}GET /livez HTTP/1.1\r\n")).await).await;
        assert_eq!(
            answers.matches("HTTP/1.1 2").count(),
            1,
            "{port}: {answers}"
        );
    }
    app.stop().await;
}

/// Empty lines are no begin of a request: the time between requests runs on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_lines_after_a_request_hold_no_connection() {
    let api = FakeApi::start(Vec::new()).await;
    let app = spawn(&api, "keep_alive = \"1s\"\nhead_timeout = \"1s\"").await;
    let request = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let cases = ports(&app).into_iter().flat_map(|(port, address)| {
        [["", "\r\n"], ["\r\n", "\r\n"], ["\r", "\n"]].map(|more| (port, address, more))
    });
    let tries = cases.map(|(port, address, [with, after])| async move {
        let mut stream = send(address, &format!("{request}{with}")).await;
        let mut answer = [0; 1024];
        assert!(
            stream.read(&mut answer).await.expect("an answer") > 0,
            "{port}"
        );
        stream.write_all(after.as_bytes()).await.expect("written");
        until_closed(&mut stream).await;
    });
    futures_util::future::join_all(tries).await;
    // Before a request they are passed over.
    let answer =
        until_closed(&mut send(app.app.public, &format!("\r\n{request}\r\n{request}")).await).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    app.stop().await;
}

/// Who asks and takes no answers is not read any further.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_takes_do_not_pile_up() {
    let app = spawn_app(&config(&[])).await;
    let request = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    let many = request.repeat(10_000);
    let mut stream = send(app.app.public, request).await;
    let mut buffer = vec![0; 1 << 16];
    let length = stream.read(&mut buffer).await.expect("an answer");
    let mut written = 0;
    while let Ok(more) = tokio::time::timeout(
        Duration::from_secs(1),
        stream.write(&many.as_bytes()[written % request.len()..]),
    )
    .await
    {
        written += more.expect("written");
        assert!(written < 64 << 20, "it is read for ever");
    }
    // Once they are taken it goes on where it was.
    let answers = async {
        let mut left = written / request.len() * length;
        while left > 0 {
            left -= stream.read(&mut buffer).await.expect("answers").min(left);
        }
    };
    tokio::time::timeout(LONG, answers)
        .await
        .expect("all answers");
    assert_eq!(app.github("d-1", "{}").await.word(), "accepted");
    app.stop().await;
}

/// An answer that goes on is an answer: its connection makes no room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_not_cut_off_for_others() {
    let api = FakeApi::start(Vec::new()).await;
    let app = spawn(&api, "connections_max = 3\nconnections_per_address_max = 0").await;
    let request = format!(
        "GET /api/v1/stream HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
    );
    let mut tails = Vec::new();
    for _ in 0..3 {
        let mut tail = send(app.app.admin, &request).await;
        let mut answer = [0; 12];
        tail.read_exact(&mut answer).await.expect("a head");
        assert_eq!(&answer, b"HTTP/1.1 200");
        tails.push(tail);
    }
    assert_eq!(
        until_closed(&mut send(app.app.admin, &request).await).await,
        "",
        "there is no room"
    );
    drop(tails.pop());
    let again = async {
        loop {
            let mut stream = send(
                app.app.admin,
                "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
            )
            .await;
            if until_closed(&mut stream).await.starts_with("HTTP/1.1 200") {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, again).await.expect("room");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_proxy_may_read_otherwise_is_400_and_the_end() {
    let api = FakeApi::start(Vec::new()).await;
    let app = spawn(&api, "").await;
    let head = "host: localhost\r\n";
    let chunked = "transfer-encoding: chunked\r\n\r\n";
    let twice = |name: &str, value: &str| {
        format!(
            "POST /hooks/github HTTP/1.1\r\n{head}{name}: {value}\r\n{name}: {value}\r\ncontent-length: 0\r\n\r\n"
        )
    };
    let mut cases = vec![
        format!("GET /livez HTTP/1.1\n{head}\r\n"),
        format!("GET /livez HTTP/1.1\r\nx: y\n{head}\r\n"),
        format!("GET /livez HTTP/1.1\r\n{head}\n"),
        format!("\nGET /livez HTTP/1.1\r\n{head}\r\n"),
    ];
    for (port, address) in ports(&app) {
        for text in &cases {
            let answer = until_closed(&mut send(address, text).await).await;
            assert!(
                answer.starts_with("HTTP/1.1 400") && answer.matches("HTTP/1.1").count() == 1,
                "{port} {text:?}: {answer}"
            );
        }
    }
    cases = vec![
        format!("POST /hooks/github HTTP/1.1\r\n{head}{chunked}1\na\r\n0\r\n\r\n"),
        format!("POST /hooks/github HTTP/1.1\r\n{head}{chunked}1\r\na\r\n0\r\nx: y\n\r\n"),
        format!(
            "POST /hooks/github HTTP/1.1\r\n{head}{chunked}1;{}\r\na\r\n0\r\n\r\n",
            "x".repeat(20_000)
        ),
    ];
    cases.extend([
        twice("authorization", "Bearer x"),
        twice("content-encoding", "identity"),
    ]);
    for text in &cases {
        for (port, address) in ports(&app)
            .into_iter()
            .filter(|(port, _)| matches!(*port, "public" | "gateway"))
        {
            let text = text.replace(
                "content-length: 0",
                "content-length: 0\r\nconnection: close\r\nidempotency-key: k",
            );
            let answer = until_closed(&mut send(address, &text).await).await;
            assert!(
                answer.starts_with("HTTP/1.1 400"),
                "{port} {text:.200?}: {answer}"
            );
        }
    }
    let text = twice("authorization", &format!("Bearer {TOKEN}"))
        .replace("POST /hooks/github", "GET /api/v1/sources");
    let answer = until_closed(
        &mut send(
            app.app.admin,
            &text.replace("content-length: 0", "connection: close"),
        )
        .await,
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("comes twice"),
        "{answer}"
    );
    assert_eq!(
        (
            api.count(),
            app.count("select count(*) from event_key").await
        ),
        (0, 0)
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_of_too_many_lines_or_bytes_is_refused() {
    let api = FakeApi::start(Vec::new()).await;
    let app = spawn(&api, "").await;
    let many: String = (0..100).map(|n| format!("x-{n}: y\r\n")).collect();
    let long = format!("x: {}\r\n", "y".repeat(140_000));
    // The server's parser would not survive it.
    let name = format!("{}: y\r\n", "x".repeat(70_000));
    for (port, address) in ports(&app) {
        for head in [&many, &long, &name] {
            let answer = until_closed(
                &mut send(
                    address,
                    &format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n{head}\r\n"),
                )
                .await,
            )
            .await;
            // Closed in the middle of what was sent, the answer may be lost on its way.
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
                "{port}: {answer}"
            );
        }
    }
    assert_eq!(api.count(), 0);
    assert_eq!(app.github("d-1", "{}").await.word(), "accepted");
    app.stop().await;
}

/// A sender names a header as its connection's own: it is not the handler's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_connection_names_stays_on_it() {
    let handler = Handler::start(Vec::new()).await;
    let app = spawn_app(&config(&[("h", &handler.url(), "")])).await;
    let mut headers = github_headers(GITHUB_SECRET, "d-1", b"{}");
    headers.extend(
        [
            ("connection", "keep-alive, X-Hop"),
            ("x-hop", "1"),
            ("x-end", "2"),
        ]
        .map(|(name, value)| (name.into(), value.into())),
    );
    assert_eq!(
        app.post("/hooks/github", &headers, "{}").await.word(),
        "accepted"
    );
    let received = handler.received(1).await.remove(0);
    assert_eq!(
        (received.header("x-hop"), received.header("x-end")),
        (None, Some("2"))
    );
    app.stop().await;
}

/// 101 is no answer to what was asked, and what follows it is no HTTP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_switches_protocols_has_not_answered() {
    let switched = || {
        Act::Say(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".into(),
        )
    };
    let api = FakeApi::start(vec![switched(), switched()]).await;
    let (app, shop) = crate::gateway::spawn(&api, "").await;
    said(shop.request(Method::GET, "/x"))
        .await
        .is_problem(502, "upstream-failed");
    for _ in 0..3 {
        shop.charge("k").await.is_problem(409, "outcome-unknown");
    }
    assert_eq!(api.count(), 2);
    app.stop().await;
}

/// Whether the other side has closed: then there is nothing to be read, and that at once.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    let read = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut byte)).await;
    read.is_ok_and(|read| read.is_ok_and(|bytes| bytes == 0))
}

async fn closed_of(streams: &mut [TcpStream]) -> Vec<bool> {
    futures_util::future::join_all(streams.iter_mut().map(is_closed)).await
}

/// Waits until the service has seen them all.
async fn settled(address: SocketAddr, streams: &mut [TcpStream], closed: usize) {
    let all_seen = async {
        while closed_of(streams)
            .await
            .iter()
            .filter(|closed| **closed)
            .count()
            != closed
        {}
    };
    tokio::time::timeout(LONG, all_seen)
        .await
        .unwrap_or_else(|_| panic!("{address}: not {closed} are closed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_room_is_left_those_go_that_have_waited_longest() {
    let mut app = spawn_app(&config(&[]).replace(
        "[ingress]",
        "[ingress]\nhead_timeout = \"1m\"\nconnections_max = 20",
    ))
    .await;
    let (mut idle, mut incomplete) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        incomplete.push(
            send(
                app.app.public,
                "POST /hooks/github HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n1",
            )
            .await,
        );
    }
    for _ in 0..10 {
        idle.push(connect(app.app.public).await);
    }
    let mut clients = Vec::new();
    for n in 0..10 {
        // Each on a connection of its own.
        app.http = client();
        assert_eq!(app.github(&format!("d-{n}"), "{}").await.word(), "accepted");
        clients.push(app.http.clone());
    }
    settled(app.app.public, &mut idle, 10).await;
    assert_eq!(closed_of(&mut incomplete).await, [false; 10]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_address_has_more_than_its_part() {
    let api = FakeApi::start(Vec::new()).await;
    let app = spawn(
        &api,
        "head_timeout = \"1m\"\nconnections_max = 20\nconnections_per_address_max = 4",
    )
    .await;
    for (port, address) in ports(&app) {
        let other = tokio::net::TcpSocket::new_v4().expect("a socket");
        other
            .bind("127.0.0.2:0".parse().expect("an address"))
            .expect("an address of this machine");
        let mut streams = vec![other.connect(address).await.expect("a connection")];
        for _ in 0..6 {
            streams.push(connect(address).await);
        }
        settled(address, &mut streams, 2).await;
        assert!(!is_closed(&mut streams[0]).await, "{port}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_sends_too_many_is_told_to_wait() {
    let app = spawn_app(&config(&[]).replace("[ingress]", "[ingress]\nrate_per_address = 1")).await;
    let started = std::time::Instant::now();
    let mut refused = 0;
    for n in 0..20 {
        let said = app.github(&format!("d-{n}"), "{}").await;
        match said.status {
            429 => assert_eq!(said.headers["retry-after"], "1"),
            _ => assert_eq!(said.word(), "accepted"),
        }
        refused += usize::from(said.status == 429);
    }
    assert!(
        20 - refused <= 2 + started.elapsed().as_secs() as usize,
        "{refused}"
    );
    let listed = app.api(Method::GET, "/rejections?reason=rate", None).await;
    assert!(listed.text.contains("\"rate\""), "{listed:?}");
    app.stop().await;
}
