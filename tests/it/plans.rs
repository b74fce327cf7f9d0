//! Plans that no statistics may spoil: none at all, or those of an outbox where all was pending, or
//! nothing, when PostgreSQL last looked.

use hookonce::{
    handoff::Leased,
    store::{
        delivery::{self, Finish, Finished},
        link::{self, Db},
        schema,
    },
};
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use crate::app::*;

const PENDING: &str = "insert into outbox (id, key, event_id, source, destination, body_bytes, state, epoch)
    select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 's', 'd', 1, 'pending', 0 from generate_series(1, 5000)";
const EVENTS: &str = "insert into event (id, key, source, event_key, headers, body, body_digest)
    select event_id, key, 's', id::text, '[]', '', decode(repeat('00', 32), 'hex') from outbox";
const LEASED: &str = "update outbox set state = 'leased', lease_until = now() + interval '1 hour', node = gen_random_uuid();
    analyze outbox, event";
const CUSTOM: &str = "set plan_cache_mode = force_custom_plan";
const GENERIC: &str = "set plan_cache_mode = force_generic_plan";
/// Parameters of the statement that ends deliveries.
const FINISH_PARAMETERS: usize = 13;

async fn run(pool: &Db, sql: &'static str) {
    sqlx::raw_sql(sql).execute(pool).await.expect("SQL");
}

/// The plan for these arguments of the statement with this in it that the pool's one connection has
/// prepared.
async fn plan_of(pool: &Db, part: &str, arguments: &[String]) -> String {
    let prepared = "select name from pg_prepared_statements where statement like $1 and statement not like '%pg_prepared%'";
    let name: String = sqlx::query_scalar(prepared)
        .bind(format!("%{part}%"))
        .fetch_one(pool)
        .await
        .expect("the statement");
    let explain = AssertSqlSafe(format!("explain execute {name} ({})", arguments.join(", ")));
    let lines = sqlx::raw_sql(explain)
        .fetch_all(pool)
        .await
        .expect("a plan");
    lines
        .iter()
        .map(|line| line.get::<String, _>(0) + "\n")
        .collect()
}

fn reads_by_primary_key(plan: &str) -> bool {
    plan.contains("outbox_pkey")
        && !plan.contains("outbox_due")
        && !plan.contains("outbox_lease")
        && !plan.contains("Seq Scan on outbox")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_end_without_comparing_each_with_each() {
    let options = link::options(&database().await).expect("a URL");
    let pool = schema::for_finishing(&options).pool(1);
    run(&pool, PENDING).await;
    run(&pool, "analyze outbox").await;
    let gone = Finished {
        id: Uuid::now_v7().into(),
        key: Uuid::now_v7().into(),
        epoch: 1,
        number: 1,
        finish: Finish::Release(0.0),
    };
    assert!(
        delivery::finish(&pool, &[&gone])
            .await
            .expect("a finish")
            .is_empty()
    );
    run(&pool, GENERIC).await;
    let plan = plan_of(
        &pool,
        "archived as",
        &vec!["null".to_owned(); FINISH_PARAMETERS],
    )
    .await;
    assert!(
        !plan.contains("Nested Loop") && reads_by_primary_key(&plan),
        "{plan}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_are_claimed_by_their_primary_key() {
    let options = link::options(&database().await).expect("a URL");
    let pool = schema::claiming_pool(&options);
    run(&pool, PENDING).await;
    run(&pool, EVENTS).await;
    let claimed = delivery::claim(&pool, Uuid::now_v7(), 30.0, &[("d", 1000)], 1 << 20)
        .await
        .expect("a claim");
    assert_eq!(claimed.len(), 1000);
    let array = |of: &dyn Fn(&Leased) -> String| {
        let values: Vec<String> = claimed.iter().map(|(_, leased)| of(leased)).collect();
        format!("'{{{}}}'", values.join(","))
    };
    let (ids, keys) = (
        array(&|leased| leased.id.to_string()),
        array(&|leased| leased.key.0.to_string()),
    );
    let arguments = [
        ids,
        keys,
        array(&|leased| leased.epoch.to_string()),
        "30".into(),
        "null".into(),
    ];
    // Without statistics; with those of another hour; whatever the values.
    for (change, mode) in [("", CUSTOM), (LEASED, CUSTOM), ("", GENERIC)] {
        run(&pool, change).await;
        run(&pool, mode).await;
        let plan = plan_of(&pool, "left join event", &arguments).await;
        assert!(
            plan.contains("hashed SubPlan") && reads_by_primary_key(&plan),
            "{plan}"
        );
        assert!(
            plan.contains("event_default_pkey") && !plan.contains("Seq Scan on event"),
            "{plan}"
        );
        assert!(!plan.contains("Merge") && !plan.contains("Hash "), "{plan}");
    }
}
