//! Plans that no statistics may spoil: those of an outbox where all was pending, or nothing, when PostgreSQL last looked.

use hookonce::store::{
    outbox::{self, Finish, Finished},
    schema,
};
use sqlx::{AssertSqlSafe, PgPool, Row as _};
use uuid::Uuid;

use crate::app::*;

const PENDING: &str = "insert into outbox (id, key, event_id, source, destination, body_bytes, state, epoch)
    select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 's', 'd', 1, 'pending', 0 from generate_series(1, 5000)";
const LEASED: &str = "update outbox set state = 'leased', lease_until = now() + interval '1 hour', node = gen_random_uuid()";

async fn run(pool: &PgPool, sql: &'static str) {
    sqlx::raw_sql(sql).execute(pool).await.expect("SQL");
}

/// The plan, whatever the values, of the statement with this in it that the pool's one connection has prepared.
async fn plan_of(pool: &PgPool, part: &str) -> String {
    run(pool, "set plan_cache_mode = force_generic_plan").await;
    let prepared = "select name, cardinality(parameter_types) from pg_prepared_statements where statement like $1 and statement not like '%pg_prepared%'";
    let row = sqlx::query(prepared).bind(format!("%{part}%")).fetch_one(pool).await.expect("the statement");
    let (name, parameters): (String, i32) = (row.get(0), row.get(1));
    let nulls = vec!["null"; usize::try_from(parameters).expect("a number")].join(", ");
    let lines = sqlx::raw_sql(AssertSqlSafe(format!("explain execute {name} ({nulls})"))).fetch_all(pool).await.expect("a plan");
    lines.iter().map(|line| line.get::<String, _>(0) + "\n").collect()
}

fn reads_by_primary_key(plan: &str) -> bool {
    plan.contains("outbox_pkey") && !plan.contains("outbox_due") && !plan.contains("outbox_lease") && !plan.contains("Seq Scan on outbox")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_end_without_comparing_each_with_each() {
    let options = schema::connect_options(&database().await).expect("a URL");
    let pool = schema::finishing_pool(&options);
    run(&pool, PENDING).await;
    run(&pool, "analyze outbox").await;
    let gone = Finished { id: Uuid::now_v7(), key: Uuid::now_v7(), epoch: 1, number: 1, finish: Finish::Release(0.0) };
    assert!(outbox::finish(&pool, &[gone]).await.expect("a finish").is_empty());
    let plan = plan_of(&pool, "archived as").await;
    assert!(!plan.contains("Nested Loop") && reads_by_primary_key(&plan), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_are_claimed_by_their_primary_key() {
    let options = schema::connect_options(&database().await).expect("a URL");
    let pool = schema::pool(options, 1).await.expect("a pool");
    run(&pool, PENDING).await;
    let claimed = outbox::claim(&pool, Uuid::now_v7(), 30.0, &[("d", 10)], 1 << 20).await.expect("a claim");
    assert_eq!(claimed.len(), 10);
    run(&pool, LEASED).await;
    run(&pool, "analyze outbox").await;
    let plan = plan_of(&pool, "left join event").await;
    assert!(plan.contains("hashed SubPlan") && reads_by_primary_key(&plan), "{plan}");
}
