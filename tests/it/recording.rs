//! A lone event and a batch are recorded by statements of their own: whatever is there already and
//! whatever comes, they write the same rows.

use std::cell::{Cell, RefCell};

use hookonce::{
    event::BodyDigest,
    settings::Source,
    store::inbox::{self, Guard, Lessee, NewDelivery, NewEvent, NewRow},
};
use hookonce_scheme::{Catalog, Request, VerifiedRequest, Verifier};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use sqlx::{Connection as _, PgConnection};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::app::*;

const CASES: u32 = 150;
/// So few that most cases have repeats.
const KEYS: u128 = 8;
const BODIES: u128 = 4;
const LESSEE: Lessee = Lessee {
    node: Uuid::from_u128(7),
    lease_seconds: 50_000.0,
};

/// An event to be recorded.
#[derive(Clone, Debug)]
struct Sent {
    key: u128,
    body: u128,
    /// Whether a known body holds it.
    guard: Option<bool>,
    is_typed: bool,
    /// Whether its source ignores a place of the body, so that repeats are told by another digest.
    ignores: bool,
    /// Whether its delivery is born leased.
    delivery: Option<bool>,
    window: u32,
}

/// A key that is there already.
#[derive(Clone, Debug)]
struct Seen {
    key: Uuid,
    is_expired: bool,
}

fn key(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn body_key(number: u128) -> Uuid {
    Uuid::from_u128(1000 + number)
}

fn sent() -> impl Strategy<Value = Sent> {
    let parts = (
        0..KEYS,
        0..BODIES,
        any::<Option<bool>>(),
        any::<bool>(),
        any::<bool>(),
        any::<Option<bool>>(),
        1..5_u32,
    );
    parts.prop_map(
        |(key, body, guard, is_typed, ignores, delivery, window)| Sent {
            key,
            body,
            guard,
            is_typed,
            ignores,
            delivery,
            window,
        },
    )
}

fn seen() -> impl Strategy<Value = Seen> {
    let keys = prop_oneof![(0..KEYS).prop_map(key), (0..BODIES).prop_map(body_key)];
    (keys, any::<bool>()).prop_map(|(key, is_expired)| Seen { key, is_expired })
}

/// Takes signed requests as two sources do: one that ignores a place, and one that does not.
struct Sources(Verifier, Verifier);

impl Sources {
    fn new() -> Self {
        let catalog = Catalog::new(&Default::default()).expect("the built-in schemes");
        let verifier = |source: serde_json::Value| {
            let source: Source = serde_json::from_value(source).expect("a source");
            Verifier::new(&catalog, &source.spec(), &[GITHUB_SECRET.into()]).expect("a verifier")
        };
        let plain = verifier(serde_json::json!({ "provider": "github" }));
        Self(
            plain,
            verifier(serde_json::json!({ "provider": "github", "ignore": ["body:try"] })),
        )
    }

    fn verified(&self, sent: &Sent) -> VerifiedRequest {
        let body = bytes::Bytes::from(format!(r#"{{"body":{},"try":1}}"#, sent.body));
        let signed = github_headers(GITHUB_SECRET, &format!("d-{}", sent.key), &body);
        let signed = signed
            .iter()
            .filter(|(name, _)| sent.is_typed || name != "x-github-event");
        let headers: Vec<(&str, &[u8])> = signed
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let request = Request {
            method: "POST",
            url: None,
            query: None,
            headers: &headers,
            body: &body,
        };
        let verifier = if sent.ignores { &self.1 } else { &self.0 };
        verifier
            .verify(&request, now_unix() * 1000)
            .expect("a right signature")
    }

    /// The events, with ids in this order, and their deliveries.
    fn events(&self, all: &[Sent]) -> (Vec<NewEvent>, Vec<NewDelivery>) {
        let (mut events, mut deliveries) = (Vec::new(), Vec::new());
        for (number, sent) in (1..).zip(all) {
            let event = NewEvent {
                id: Uuid::from_u128((0x7 << 76) + number),
                id_text: String::new(),
                key: key(sent.key).into(),
                guard: sent.guard.map(|holds| Guard {
                    body_key: body_key(sent.body).into(),
                    holds,
                }),
                key_before: None,
                mark: None,
                source: "s".into(),
                window_seconds: f64::from(sent.window) * 10_000.0,
                headers: "[]".into(),
                request: self.verified(sent),
                original: None,
            };
            deliveries.extend(sent.delivery.map(|leased| NewDelivery {
                id: Uuid::from_u128((0x7 << 76) + 1000 + number).into(),
                event_id: event.id.into(),
                key: event.key,
                source: event.source.clone(),
                destination: "d".into(),
                body_bytes: i32::try_from(event.request.body().len()).expect("a short body"),
                leased,
            }));
            events.push(event);
        }
        (events, deliveries)
    }
}

/// What is kept of times is how far from now they are, in thousands of seconds.
const ROWS: [&str; 3] = [
    "select (key, event_id, body_digest, round(extract(epoch from expires_at - now()) / 1000))::text from event_key",
    "select (id, key, source, event_key, event_type, headers, body, body_digest, original_id, mark)::text from event",
    "select (id, key, event_id, source, destination, replay_id, body_bytes, state, epoch, attempts, node,
             round(extract(epoch from lease_until - now()) / 1000))::text from outbox",
];

/// Begins a transaction that is never committed, with these keys.
async fn begin(connection: &mut PgConnection, seen: &[Seen]) {
    sqlx::raw_sql("rollback; begin")
        .execute(&mut *connection)
        .await
        .expect("no rows");
    for Seen { key, is_expired } in seen {
        let seconds = if *is_expired { -10_000.0 } else { 10_000.0 };
        let row = "insert into event_key (key, event_id, body_digest, expires_at)
                   values ($1, $1, $2, now() + $3 * interval '1 second') on conflict do nothing";
        let row = sqlx::query(row)
            .bind(key)
            .bind(&BodyDigest::of(b"before").0[..])
            .bind(seconds);
        row.execute(&mut *connection).await.expect("a key");
    }
}

async fn rows(connection: &mut PgConnection) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for table in ROWS {
        let rows: Vec<String> = sqlx::query_scalar(table)
            .fetch_all(&mut *connection)
            .await
            .expect("rows");
        all.push(rows);
    }
    all.iter_mut().for_each(|rows| rows.sort());
    all
}

/// What is said of a batch, and the rows of each table after it.
#[derive(Debug, PartialEq)]
struct Outcome {
    said: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// What was said of events that are new.
fn said(rows: &[NewRow]) -> Vec<String> {
    let mut said: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {:?}", row.id, row.mark))
        .collect();
    said.sort();
    said
}

/// What is said and written where all come in one statement.
async fn together(
    connection: &mut PgConnection,
    events: &[NewEvent],
    deliveries: &[NewDelivery],
) -> Outcome {
    let mut events: Vec<&NewEvent> = events.iter().collect();
    events.sort_by_key(|event| event.key);
    let new = inbox::batch(LESSEE, &events, deliveries)
        .fetch_all(&mut *connection)
        .await
        .expect("a batch");
    Outcome {
        said: said(&new),
        rows: rows(connection).await,
    }
}

/// What is said and written where each comes in a statement of its own, in the order of their ids.
async fn one_by_one(
    connection: &mut PgConnection,
    events: &[NewEvent],
    mut deliveries: Vec<NewDelivery>,
) -> Outcome {
    let mut new = Vec::new();
    for event in events {
        let (own, others) = deliveries
            .into_iter()
            .partition(|delivery: &NewDelivery| delivery.event_id.0 == event.id);
        deliveries = others;
        new.extend(
            inbox::record(connection, LESSEE, &[event], &own)
                .await
                .expect("a lone event"),
        );
    }
    Outcome {
        said: said(&new),
        rows: rows(connection).await,
    }
}

/// A case's events, of whose keys each is there once.
fn distinct(mut all: Vec<Sent>) -> Vec<Sent> {
    let mut keys = Vec::new();
    all.retain(|sent| {
        let is_first = !keys.contains(&sent.key);
        keys.push(sent.key);
        is_first
    });
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_event_is_written_as_in_a_batch() {
    let connection = RefCell::new(
        PgConnection::connect(&database().await)
            .await
            .expect("the database"),
    );
    let sources = Sources::new();
    let cases = (vec(seen(), 0..6), vec(sent(), 1..8).prop_map(distinct));
    let (recorded, marked) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(CASES)
    });
    let checked = runner.run(&cases, |(seen, all)| {
        let connection = &mut connection.borrow_mut();
        let (events, deliveries) = sources.events(&all);
        let case = async {
            begin(connection, &seen).await;
            let in_batch = together(connection, &events, &deliveries).await;
            begin(connection, &seen).await;
            (in_batch, one_by_one(connection, &events, deliveries).await)
        };
        let (in_batch, alone) = tokio::task::block_in_place(|| Handle::current().block_on(case));
        recorded.set(recorded.get() + alone.said.len());
        marked.set(
            marked.get()
                + alone
                    .said
                    .iter()
                    .filter(|said| said.contains("SameBody"))
                    .count(),
        );
        prop_assert_eq!(in_batch, alone);
        Ok(())
    });
    checked.unwrap_or_else(|error| panic!("{error}"));
    let (recorded, marked) = (recorded.get(), marked.get());
    assert!(
        marked > 10 && recorded > marked * 2,
        "the cases say little: {recorded} were recorded, {marked} with a mark"
    );
}
