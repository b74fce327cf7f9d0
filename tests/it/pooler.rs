//! Databases that can't be used as they are, and those that may be: poolers, encodings, roles,
//! nodes that come up together.

use std::sync::Arc;

use hookonce::store::{
    link,
    schema::{self, SchemaError},
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Mutex,
};

use crate::{
    app::*,
    wire::{Stream, Upstream, listen},
};

/// One message of the protocol: its type, which the first of a connection has none of, and all of
/// its bytes.
async fn message(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    has_type: bool,
) -> std::io::Result<(u8, Vec<u8>)> {
    let mut bytes = vec![0; 4 + usize::from(has_type)];
    from.read_exact(&mut bytes).await?;
    let length = u32::from_be_bytes(bytes[bytes.len() - 4..].try_into().expect("four bytes"));
    let start = bytes.len();
    bytes.resize(start + length as usize - 4, 0);
    from.read_exact(&mut bytes[start..]).await?;
    Ok((bytes[0], bytes))
}

/// Passes on what the server says until it is ready; the state of its transaction.
async fn until_ready(server: &mut Stream, client: &mut TcpStream) -> std::io::Result<u8> {
    loop {
        let (kind, bytes) = message(server, true).await?;
        client.write_all(&bytes).await?;
        match kind {
            b'Z' => return Ok(bytes[5]),
            // Asked for a proof of who it is: all but "well" and the last of SCRAM.
            b'R' if !matches!(bytes[8], 0 | 12) => {
                server.write_all(&message(client, true).await?.1).await?
            }
            _ => {}
        }
    }
}

/// A client of a pooler that gives each transaction the one session that it has.
async fn pooled(
    mut client: TcpStream,
    upstream: Upstream,
    session: Arc<Mutex<Option<Stream>>>,
) -> std::io::Result<()> {
    let (_, hello) = message(&mut client, false).await?;
    {
        let mut session = session.lock().await;
        if session.is_none() {
            let server = session.insert(upstream.connect().await?);
            server.write_all(&hello).await?;
            until_ready(server, &mut client).await?;
        } else {
            client.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await?;
        }
    }
    loop {
        let mut held = None;
        loop {
            let mut asked = Vec::new();
            let kind = loop {
                let (kind, bytes) = message(&mut client, true).await?;
                asked.extend(bytes);
                if matches!(kind, b'S' | b'Q' | b'X') {
                    break kind;
                }
            };
            if kind == b'X' {
                return Ok(());
            }
            let session = match &mut held {
                Some(session) => session,
                held => held.insert(session.lock().await),
            };
            let server = session.as_mut().expect("a session");
            server.write_all(&asked).await?;
            if until_ready(server, &mut client).await? == b'I' {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_changes_sessions_is_refused_with_the_cure() {
    let url = empty_database().await;
    let upstream = Upstream::of(&url);
    let (listener, _, url) = listen(&url).await;
    tokio::spawn(async move {
        let session = Arc::default();
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pooled(client, upstream.clone(), Arc::clone(&session)));
        }
    });
    let pool = schema::pool(&link::options(&url).expect("options"), 2);
    let refused = schema::check(&pool, false).await.expect_err("refused");
    assert!(matches!(refused, SchemaError::SharedSession), "{refused:?}");
    assert!(
        refused.to_string().contains("pool_mode = session"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_not_utf_8_is_refused() {
    let url = empty_database().await;
    let name = format!(
        "{}_latin",
        url::Url::parse(&url)
            .expect("a URL")
            .path()
            .trim_start_matches('/')
    );
    let mut connection = PgConnection::connect(&url).await.expect("a connection");
    let sql = format!(
        "create database {name} encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0"
    );
    sqlx::query(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .expect("a database");
    let mut latin: url::Url = url.parse().expect("a URL");
    latin.set_path(&name);
    let pool = schema::pool(&link::options(latin.as_str()).expect("options"), 2);
    let refused = schema::check(&pool, false).await.expect_err("refused");
    pool.close().await;
    sqlx::query(AssertSqlSafe(format!("drop database {name} with (force)")))
        .execute(&mut connection)
        .await
        .expect("dropped");
    assert!(
        refused.to_string().contains("LATIN1") && refused.to_string().contains("template0"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_create_nothing_serves_where_the_schema_is_current() {
    let (url, empty) = (database().await, empty_database().await);
    let owner = PgPool::connect(&url).await.expect("the owner");
    let role = format!("hookonce_test_{}_writer", std::process::id());
    let as_role = |url: &str| {
        let mut url: url::Url = url.parse().expect("a URL");
        url.set_username(&role)
            .and_then(|()| url.set_password(Some("p")))
            .expect("a user");
        url.to_string()
    };
    for sql in [
        format!("create role {role} login password 'p'"),
        format!("grant select, insert, update, delete on all tables in schema public to {role}"),
        format!("grant usage on all sequences in schema public to {role}"),
    ] {
        sqlx::query(AssertSqlSafe(sql))
            .execute(&owner)
            .await
            .expect("a role");
    }
    let handler = Handler::start(Vec::new()).await;
    let app = spawn_on(&config(&[("h", &handler.url(), "")]), as_role(&url)).await;
    assert_eq!(app.stripe("evt_1", "x").await.word(), "accepted");
    handler.received(1).await;
    app.stop().await;
    let pool = schema::pool(&link::options(&as_role(&empty)).expect("options"), 2);
    let refused = schema::migrate(&pool).await;
    pool.close().await;
    for sql in [format!("drop owned by {role}"), format!("drop role {role}")] {
        sqlx::query(AssertSqlSafe(sql))
            .execute(&owner)
            .await
            .expect("no role");
    }
    assert!(
        matches!(refused, Err(SchemaError::Migrate(_))),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_at_once_on_an_empty_database_all_come_up() {
    let url = empty_database().await;
    let config = config(&[("h", "http://127.0.0.1:1/", "")]);
    let nodes = (0..5).map(|_| spawn_on(&config, url.clone()));
    let nodes = futures_util::future::join_all(nodes).await;
    for (place, node) in nodes.iter().enumerate() {
        assert_eq!(
            node.stripe(&format!("evt_{place}"), "x").await.word(),
            "accepted"
        );
    }
    assert_eq!(nodes[0].count("select count(*) from event").await, 5);
    for node in nodes {
        node.stop_with_open(5).await;
    }
}
