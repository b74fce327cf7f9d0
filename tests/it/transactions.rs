//! The functions of schema `hookonce`: an effect in the caller's own transaction, its record and
//! its events are there together or not at all.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hookonce::{
    chance,
    event::{TypeGlob, emitted_key_of, key_of, run_key},
    routing::{LikeRoutes, Routes},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, postgres::PgRow};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::app::*;

const DOCUMENT: &str = include_str!("../../docs/transactions.md");

/// Settings with a route for what steps emit.
fn with_ledger_route(handler: &Handler) -> String {
    config(&[("h", &handler.url(), "")]) + "[[routes]]\nsource = \"ledger\"\ndestination = \"h\"\n"
}

/// A role as the document makes it, with a name of its own: roles belong to the whole server.
struct Role {
    url: String,
    name: String,
}

impl Role {
    async fn new(app: &TestApp) -> Self {
        let name = format!("app_{}", Uuid::now_v7().simple());
        let made = DOCUMENT
            .split("```sql\n")
            .find(|block| block.starts_with("create role"))
            .and_then(|block| block.split("```").next())
            .expect("the role's statements")
            .replace("hookonce_app", &name);
        let mut owner = PgConnection::connect(&app.database_url)
            .await
            .expect("the owner");
        sqlx::raw_sql(AssertSqlSafe(made))
            .execute(&mut owner)
            .await
            .expect("the role");
        Self {
            url: app.database_url.clone(),
            name,
        }
    }

    /// A connection that may do what the role may, and no more.
    async fn connect(&self) -> PgConnection {
        let mut connection = PgConnection::connect(&self.url).await.expect("a session");
        run(&mut connection, &format!("set role {}", self.name))
            .await
            .expect("the role");
        connection
    }

    async fn drop(self) {
        let mut owner = PgConnection::connect(&self.url).await.expect("the owner");
        for sql in ["drop owned by", "drop role"] {
            run(&mut owner, &format!("{sql} {}", self.name))
                .await
                .expect("no role");
        }
    }
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<Option<PgRow>, sqlx::Error> {
    let query = sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(false);
    query.fetch_optional(connection).await
}

async fn is_true(connection: &mut PgConnection, sql: &str) -> bool {
    let row = run(connection, sql).await.expect("an answer");
    row.expect("a row").get(0)
}

/// The SQLSTATE of a statement that is refused.
async fn refused(connection: &mut PgConnection, sql: &str) -> String {
    match run(connection, sql).await {
        Err(sqlx::Error::Database(error)) => error.code().expect("a code").into_owned(),
        other => panic!("{sql}: {other:?}"),
    }
}

async fn status(connection: &mut PgConnection, sql: &str) -> String {
    let row = run(connection, sql).await.expect("a claim");
    row.expect("a row").get("status")
}

impl TestApp {
    async fn step(&self, step: &str, action: &str, body: Value) -> Said {
        let path = format!("{}/v1/runs/r/steps/{step}/{action}", self.admin);
        let request = self.http.post(path).bearer_auth(TOKEN).json(&body);
        let response = request.send().await.expect("an answer");
        Said {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.expect("a body"),
        }
    }
}

fn kind(said: &Said) -> String {
    let kind = said.json()["type"].as_str().unwrap_or_default().to_owned();
    kind.rsplit(':').next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_its_rows_and_its_events_are_one_transaction() {
    let handler = Handler::start(Vec::new()).await;
    let app = spawn_app(&with_ledger_route(&handler)).await;
    let role = Role::new(&app).await;
    let mut sql = role.connect().await;
    let claim = "select * from hookonce.claim('r', 's', owner => 'worker-7')";
    let complete = r#"select hookonce.complete('r', 's', 1, '{"b": 1.0, "a" : "x"}', '[{"type": "order.paid", "data": {"order" : 1}}]')"#;
    run(&mut sql, "begin").await.unwrap();
    assert_eq!(status(&mut sql, claim).await, "granted");
    run(&mut sql, complete).await.unwrap();
    run(&mut sql, "rollback").await.unwrap();
    assert_eq!(app.count("select count(*) from step").await, 0);

    run(&mut sql, "begin").await.unwrap();
    assert_eq!(status(&mut sql, claim).await, "granted");
    run(&mut sql, complete).await.unwrap();
    assert_eq!(app.count("select count(*) from step").await, 0);
    run(&mut sql, "commit").await.unwrap();
    let received = handler.received(1).await.remove(0);
    assert_eq!(received.body, br#"{"order" : 1}"#);
    assert_eq!(received.header("hookonce-event-key"), Some("r/s/0"));

    let row = run(&mut sql, claim).await.unwrap().unwrap();
    let result: sqlx::types::Json<Box<serde_json::value::RawValue>> = row.get("result");
    assert_eq!(result.get(), r#"{"b": 1.0, "a" : "x"}"#);
    assert_eq!(row.get::<String, _>("owner"), "worker-7");
    let said = app.step("s", "claim", json!({ "claim_id": "c" })).await;
    assert_eq!(said.status, 200, "{said:?}");
    assert!(said.text.contains(r#"{"b": 1.0, "a" : "x"}"#), "{said:?}");
    // The record is what the same call over HTTP leaves, so that its repeat there is known.
    let again = json!({ "fence": 1, "result": 0, "emit": [{ "type": "order.paid", "data": 1 }] });
    let again = again
        .to_string()
        .replace("\"data\":1", r#""data":{"order" : 1}"#);
    let again = again.replace("\"result\":0", r#""result":{"b": 1.0, "a" : "x"}"#);
    let path = format!("{}/v1/runs/r/steps/s/complete", app.admin);
    let request = app.http.post(path).bearer_auth(TOKEN).body(again);
    let said = request
        .header("content-type", "application/json")
        .send()
        .await;
    assert_eq!(said.expect("an answer").status(), 200);
    // In a transaction the same repeat would write the caller's rows twice.
    assert_eq!(refused(&mut sql, complete).await, "OC007");
    role.drop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_t_be_done_has_a_code_of_its_own() {
    let app = spawn_app(&config(&[])).await;
    let role = Role::new(&app).await;
    let mut sql = role.connect().await;
    let claim =
        |step: &str, more: &str| format!("select * from hookonce.claim('r', '{step}'{more})");
    assert_eq!(
        status(&mut sql, &claim("s", ", claim_id => 'a', owner => 'me'")).await,
        "granted"
    );
    assert_eq!(
        status(&mut sql, &claim("s", ", claim_id => 'a', owner => 'me'")).await,
        "granted"
    );
    assert_eq!(
        status(
            &mut sql,
            &claim("retried", ", lease => '1us', on_lost => 'retry'")
        )
        .await,
        "granted"
    );
    assert_eq!(
        status(
            &mut sql,
            &claim("held", ", lease => '1us', input_hash => 'h'")
        )
        .await,
        "granted"
    );
    let end = |step: &str, fence: i64| format!("select hookonce.complete('r', '{step}', {fence})");
    let emits = |emit: &str| format!("select hookonce.complete('r', 's', 1, emit => '{emit}')");
    let large = "x".repeat(1 << 20);
    for (statement, code) in [
        (claim("s", ""), "OC001"),
        (claim("held", ""), "OC002"),
        (claim("held", ", input_hash => 'other'"), "OC003"),
        (claim("s", ", claim_id => 'a', owner => 'you'"), "OC006"),
        (end("s", 2), "OC004"),
        (end("no", 1), "OC005"),
        (claim("", ""), "22023"),
        (claim("s", ", tenant => 'gateway:pay'"), "22023"),
        (claim("t", ", on_lost => 'maybe'"), "22023"),
        (claim("t", ", lease => '2 hours'"), "22023"),
        (emits(r#"{"data": 1}"#), "22023"),
        (emits(r#"[{"data": 1, "tpye": "x"}]"#), "22023"),
        (emits(r#"[{"type": "x"}]"#), "22023"),
        (
            format!("select hookonce.complete('r', 's', 1, '\"{large}\"')"),
            "54000",
        ),
        (
            "select hookonce.complete('r', 's', 1, emit => (select json_agg(json_build_object('data', n)) from generate_series(1, 33) n))".to_owned(),
            "54000",
        ),
        ("select hookonce.handled('', 'c')".to_owned(), "22023"),
        (
            "select hookonce.handled('e', 'c', '2 years')".to_owned(),
            "22023",
        ),
        (
            "select hookonce.emit('ledger', E'a\\tb', null, '1')".to_owned(),
            "22023",
        ),
    ] {
        assert_eq!(
            refused(&mut sql, &statement).await,
            code,
            "{:.200}",
            statement
        );
    }
    let row = run(&mut sql, &claim("retried", ", on_lost => 'retry'"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (row.get::<i64, _>("fence"), row.get::<i32, _>("attempt")),
        (2, 2)
    );
    assert_eq!(refused(&mut sql, &end("retried", 1)).await, "OC004");
    run(&mut sql, &end("retried", 2)).await.expect("an end");
    run(
        &mut sql,
        r#"select hookonce.complete('r', 's', 1, error => '{"code": "no"}')"#,
    )
    .await
    .expect("an end");
    assert_eq!(status(&mut sql, &claim("s", "")).await, "failed");
    assert_eq!(app.count("select count(*) from emitted").await, 0);
    role.drop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_role_may_do_nothing_else() {
    let app = spawn_app(&config(&[])).await;
    let role = Role::new(&app).await;
    let mut sql = role.connect().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select oid::regclass::text from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')",
    )
    .fetch_all(&app.pool)
    .await
    .expect("the tables");
    assert!(
        tables.len() > 15 && tables.iter().any(|table| table == "token"),
        "{tables:?}"
    );
    for table in tables {
        for statement in ["select from", "delete from", "insert into"] {
            let end = if statement == "insert into" {
                "default values"
            } else {
                ""
            };
            let statement = format!("{statement} {table} {end}");
            assert_eq!(refused(&mut sql, &statement).await, "42501", "{statement}");
        }
    }
    for statement in [
        "create table public.mine (a int)",
        "create function hookonce.mine() returns int language sql as 'select 1'",
        "create or replace function hookonce.emit(source text, type text, key text, body json) returns text language sql as 'select 1'",
        "create schema mine",
        "select public.hookonce_emit('', 'ledger', null, 'k', '1')",
        "alter table step disable trigger all",
        "create role another",
    ] {
        assert_eq!(refused(&mut sql, statement).await, "42501", "{statement}");
    }
    let callable: Vec<String> = sqlx::query_scalar(
        "select format('%s.%s', n.nspname, p.proname) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
          where p.pronamespace in ('hookonce'::regnamespace, 'public'::regnamespace) and has_function_privilege($1, p.oid, 'execute')",
    )
    .bind(&role.name)
    .fetch_all(&app.pool)
    .await
    .expect("the functions");
    let callable: BTreeSet<String> = callable.into_iter().collect();
    let expected = ["claim", "complete", "emit", "handled"].map(|name| format!("hookonce.{name}"));
    assert_eq!(callable, expected.into());
    // Nothing of the caller's own stands before what the functions mean.
    for statement in [
        "create temporary table emitted (like pg_class)",
        "create temporary table dedup_key (key uuid)",
        "create function pg_temp.sha256(bytea) returns bytea language sql as $$ select $1 $$",
        "create function pg_temp.hookonce_key(text, bytea, text) returns uuid language sql as $$ select null::uuid $$",
        "set search_path = pg_temp, public",
    ] {
        run(&mut sql, statement).await.expect("a thing of its own");
    }
    run(&mut sql, "select hookonce.emit('nobody', null, 'k', '1')")
        .await
        .expect("an event");
    assert!(is_true(&mut sql, "select hookonce.handled('e', 'c')").await);
    assert_eq!(app.count("select count(*) from public.emitted").await, 1);
    assert_eq!(app.count("select count(*) from public.dedup_key").await, 1);
    drop(sql);
    role.drop().await;
    app.stop().await;
}

/// Waits until a session of this database waits for a lock.
async fn until_blocked(app: &TestApp) {
    app.until(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
        1,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_transaction_waits_for_the_end_of_the_first() {
    const CLAIM: &str = "select status = 'granted' from hookonce.claim('r', 's')";
    const COMPLETE: &str = "select hookonce.complete('r', 's', 1)";
    const HANDLED: &str = "select hookonce.handled('e', 'billing')";
    let app = spawn_app(&config(&[])).await;
    let role = Role::new(&app).await;
    let (mut first, mut second) = (role.connect().await, role.connect().await);
    for ask in [HANDLED, CLAIM] {
        for end in ["rollback", "commit"] {
            run(&mut first, "begin").await.unwrap();
            assert!(is_true(&mut first, ask).await);
            if ask == CLAIM {
                run(&mut first, COMPLETE).await.unwrap();
            }
            let asked = tokio::spawn(async move {
                run(&mut second, "begin").await.unwrap();
                let is_first = is_true(&mut second, ask).await;
                run(&mut second, "rollback").await.unwrap();
                (is_first, second)
            });
            until_blocked(&app).await;
            run(&mut first, end).await.unwrap();
            let is_first;
            (is_first, second) = asked.await.expect("an answer");
            assert_eq!(is_first, end == "rollback", "{ask} after {end}");
        }
        assert!(!is_true(&mut second, ask).await);
    }
    // Who asks for what was done waits for nobody.
    run(&mut first, "begin").await.unwrap();
    for ask in [HANDLED, CLAIM] {
        assert!(!is_true(&mut first, ask).await);
        assert!(!is_true(&mut second, ask).await);
    }
    run(&mut first, "rollback").await.unwrap();
    // With a snapshot of its own the second one is told to try again.
    run(&mut first, "begin isolation level serializable")
        .await
        .unwrap();
    run(&mut first, "select 1 from pg_class limit 1")
        .await
        .unwrap();
    assert!(is_true(&mut second, "select hookonce.handled('e2', 'billing')").await);
    assert_eq!(
        refused(&mut first, "select hookonce.handled('e2', 'billing')").await,
        "40001"
    );
    drop((first, second));
    role.drop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_claims_over_http_never_waits_for_a_transaction() {
    let app = spawn_app(&config(&[])).await;
    let role = Role::new(&app).await;
    let short = |id: &str| json!({ "claim_id": id, "lease_ms": 1, "on_lost": "retry" });
    let long = |id: &str| json!({ "claim_id": id });
    assert_eq!(app.step("lapsed", "claim", short("a")).await.status, 201);
    assert_eq!(app.step("kept", "claim", long("a")).await.status, 201);
    let mut open = role.connect().await;
    run(&mut open, "begin").await.unwrap();
    assert_eq!(
        status(&mut open, "select * from hookonce.claim('r', 'new')").await,
        "granted"
    );
    for step in ["lapsed", "kept"] {
        let end = format!("select hookonce.complete('r', '{step}', 1, '7')");
        run(&mut open, &end).await.unwrap();
    }
    for step in ["new", "lapsed"] {
        let said = app.step(step, "claim", long("b")).await;
        assert_eq!(
            (said.status, kind(&said).as_str()),
            (409, "step-running"),
            "{said:?}"
        );
    }
    let beat = app
        .step(
            "kept",
            "heartbeat",
            json!({ "fence": 1, "lease_ms": 60_000 }),
        )
        .await;
    assert_eq!(beat.status, 200, "{beat:?}");
    assert_eq!(app.step("other", "claim", long("b")).await.status, 201);
    let waiting = json!({ "claim_id": "w", "wait_ms": 20_000 });
    let (end, waited) = tokio::join!(
        async {
            run(&mut open, "select hookonce.complete('r', 'new', 1, '8')")
                .await
                .unwrap();
            run(&mut open, "commit").await
        },
        app.step("new", "claim", waiting),
    );
    end.expect("the commit");
    assert_eq!(
        (waited.status, &waited.json()["result"]),
        (200, &json!(8)),
        "{waited:?}"
    );
    let said = app.step("lapsed", "claim", long("b")).await;
    assert_eq!(
        (said.status, &said.json()["result"]),
        (200, &json!(7)),
        "{said:?}"
    );
    drop(open);
    role.drop().await;
    app.stop().await;
}

/// What a database whose owner is named hookonce has in the schema of that name: by the usual path
/// new tables would be made there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_stay_together_beside_the_schema_of_the_functions() {
    let app = spawn_on(&config(&[]), empty_database().await).await;
    let made = "select count(*) from pg_class where relnamespace = 'hookonce'::regnamespace";
    assert_eq!(app.count(made).await, 0);
    let days = "select count(*) from pg_class where relname like 'event\\_2%' and relkind = 'r' and relnamespace = 'public'::regnamespace";
    assert!(app.count(days).await > 7);
    let again = app.database_url.clone();
    app.stop().await;
    // Another start finds all of it, whatever the path of its role says.
    let app = spawn_on(&config(&[]), again).await;
    assert_eq!(app.count(made).await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_routes_are_those_of_the_service() {
    let app = spawn_app(&config(&[])).await;
    let of = |domain: &str, source: &str, value: &str| {
        sqlx::query_scalar("select hookonce_key($1, replace($2, '|', E'\\x01')::bytea, $3)")
            .bind(domain.to_owned())
            .bind(source.to_owned())
            .bind(value.to_owned())
    };
    let found: Uuid = of("run", "acme", "order ü 1")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!(found, run_key("acme", "order ü 1").0);
    let found: Uuid = of("key", "ledger", "k").fetch_one(&app.pool).await.unwrap();
    assert_eq!(found, key_of("ledger", "k").0);
    let mut owner = PgConnection::connect(&app.database_url).await.unwrap();
    run(
        &mut owner,
        "select hookonce.claim('a/b%', 's', tenant => 'te/nant')",
    )
    .await
    .unwrap();
    run(&mut owner, "begin").await.unwrap();
    let complete = r#"select hookonce.complete('a/b%', 's', 1, emit => '[{"data": 1}, {"key": "k", "data": 2}]', tenant => 'te/nant')"#;
    run(&mut owner, complete).await.unwrap();
    let keys: Vec<(Uuid, String)> =
        sqlx::query_as("select key, event_key from emitted order by seq")
            .fetch_all(&mut owner)
            .await
            .unwrap();
    let expected = ["te%2Fnant/a%2Fb%25/s/0", "te%2Fnant/k"]
        .map(|key| (emitted_key_of("ledger", "te/nant", key).0, key.to_owned()));
    assert_eq!(keys, expected);
    run(&mut owner, "rollback").await.unwrap();
    let id: Uuid = sqlx::query_scalar("select hookonce_new_id()")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!(
        (id.get_version_num(), id.get_variant()),
        (7, uuid::Variant::RFC4122)
    );
    let (seconds, _) = id.get_timestamp().expect("a time").to_unix();
    assert!(seconds.abs_diff(u64::try_from(now_unix()).unwrap()) < 60);

    let routed = settings(
        &(config(&[("h", "http://127.0.0.1:9/", "")])
            + r#"
[destinations.i]
url = "http://127.0.0.1:9/i"
[[routes]]
source = "ledger"
types = ["a.*", "a.b", 'x_%\y', "é*"]
destination = "h"
[[routes]]
source = "ledger"
destination = "i"
"#),
    );
    let like = LikeRoutes::of(&routed);
    for event_type in [
        None,
        Some("a.b"),
        Some("a."),
        Some("ab"),
        Some(r"x_%\y"),
        Some("xa%\\y"),
        Some("x_bb\\y"),
        Some("éa"),
        Some("A.b"),
    ] {
        let destinations: Vec<String> = sqlx::query_scalar(
            "select distinct destination from unnest($1::text[], $2::text[], $3::text[]) as r (source, pattern, destination)
              where source = 'ledger' and (pattern is null or coalesce($4, '') like pattern) order by 1",
        )
        .bind(&like.sources)
        .bind(&like.patterns)
        .bind(&like.destinations)
        .bind(event_type)
        .fetch_all(&app.pool)
        .await
        .expect("the routes");
        let expected = Routes::of(&routed, "ledger");
        let expected: Vec<&str> = expected
            .destinations(event_type)
            .into_iter()
            .map(|name| &**name)
            .collect();
        assert_eq!(destinations, expected, "{event_type:?}");
    }
    assert_eq!(TypeGlob::new(r"a_%\*").to_like(), r"a\_\%\\%");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_recorded_once_and_wait_for_their_source() {
    let handler = Handler::start(Vec::new()).await;
    let before = with_ledger_route(&handler);
    let app = spawn_app(&before).await;
    let mut sql = PgConnection::connect(&app.database_url).await.unwrap();
    run(&mut sql, "begin").await.unwrap();
    for (source, key, body) in [
        ("ledger", "k", "1"),
        ("ledger", "k", "1"),
        ("ledger", "k", "2"),
        ("ledger", "l", "3"),
        ("shop", "k", "4"),
    ] {
        run(
            &mut sql,
            &format!("select hookonce.emit('{source}', 'a', '{key}', '{body}')"),
        )
        .await
        .unwrap();
    }
    assert_eq!(app.count("select count(*) from emitted").await, 0);
    run(&mut sql, "commit").await.unwrap();
    app.until("select count(*) from emitted where held_at is null", 0)
        .await;
    let bodies = |received: Vec<Received>| -> BTreeSet<String> {
        received
            .iter()
            .map(|one| String::from_utf8_lossy(&one.body).into_owned())
            .collect()
    };
    assert_eq!(
        bodies(handler.received(2).await),
        ["1", "3"].map(str::to_owned).into()
    );
    assert_eq!(app.count("select count(*) from event").await, 2);
    assert_eq!(
        app.count("select count(*) from conflict where event_key = 'k' and body = '2'")
            .await,
        1
    );
    // In the order in which they were emitted, and just now.
    assert_eq!(app.count("select count(*) from (select body < lead(body) over (order by id) as rises from event) e where rises").await, 1);
    assert_eq!(
        app.count("select count(*) from emitted where held_at is not null and source = 'shop'")
            .await,
        1
    );

    let shop = "[sources.shop]\nprovider = \"github\"\nsecret = \"s\"\n[[routes]]\nsource = \"shop\"\ntypes = [\"a*\"]\ndestination = \"h\"\n";
    let scopes = "[[ledger.scopes]]\nrun = \"nightly-*\"\nkeep = \"7d\"\n";
    app.app
        .reload(settings(&(before + shop + scopes)))
        .expect("a reload");
    assert_eq!(
        bodies(handler.received(3).await),
        ["1", "3", "4"].map(str::to_owned).into()
    );
    app.until("select count(*) from emitted", 0).await;
    app.until(
        "select count(*) from sql_terms where scope_runs = '{nightly-%}'",
        1,
    )
    .await;
    for run_name in ["nightly-1", "daily-1"] {
        run(
            &mut sql,
            &format!("select hookonce.claim('{run_name}', 's')"),
        )
        .await
        .unwrap();
        run(
            &mut sql,
            &format!("select hookonce.complete('{run_name}', 's', 1)"),
        )
        .await
        .unwrap();
    }
    let kept = "select count(*) from step where round(extract(epoch from expires_at - ended_at) / 86400) = (case when run like 'n%' then 7 else 30 end)";
    assert_eq!(app.count(kept).await, 2);
    app.stop().await;
}

const WORKERS: usize = 4;
const RUNS: usize = 150;

/// One transaction: claim, effect, end, and perhaps its own end before that. True if the step is
/// done now.
async fn work(sql: &mut PgConnection, run_name: &str, fate: f64) -> Result<bool, sqlx::Error> {
    let mut step = sql.begin().await?;
    let claimed = format!("select status, fence from hookonce.claim('{run_name}', 's')");
    let row = run(&mut step, &claimed).await?.expect("a claim");
    if row.get::<String, _>("status") == "done" {
        step.commit().await?;
        return Ok(true);
    }
    let first = format!("select hookonce.handled('{run_name}', 'storm')");
    assert!(
        is_true_or(&mut step, &first).await?,
        "{run_name} was handled without its record"
    );
    run(
        &mut step,
        &format!("insert into public.effect values ('{run_name}')"),
    )
    .await?;
    if fate < 0.1 {
        step.rollback().await?;
        return Ok(false);
    }
    let fence: i64 = row.get("fence");
    run(
        &mut step,
        &format!(r#"select hookonce.complete('{run_name}', 's', {fence}, '1', '[{{"type": "a", "data": "{run_name}"}}]')"#),
    )
    .await?;
    run(
        &mut step,
        &format!("select hookonce.emit('ledger', 'b', 'b-{run_name}', '1')"),
    )
    .await?;
    if fate < 0.2 {
        step.rollback().await?;
        return Ok(false);
    }
    step.commit().await?;
    Ok(true)
}

async fn is_true_or(sql: &mut PgConnection, statement: &str) -> Result<bool, sqlx::Error> {
    Ok(run(sql, statement).await?.expect("a row").get(0))
}

/// Effects, records and events of one snapshot.
const TOGETHER: &str = "select count(*) from (
    select (select count(*) from public.effect) as effects, (select count(*) from step where state = 'done') as records,
           (select count(*) from dedup_key) as handled,
           (select count(*) from emitted where event_type = 'a') + (select count(*) from event where event_type = 'a') as a,
           (select count(*) from emitted where event_type = 'b') + (select count(*) from event where event_type = 'b') as b,
           (select count(*) from step where state <> 'done') as others) c
    where effects <> records or effects <> handled or effects <> a or effects <> b or others > 0";

async fn worker(
    role: Arc<Role>,
    at: usize,
    pids: Arc<[AtomicI32; WORKERS]>,
    cut: Arc<AtomicUsize>,
) {
    let mut left: Vec<String> = (0..RUNS)
        .map(|n| format!("run-{}", (n + at * 31) % RUNS))
        .collect();
    let mut sql = None;
    while let Some(run_name) = left.last() {
        let connection = match &mut sql {
            Some(connection) => connection,
            None => {
                let mut opened = role.connect().await;
                let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
                    .fetch_one(&mut opened)
                    .await
                    .unwrap_or_default();
                pids[at].store(pid, Ordering::Relaxed);
                sql.insert(opened)
            }
        };
        let fate = chance::fraction();
        let worked = work(connection, run_name, fate);
        let cut_after =
            (fate > 0.8).then(|| Duration::from_micros((chance::fraction() * 4000.0) as u64));
        let done = match cut_after {
            // The future is dropped where it stands, and the connection with it: the client is gone.
            Some(after) => tokio::time::timeout(after, worked).await.ok(),
            None => Some(worked.await),
        };
        match done {
            Some(Ok(true)) => drop(left.pop()),
            Some(Ok(false)) => {}
            Some(Err(sqlx::Error::Database(error)))
                if error
                    .code()
                    .is_some_and(|code| &code[..2] == "OC" || code == "22023") =>
            {
                panic!("{error}")
            }
            Some(Err(_)) | None => {
                cut.fetch_add(1, Ordering::Relaxed);
                sql = None;
            }
        }
    }
}

/// Workers whose connections are dropped, whose backends are terminated and who roll back, at
/// random, until all steps are done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_nothing_is_there_without_the_other() {
    let handler = Handler::start(Vec::new()).await;
    let app = spawn_app(&with_ledger_route(&handler)).await;
    let role = Role::new(&app).await;
    let mut owner = PgConnection::connect(&app.database_url).await.unwrap();
    run(&mut owner, "create table public.effect (run text)")
        .await
        .unwrap();
    run(
        &mut owner,
        &format!("grant insert on public.effect to {}", role.name),
    )
    .await
    .unwrap();
    let (role, pids, cut) = (
        Arc::new(role),
        Arc::new([const { AtomicI32::new(0) }; WORKERS]),
        Arc::new(AtomicUsize::new(0)),
    );
    let over = Arc::new(AtomicBool::new(false));
    let (killed, looked) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let killer = tokio::spawn({
        let (pids, over, killed, looked, pool) = (
            pids.clone(),
            over.clone(),
            killed.clone(),
            looked.clone(),
            app.pool.clone(),
        );
        async move {
            while !over.load(Ordering::Relaxed) {
                let apart: i64 = sqlx::query_scalar(TOGETHER)
                    .fetch_one(&pool)
                    .await
                    .expect("a look");
                assert_eq!(apart, 0);
                *looked.lock().unwrap() += 1;
                let pid =
                    pids[(chance::fraction() * WORKERS as f64) as usize].load(Ordering::Relaxed);
                let kill = sqlx::query_scalar(
                    "select coalesce(pg_terminate_backend(nullif($1, 0)), false)",
                )
                .bind(pid);
                if kill.fetch_one(&pool).await.unwrap_or(false) {
                    *killed.lock().unwrap() += 1;
                }
            }
        }
    });
    let mut workers = JoinSet::new();
    for at in 0..WORKERS {
        workers.spawn(worker(role.clone(), at, pids.clone(), cut.clone()));
    }
    tokio::time::timeout(LONG * 4, workers.join_all())
        .await
        .expect("all done");
    over.store(true, Ordering::Relaxed);
    killer.await.expect("nothing is there alone");
    app.until("select count(*) from emitted", 0).await;
    assert_eq!(app.count(TOGETHER).await, 0);
    let runs = i64::try_from(RUNS).unwrap();
    assert_eq!(
        app.count("select count(distinct run) from public.effect")
            .await,
        runs
    );
    assert_eq!(app.count("select count(*) from public.effect").await, runs);
    let received = handler.received(2 * RUNS).await;
    let ids: BTreeSet<&str> = received
        .iter()
        .filter_map(|one| one.header("webhook-id"))
        .collect();
    assert_eq!(ids.len(), 2 * RUNS);
    let (killed, cut, looked) = (
        *killed.lock().unwrap(),
        cut.load(Ordering::Relaxed),
        *looked.lock().unwrap(),
    );
    println!("{RUNS} steps, {killed} backends terminated, {cut} transactions cut, {looked} looks");
    assert!(killed > 5 && cut > 5 && looked > 5);
    if let Some(role) = Arc::into_inner(role) {
        sqlx::query("drop table public.effect")
            .execute(&app.pool)
            .await
            .unwrap();
        role.drop().await;
    }
    app.stop().await;
}
