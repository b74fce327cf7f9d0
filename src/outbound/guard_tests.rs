//! Hostile targets get not a byte. Names are resolved and addresses dialled by a network that only
//! records what it is asked for.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{
    Client, Egress, Limits, Proxy, blocked, chain, client_on,
    connect::{Connection, Network},
    guard::{NamedBy, Rules},
};

/// A network that knows some names. It connects to nothing, or always to this one address.
#[derive(Default)]
struct Pretended {
    diverted_to: Option<SocketAddr>,
    looked_up: AtomicUsize,
    dialled: Mutex<Vec<SocketAddr>>,
}

impl Network for Pretended {
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let looked_up = self.looked_up.fetch_add(1, Ordering::Relaxed);
        let addresses: &[&str] = match &*name {
            "public.example" => &["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"],
            "mixed.example" => &["93.184.215.14", "10.0.0.7"],
            "last.example" => &[
                "2606:2800:21f:cb07:6820:80da:af6b:8b2c",
                "93.184.215.14",
                "::ffff:127.0.0.1",
            ],
            // Gives another answer each time it is asked.
            "changes.example" if looked_up == 0 => &["93.184.215.14"],
            "changes.example" => &["169.254.169.254"],
            "localhost" | "localhost.localdomain" => &["127.0.0.1", "::1"],
            "metadata.google.internal" => &["169.254.169.254"],
            "handler.internal" => &["10.20.30.40"],
            "proxy.internal" => &["10.9.9.9"],
            // As getaddrinfo reads them, if nothing has normalised them.
            "0x7f.1" | "2130706433" | "017700000001" | "127.1" => &["127.0.0.1"],
            "0xa9fea9fe" | "2852039166" => &["169.254.169.254"],
            _ => &[],
        };
        let found = addresses
            .iter()
            .map(|address| address.parse().expect("an address"))
            .collect();
        Box::pin(async move { Ok(found) })
    }

    fn dial(
        &self,
        addresses: Vec<SocketAddr>,
    ) -> BoxFuture<'static, Result<Connection, Box<dyn std::error::Error + Send + Sync>>> {
        self.dialled.lock().expect("no panic").extend(addresses);
        let Some(address) = self.diverted_to else {
            return Box::pin(async { Err("nothing is called here".into()) });
        };
        Box::pin(async move { Ok(TokioIo::new(TcpStream::connect(address).await?)) })
    }
}

struct World {
    network: Arc<Pretended>,
    client: Client<Full<Bytes>>,
}

impl World {
    fn new(named_by: NamedBy, allow: &[&str], deny: &[&str]) -> Self {
        let nets = |nets: &[&str]| {
            nets.iter()
                .map(|net| net.parse().expect("a range"))
                .collect()
        };
        Self::leaving(
            named_by,
            Egress {
                rules: Rules {
                    allow: nets(allow),
                    deny: nets(deny),
                },
                proxy: None,
            },
            None,
        )
    }

    fn leaving(named_by: NamedBy, egress: Egress, diverted_to: Option<SocketAddr>) -> Self {
        let network = Arc::new(Pretended {
            diverted_to,
            ..Pretended::default()
        });
        let limits = Limits {
            connect_timeout: Duration::from_secs(1),
            idle_for: Duration::from_secs(1),
            idle_max: 0,
        };
        Self {
            network: network.clone(),
            client: client_on(network, &limits, named_by, &egress, Vec::new()).expect("a client"),
        }
    }

    /// What was dialled for this URL, and whether the guard refused it.
    async fn call(&self, url: &str) -> (Vec<String>, bool) {
        let request = Request::get(url).body(Full::default()).expect("a request");
        let error = self
            .client
            .request(request)
            .await
            .expect_err("no connection");
        let dialled = std::mem::take(&mut *self.network.dialled.lock().expect("no panic"));
        (
            dialled.iter().map(ToString::to_string).collect(),
            blocked(&error).is_some(),
        )
    }
}

const HOSTILE: [&str; 52] = [
    "http://127.0.0.1/",
    "http://127.0.0.1:5432/",
    "https://127.8.9.10/",
    "http://0.0.0.0:8081/",
    "http://0.1.2.3/",
    "http://10.0.0.1/",
    "http://10.255.255.255/",
    "http://172.16.0.1/",
    "http://172.31.255.254/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://100.100.100.200/latest/meta-data/",
    "http://168.63.129.16/",
    "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
    "http://169.254.170.2/v2/credentials",
    "http://192.0.0.192/",
    "http://192.0.2.5/",
    "http://192.88.99.1/",
    "http://198.18.0.1/",
    "http://198.51.100.7/",
    "http://203.0.113.9/",
    "http://224.0.0.1/",
    "http://239.255.255.250:1900/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[::]/",
    "http://[::1]:8081/",
    "http://[::127.0.0.1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::169.254.169.254]/",
    "http://[64:ff9b:1::10.0.0.1]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
    "http://[2001:db8::1]/",
    "http://[3fff::1]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/",
    "http://[fe80::1]/",
    "http://[fe80::a9fe:a9fe]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://[100::1]/",
    "https://mixed.example/",
    "https://last.example/",
    "http://localhost:5432/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://0x7f.1/",
    "http://2130706433/",
];

#[tokio::test]
async fn hostile_targets_that_a_caller_names_get_no_byte() {
    let world = World::new(NamedBy::Caller, &[], &[]);
    let more = [
        "http://017700000001/",
        "http://127.1/",
        "http://0xa9fea9fe/",
        "http://2852039166/",
        "http://handler.internal/",
    ];
    for url in HOSTILE.into_iter().chain(more) {
        assert_eq!(world.call(url).await, (Vec::new(), true), "{url}");
    }
}

#[tokio::test]
async fn public_targets_are_dialled_as_they_were_judged() {
    let world = World::new(NamedBy::Caller, &[], &[]);
    let dialled = |addresses: &[&str]| {
        (
            addresses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            false,
        )
    };
    let both = dialled(&[
        "93.184.215.14:443",
        "[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:443",
    ]);
    assert_eq!(world.call("https://public.example/hook").await, both);
    assert_eq!(
        world.call("http://93.184.215.14:8080/").await,
        dialled(&["93.184.215.14:8080"])
    );
    for (url, address) in [
        ("http://172.15.0.1/", "172.15.0.1:80"),
        ("http://172.32.0.1/", "172.32.0.1:80"),
        ("http://100.63.255.255/", "100.63.255.255:80"),
        ("http://100.128.0.1/", "100.128.0.1:80"),
        ("http://198.20.0.1/", "198.20.0.1:80"),
        ("http://223.255.255.254/", "223.255.255.254:80"),
        (
            "http://[2001:4860:4860::8888]/",
            "[2001:4860:4860::8888]:80",
        ),
        (
            "http://[::ffff:93.184.215.14]/",
            "[::ffff:93.184.215.14]:80",
        ),
    ] {
        assert_eq!(world.call(url).await, dialled(&[address]), "{url}");
    }
}

#[tokio::test]
async fn a_name_is_judged_anew_for_each_connection() {
    let world = World::new(NamedBy::Caller, &[], &[]);
    assert_eq!(
        world.call("http://changes.example/").await,
        (vec!["93.184.215.14:80".to_owned()], false)
    );
    assert_eq!(
        world.network.looked_up.load(Ordering::Relaxed),
        1,
        "what was judged is what was dialled"
    );
    assert_eq!(
        world.call("http://changes.example/").await,
        (Vec::new(), true)
    );
}

#[tokio::test]
async fn destinations_of_the_settings_may_be_private_but_no_metadata_service() {
    let world = World::new(NamedBy::Settings, &[], &[]);
    for url in [
        "http://127.0.0.1/",
        "http://handler.internal/",
        "http://[::1]/",
        "http://[fd00::1]/",
        "https://mixed.example/",
    ] {
        let (dialled, is_blocked) = world.call(url).await;
        assert!(!dialled.is_empty() && !is_blocked, "{url}");
    }
    for url in [
        "http://169.254.169.254/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::169.254.169.254]/",
        "http://[2002:a9fe:a9fe::1]/",
        "http://[fd00:ec2::254]/",
        "http://[fe80::a9fe:a9fe]/",
        "http://100.100.100.200/",
        "http://metadata.google.internal/",
        "http://2852039166/",
    ] {
        assert_eq!(world.call(url).await, (Vec::new(), true), "{url}");
    }
}

#[tokio::test]
async fn the_settings_allow_and_deny_ranges() {
    let caller = World::new(
        NamedBy::Caller,
        &["10.0.0.0/8", "169.254.169.254/32"],
        &["10.20.0.0/16", "93.184.0.0/16"],
    );
    for (url, is_blocked) in [
        ("http://10.1.2.3/", false),
        ("http://[::ffff:10.1.2.3]/", false),
        ("http://169.254.169.254/", false),
        ("http://169.254.170.2/", true),
        // Deny is stronger than allow, also for the same address in another form.
        ("http://handler.internal/", true),
        ("http://[::ffff:10.20.0.1]/", true),
        ("http://public.example/", true),
        // Allowed is that address, not another one that carries it.
        ("http://[64:ff9b::10.1.2.3]/", true),
        ("http://127.0.0.1/", true),
    ] {
        let (dialled, blocked) = caller.call(url).await;
        assert_eq!(
            (dialled.is_empty(), blocked),
            (is_blocked, is_blocked),
            "{url}"
        );
    }
    let own = World::new(NamedBy::Settings, &[], &["10.20.0.0/16"]);
    assert_eq!(
        own.call("http://handler.internal/").await,
        (Vec::new(), true)
    );
    assert_eq!(
        own.call("http://[64:ff9b::10.20.0.1]/").await,
        (Vec::new(), true)
    );
}

fn by_proxy() -> Egress {
    let authorization = Some(HeaderValue::from_static("Basic dTpw"));
    Egress {
        rules: Rules::default(),
        proxy: Some(Proxy {
            uri: Uri::from_static("http://proxy.internal:3128"),
            authorization,
        }),
    }
}

#[tokio::test]
async fn a_proxy_gets_what_is_public_and_nothing_hostile() {
    const PROXY: &str = "10.9.9.9:3128";
    let caller = World::leaving(NamedBy::Caller, by_proxy(), None);
    for url in HOSTILE {
        assert_eq!(caller.call(url).await, (Vec::new(), true), "{url}");
    }
    assert_eq!(
        caller.call("https://public.example/").await,
        (vec![PROXY.to_owned()], false)
    );
    // The proxy must not resolve a name that a caller gave.
    assert_eq!(
        caller.call("https://known-to-the-proxy.example/").await,
        (Vec::new(), false)
    );
    let own = World::leaving(NamedBy::Settings, by_proxy(), None);
    for (url, dialled) in [
        ("https://public.example/", PROXY),
        ("https://known-to-the-proxy.example/", PROXY),
        ("http://handler.internal/", "10.20.30.40:80"),
        ("http://127.0.0.1:3000/", "127.0.0.1:3000"),
    ] {
        assert_eq!(
            own.call(url).await,
            (vec![dialled.to_owned()], false),
            "{url}"
        );
    }
    assert_eq!(
        own.call("http://169.254.169.254/").await,
        (Vec::new(), true)
    );
}

/// Opens a tunnel or refuses it, then answers as the server behind it. Returns what it was asked.
async fn proxy(listener: TcpListener, says: &str) -> String {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let mut asked = String::new();
    for answer in [says, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"] {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).await.expect("a request");
        asked += &String::from_utf8_lossy(&bytes[..count]);
        stream
            .write_all(answer.as_bytes())
            .await
            .expect("an answer");
    }
    asked
}

#[tokio::test]
async fn a_tunnel_leads_to_what_was_judged() {
    for (named_by, target) in [
        (NamedBy::Caller, "93.184.215.14:80"),
        (NamedBy::Settings, "public.example:80"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let world = World::leaving(
            named_by,
            by_proxy(),
            Some(listener.local_addr().expect("an address")),
        );
        let request = Request::get("http://public.example/hook")
            .body(Full::default())
            .expect("a request");
        let (asked, answer) = tokio::join!(
            proxy(listener, "HTTP/1.1 200 Connected\r\n\r\n"),
            world.client.request(request)
        );
        let body = answer
            .expect("an answer")
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes();
        assert_eq!(body, "ok");
        let head = format!(
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic dTpw\r\n\r\n"
        );
        assert!(
            asked.starts_with(&format!("{head}GET /hook HTTP/1.1\r\n")),
            "{asked}"
        );
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let world = World::leaving(
        NamedBy::Settings,
        by_proxy(),
        Some(listener.local_addr().expect("an address")),
    );
    let request = Request::get("http://public.example/")
        .body(Full::default())
        .expect("a request");
    let refused = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let _ = stream.read(&mut [0; 1024]).await;
        stream
            .write_all(b"HTTP/1.1 407 No\r\n\r\n")
            .await
            .expect("an answer");
    };
    let ((), error) = tokio::join!(refused, world.client.request(request));
    let said = chain(&error.expect_err("no tunnel"));
    assert!(
        said.contains(
            "egress.proxy http://proxy.internal:3128/: tunnel error: proxy authorization required"
        ),
        "{said}"
    );
}
