//! A node whose clock is not the database's.

use std::sync::atomic::Ordering;

use hookonce::{clock::Clock, event::id_floor};
use reqwest::Method;
use uuid::Uuid;

use crate::app::*;

const HOUR_MS: i64 = 3_600_000;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

async fn readiness(app: &TestApp) -> (u16, serde_json::Value) {
    let answer = app
        .http
        .get(format!("{}/readyz", app.url))
        .send()
        .await
        .expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

/// Asks until it says, or no longer says, that the clock is off.
async fn until_skewed_is(app: &TestApp, skewed: bool) -> i64 {
    let poll = async {
        loop {
            let (status, said) = readiness(app).await;
            assert_eq!(
                (status, &said["status"]),
                (200, &"ready".into()),
                "a clock that is off is no reason to take no events"
            );
            if said["clock_skew_ms"].is_i64() == skewed {
                return said["clock_skew_ms"].as_i64().unwrap_or_default();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, poll)
        .await
        .expect("it is said in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_off_is_said_by_readiness_and_stops_nothing() {
    let Clock::Fixed(now) = Clock::fixed(Clock::System.unix_ms() + HOUR_MS) else {
        unreachable!()
    };
    let app = spawn_with(&config(&[]), database().await, Clock::Fixed(now.clone())).await;
    let said = until_skewed_is(&app, true).await;
    assert!((HOUR_MS - 60_000..=HOUR_MS).contains(&said), "{said}");
    let metrics = |token| {
        app.http
            .get(format!("{}/metrics", app.admin))
            .bearer_auth(token)
            .send()
    };
    assert_eq!(metrics("wrong").await.expect("an answer").status(), 401);
    let scraped = metrics(TOKEN)
        .await
        .expect("an answer")
        .text()
        .await
        .expect("a text");
    let measured: f64 = scraped
        .lines()
        .find_map(|line| line.strip_prefix("hookonce_clock_skew_seconds "))
        .expect("a sample")
        .parse()
        .expect("a number");
    assert!((3540.0..=3600.0).contains(&measured), "{scraped}");
    assert_eq!(app.github("d-1", "{}").await.word(), "accepted");
    // More than the test may take is allowed.
    let allowed = config(&[]) + "[database]\nclock_skew_max = \"2h\"\n";
    let other = spawn_with(
        &allowed,
        app.database_url.clone(),
        Clock::Fixed(now.clone()),
    )
    .await;
    assert_eq!(
        readiness(&other).await.1["clock_skew_ms"],
        serde_json::Value::Null
    );
    now.store(Clock::System.unix_ms() + 1000, Ordering::Relaxed);
    until_skewed_is(&app, false).await;
    app.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_a_clock_that_has_leapt_stand_where_the_database_received_them() {
    let leapt = Clock::fixed(Clock::System.unix_ms() + YEAR_MS);
    let url = database().await;
    let leapt = spawn_with(&config(&[]), url.clone(), leapt).await;
    let right = spawn_on(&config(&[]), url).await;
    let during = leapt.github("d-1", r#"{"n":1}"#).await.event();
    let after = right.github("d-2", r#"{"n":2}"#).await.event();
    let sql = "select count(*) from event where abs(extract(epoch from received_at) * 1000 - ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint) < 60000";
    assert_eq!(leapt.count(sql).await, 2);
    assert!(
        during < after
            && after
                < id_floor(u64::try_from(Clock::System.unix_ms() + HOUR_MS).expect("after 1970"))
    );
    for app in [&leapt, &right] {
        let listed = app.api(Method::GET, "/events?since=1h", None).await.json();
        let ids: Vec<Uuid> = listed["items"]
            .as_array()
            .expect("events")
            .iter()
            .map(|event| event["id"].as_str().expect("an id").parse().expect("an id"))
            .collect();
        assert_eq!(
            ids,
            [after, during],
            "the newest first, and an hour ago is the database's"
        );
    }
    leapt.stop().await;
    right.stop().await;
}
