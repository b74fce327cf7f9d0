//! TLS to the database. In front of the server stands one that speaks TLS, with certificates as
//! people have them.

use std::{path::PathBuf, sync::Arc};

use hookonce::store::tls::{ReachError, reach};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    app::*,
    process::Place,
    wire::{Upstream, listen},
};

/// A certificate of version 1 for "localhost" with its key, and who signed it, as PostgreSQL's
/// manual has them made: `openssl req -new …` and `openssl x509 -req … -CA … -CAkey …`, but with
/// keys on P-256 and for 36500 days.
const VERSION_1: &str = include_str!("../keys/x509-v1.pem");

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// The database behind TLS with this certificate: its URL without a sslmode.
async fn behind_tls(
    url: &str,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> url::Url {
    let key = ring::sign::any_supported_type(&key).expect("a key");
    let certified = Arc::new(CertifiedKey::new(vec![certificate], key));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(
        config.with_cert_resolver(Arc::new(Always(certified))),
    ));
    let upstream = Upstream::of(url);
    let (listener, _, url) = listen(url).await;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(client, acceptor.clone(), upstream.clone()));
        }
    });
    let mut url: url::Url = url.parse().expect("a URL");
    url.set_host(Some("localhost")).expect("a host");
    url.set_query(None);
    url
}

async fn pass(
    mut client: TcpStream,
    acceptor: tokio_rustls::TlsAcceptor,
    upstream: Upstream,
) -> std::io::Result<()> {
    let mut request = [0; 8];
    client.read_exact(&mut request).await?;
    assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47], "it asks for TLS");
    client.write_all(b"S").await?;
    let (mut client, mut server) = (acceptor.accept(client).await?, upstream.connect().await?);
    tokio::io::copy_bidirectional(&mut client, &mut server)
        .await
        .map(drop)
}

async fn behind_version_1(url: &str) -> url::Url {
    let certificate = CertificateDer::from_pem_slice(VERSION_1.as_bytes()).expect("a certificate");
    behind_tls(
        url,
        certificate,
        PrivateKeyDer::from_pem_slice(VERSION_1.as_bytes()).expect("a key"),
    )
    .await
}

fn with(url: &url::Url, query: &str) -> String {
    format!("{url}?{query}")
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_version_1_serves_where_none_is_checked() {
    let url = behind_version_1(&database().await).await;
    let handler = Handler::start(Vec::new()).await;
    for (place, mode) in ["", "sslmode=prefer", "sslmode=require"]
        .into_iter()
        .enumerate()
    {
        let app = spawn_on(&config(&[("h", &handler.url(), "")]), with(&url, mode)).await;
        assert_eq!(
            app.stripe(&format!("evt_{place}"), "x").await.word(),
            "accepted"
        );
        handler.received(place + 1).await;
        app.end().await;
    }
    // As psql: `require` checks who signed it, where it is given that.
    for root in ["x509-v1-root.pem", "x509-v1.pem"] {
        let root = format!(
            "sslrootcert={}/tests/keys/{root}",
            env!("CARGO_MANIFEST_DIR")
        );
        let app = spawn_on(&config(&[]), with(&url, &format!("sslmode=require&{root}"))).await;
        assert_eq!(app.stripe(&root, "x").await.word(), "accepted");
        app.end().await;
        assert!(
            refusal(&url, &format!("sslmode=verify-ca&{root}"))
                .await
                .contains("version 1")
        );
    }
    let stranger = Authority::new();
    let other = format!("sslmode=require&sslrootcert={}", stranger.file().display());
    assert!(
        refusal(&url, &other)
            .await
            .contains("who signed it is not known"),
        "{other}"
    );
    assert!(
        reach(&with(&url, "sslmode=require&sslrootcert=/nonexistent"))
            .await
            .is_ok(),
        "there is nothing to check it by"
    );
    let unreadable = reach(&with(&url, "sslmode=require&sslrootcert=/"))
        .await
        .err()
        .expect("refused");
    assert!(matches!(unreadable, ReachError::Root(_)), "{unreadable:?}");
    // Large both ways.
    let app = spawn_on(&config(&[]), with(&url, "sslmode=require")).await;
    let body = format!(r#"{{"id":"large","text":"{}"}}"#, "x".repeat(3 << 20));
    let event = app
        .post(
            "/hooks/stripe",
            &stripe_headers(STRIPE_SECRET, now_unix(), body.as_bytes()),
            body.clone(),
        )
        .await
        .event();
    assert_eq!(
        app.api(reqwest::Method::GET, &format!("/events/{event}/body"), None)
            .await
            .text,
        body
    );
    app.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_version_1_that_is_to_be_checked_is_refused_with_the_cure() {
    let url = behind_version_1(&database().await).await;
    for mode in ["verify-ca", "verify-full"] {
        let place = Place::on("", with(&url, &format!("sslmode={mode}")));
        for command in [&["serve"][..], &["db", "migrate"]] {
            let said = place.refused(command, 1).await;
            assert!(
                said.contains("X.509 version 1") && said.contains("subjectAltName=DNS:localhost"),
                "{said}"
            );
        }
    }
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
            .expect("a certificate");
        Self {
            issuer,
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    fn file(&self) -> PathBuf {
        let file = self.folder.path().join("root.crt");
        std::fs::write(&file, self.issuer.pem()).expect("written");
        file
    }

    /// The database behind a certificate for this name.
    async fn behind(
        &self,
        url: &str,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> url::Url {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("names");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        behind_tls(
            url,
            certificate.der().clone(),
            PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .await
    }
}

async fn refusal(url: &url::Url, query: &str) -> String {
    match reach(&with(url, query)).await {
        Err(error @ ReachError::Certificate(_)) => error.to_string(),
        Err(error) => panic!("{query}: {error:?}"),
        Ok(_) => panic!("{query} is taken"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_certificate_is_said_with_the_cure() {
    let (database, authority) = (database().await, Authority::new());
    let root = format!("sslrootcert={}", authority.file().display());
    let good = authority.behind(&database, "localhost", |_| {}).await;
    for mode in ["verify-full", "verify-ca", "require"] {
        let app = spawn_on(&config(&[]), with(&good, &format!("sslmode={mode}&{root}"))).await;
        assert_eq!(app.stripe(mode, "x").await.word(), "accepted");
        app.stop().await;
    }
    let unknown = refusal(&good, "sslmode=verify-full").await;
    assert!(
        unknown.contains("sslrootcert=/path/to/root.crt"),
        "{unknown}"
    );
    let stranger = Authority::new();
    let strange = format!("sslmode=require&sslrootcert={}", stranger.file().display());
    assert_eq!(
        refusal(&good, &strange).await,
        unknown,
        "as psql, `require` checks by what it is given"
    );

    let other = authority.behind(&database, "db.example", |_| {}).await;
    let named = refusal(&other, &format!("sslmode=verify-full&{root}")).await;
    assert!(
        named.contains("\"localhost\" but for") && named.contains("db.example"),
        "{named}"
    );
    assert!(
        named.contains("subjectAltName=DNS:localhost") && named.contains("verify-ca"),
        "{named}"
    );
    assert!(
        reach(&with(&other, &format!("sslmode=verify-ca&{root}")))
            .await
            .is_ok()
    );

    let expired = authority
        .behind(&database, "localhost", |params| {
            params.not_after = rcgen::date_time_ymd(2001, 2, 3)
        })
        .await;
    let over = refusal(&expired, &format!("sslmode=verify-ca&{root}")).await;
    assert!(over.contains("over since 2001-02-03"), "{over}");
    let early = authority
        .behind(&database, "localhost", |params| {
            params.not_before = rcgen::date_time_ymd(3001, 2, 3)
        })
        .await;
    let early = refusal(&early, &format!("sslmode=verify-ca&{root}")).await;
    assert!(early.contains("has not begun"), "{early}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authoritys_own_certificate_serves_unchecked_and_is_else_refused_with_the_cure() {
    let (database, authority) = (database().await, Authority::new());
    let key = PrivateKeyDer::try_from(authority.issuer.key().serialize_der()).expect("a key");
    let url = behind_tls(&database, authority.issuer.der().clone(), key).await;
    let root = format!("sslrootcert={}", authority.file().display());
    for query in [
        "sslmode=require".to_owned(),
        format!("sslmode=require&{root}"),
    ] {
        let app = spawn_on(&config(&[]), with(&url, &query)).await;
        assert_eq!(app.stripe(&query, "x").await.word(), "accepted");
        app.stop().await;
    }
    let stranger = Authority::new();
    let strange = format!("sslmode=require&sslrootcert={}", stranger.file().display());
    assert!(
        refusal(&url, &strange)
            .await
            .contains("who signed it is not known"),
        "{strange}"
    );
    let said = refusal(&url, &format!("sslmode=verify-full&{root}")).await;
    assert!(
        said.contains("CA:TRUE") && said.contains("-addext basicConstraints=critical,CA:FALSE"),
        "{said}"
    );
}
