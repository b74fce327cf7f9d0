//! A database of the version before: what it recorded under keys of another form is still known,
//! and nothing is taken for it that is not it.

use hookonce::event::{BodyDigest, key_of};
use sqlx::PgPool;
use uuid::Uuid;

use crate::app::*;

/// The last migration of that version.
const LAST: i64 = 6;

/// A database with that version's schema.
async fn database_before() -> String {
    let url = empty_database().await;
    let folder = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))
        .expect("the migrations")
    {
        let path = entry.expect("a file").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name")
            .to_owned();
        if name
            .split('_')
            .next()
            .and_then(|number| number.parse::<i64>().ok())
            .is_some_and(|number| number <= LAST)
        {
            std::fs::copy(&path, folder.path().join(name)).expect("a copy");
        }
    }
    let pool = PgPool::connect(&url).await.expect("the database");
    sqlx::migrate::Migrator::new(folder.path())
        .await
        .expect("the migrations")
        .run(&pool)
        .await
        .expect("the schema");
    pool.close().await;
    url
}

/// What that version wrote for a new event: its key was of this text alone.
async fn recorded(
    pool: &PgPool,
    source: &str,
    event_key: &str,
    event_type: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Uuid {
    let (id, key, digest) = (
        Uuid::now_v7(),
        key_of(source, event_key),
        BodyDigest::of(body.as_bytes()),
    );
    sqlx::query("insert into event_key (key, event_id, body_digest, expires_at) values ($1, $2, $3, now() + interval '30 days')")
        .bind(key.0)
        .bind(id)
        .bind(&digest.0[..])
        .execute(pool)
        .await
        .expect("the key");
    sqlx::query(
        "insert into event (id, key, source, event_key, event_type, headers, body, body_digest) values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(id)
    .bind(key.0)
    .bind(source)
    .bind(event_key)
    .bind(event_type)
    .bind(serde_json::to_string(headers).expect("JSON"))
    .bind(body.as_bytes())
    .bind(&digest.0[..])
    .execute(pool)
    .await
    .expect("the event");
    id
}

const SOURCES: &str = r#"
[sources.shop]
provider = "shopify"
secret = "s"
[sources.woo]
provider = "woocommerce"
secret = "s"
[sources.news]
provider = "intercom"
secret = "s"
"#;

fn hmac_base64(body: &str) -> String {
    use base64::Engine as _;
    use hmac::{KeyInit as _, Mac as _};
    let mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"s").expect("a key");
    base64::engine::general_purpose::STANDARD.encode(mac.chain_update(body).finalize().into_bytes())
}

async fn post(
    app: &TestApp,
    source: &str,
    signature: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Said {
    let signed = [(signature, hmac_base64(body))];
    let signed = signed
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    let headers: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .chain(signed)
        .collect();
    app.post(&format!("/hooks/{source}"), &headers, body.to_owned())
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_the_version_before_lose_nothing_and_double_nothing() {
    let url = database_before().await;
    let pool = PgPool::connect(&url).await.expect("the database");
    let order = r#"{"id":1}"#;
    let created = [
        ("x-shopify-event-id", "e-1"),
        ("x-shopify-topic", "orders/create"),
        ("x-shopify-webhook-id", "w-1"),
    ];
    let paid = [
        ("x-shopify-event-id", "e-1"),
        ("x-shopify-topic", "orders/paid"),
        ("x-shopify-webhook-id", "w-2"),
    ];
    let first = recorded(&pool, "shop", "e-1", "orders/create", &created, order).await;
    let ping = r#"{"id":7,"status":"processing"}"#;
    let digest = hex::encode(BodyDigest::of(ping.as_bytes()).0);
    let sent = |id: &'static str| {
        [
            ("x-wc-webhook-topic", "order.updated"),
            ("x-wc-webhook-delivery-id", id),
        ]
    };
    let woo = recorded(&pool, "woo", &digest, "order.updated", &sent("w-1"), ping).await;
    let stripe = recorded(
        &pool,
        "stripe",
        "evt_1",
        "charge.succeeded",
        &[],
        r#"{"id":"evt_1","object":"event","type":"charge.succeeded"}"#,
    )
    .await;
    pool.close().await;

    let app = spawn_on(&format!("{}{SOURCES}", config(&[])), url).await;
    let again = post(&app, "shop", "x-shopify-hmac-sha256", &created, order).await;
    assert_eq!(
        (again.word(), again.event()),
        ("duplicate".into(), first),
        "the provider's retry of what was recorded before"
    );
    let other = post(&app, "shop", "x-shopify-hmac-sha256", &paid, order).await;
    assert_eq!(
        other.word(),
        "accepted",
        "another event of the same action, which the version before would have lost"
    );
    assert_eq!(
        post(&app, "shop", "x-shopify-hmac-sha256", &paid, order)
            .await
            .event(),
        other.event()
    );
    let again = post(&app, "woo", "x-wc-webhook-signature", &sent("w-1"), ping).await;
    assert_eq!((again.word(), again.event()), ("duplicate".into(), woo));
    let other = post(&app, "woo", "x-wc-webhook-signature", &sent("w-2"), ping).await;
    assert_eq!(other.word(), "accepted", "the same state at another time");
    let again = app.stripe("evt_1", "charge.succeeded").await;
    assert_eq!(
        (again.word(), again.event()),
        ("duplicate".into(), stripe),
        "a key that is as it was"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_database_has_no_older_keys_to_look_for() {
    let app = spawn_app(&config(&[])).await;
    assert_eq!(app.count("select count(*) from keys_before").await, 0);
    app.stop().await;
}
