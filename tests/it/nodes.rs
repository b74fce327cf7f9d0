//! Several nodes on one database: nothing lives in a node but caches.

use std::collections::BTreeSet;

use reqwest::Method;

use crate::{app::*, process::*};

fn ids(received: &[Received]) -> BTreeSet<String> {
    received
        .iter()
        .filter_map(|request| request.header("webhook-id"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_share_a_backlog_and_do_each_delivery_once() {
    // The same destination, but each node's calls can be told apart.
    let (first, second) = (
        Handler::start(Vec::new()).await,
        Handler::start(Vec::new()).await,
    );
    let one = spawn_app(&config(&[("h", &first.url(), "concurrency = 2")])).await;
    let two = spawn_on(
        &config(&[("h", &second.url(), "concurrency = 2")]),
        one.database_url.clone(),
    )
    .await;
    assert_eq!(
        one.api(Method::POST, "/destinations/h/pause", None)
            .await
            .status,
        200
    );
    one.until("select count(*) from destination_pause", 1).await;
    let tries = (0..400).map(|n| {
        let one = &one;
        async move { one.stripe(&format!("evt_{n}"), "x").await.word() }
    });
    assert!(
        futures_util::future::join_all(tries)
            .await
            .iter()
            .all(|word| word == "accepted")
    );
    one.until("select count(*) from delivery where state = 'paused'", 400)
        .await;
    assert_eq!(first.count() + second.count(), 0);
    assert_eq!(
        one.api(Method::POST, "/destinations/h/resume", None)
            .await
            .status,
        200
    );
    one.until(
        "select count(*) from delivery where state = 'delivered' and attempts = 1",
        400,
    )
    .await;
    let (by_one, by_two) = (first.received(1).await, second.received(1).await);
    assert_eq!(by_one.len() + by_two.len(), 400);
    assert_eq!(ids(&[by_one, by_two].concat()).len(), 400);
    assert_eq!(one.count("select count(*) from attempt").await, 400);
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_duplicates_at_three_nodes_are_one_event_and_one_delivery() {
    let handler = Handler::start(Vec::new()).await;
    let config = config(&[("h", &handler.url(), "")]);
    let one = spawn_app(&config).await;
    let two = spawn_on(&config, one.database_url.clone()).await;
    let three = spawn_on(&config, one.database_url.clone()).await;
    let nodes = [&one, &two, &three];
    let said =
        futures_util::future::join_all((0..1000).map(|n| nodes[n % 3].stripe("evt_1", "x"))).await;
    let words: Vec<String> = said.iter().map(Said::word).collect();
    assert_eq!(words.iter().filter(|word| *word == "accepted").count(), 1);
    assert_eq!(
        words.iter().filter(|word| *word == "duplicate").count(),
        999
    );
    assert_eq!(
        said.iter().map(Said::event).collect::<BTreeSet<_>>().len(),
        1
    );
    one.until("select count(*) from delivery where state = 'delivered'", 1)
        .await;
    for table in [
        "select count(*) from event",
        "select count(*) from event_key",
        "select count(*) from delivery",
    ] {
        assert_eq!(one.count(table).await, 1, "{table}");
    }
    assert_eq!(handler.count(), 1);
    for node in [one, two, three] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stood_still_past_its_lease_changes_nothing_when_it_goes_on() {
    let handler = Handler::start(vec![Reply::Hang]).await;
    let (config, to) = served_config(&handler);
    let stopped = Place::new(&config).await;
    let first = stopped.serve().await;
    stopped.text(&["send", "stripe", "--to", &to]).await;
    handler.received(1).await;
    first.signal("STOP");
    let other = Place::on(&served_config(&handler).0, stopped.database_url.clone());
    let second = other.serve().await;
    let again = handler.received(2).await.remove(1);
    assert_eq!(
        (
            again.header("hookonce-fence"),
            again.header("hookonce-attempt")
        ),
        (Some("2"), Some("1"))
    );
    other
        .until(
            "select count(*) from delivery where state = 'delivered' and epoch = 2",
            1,
        )
        .await;
    handler.release();
    first.signal("CONT");
    stopped
        .logged("completions refused: their leases were lost")
        .await;
    assert_eq!(other.count("select count(*) from attempt").await, 1);
    assert_eq!(other.count("select count(*) from delivery where state = 'delivered' and epoch = 2 and attempts = 1").await, 1);
    for served in [first, second] {
        served.signal("TERM");
        assert!(served.ended().await.success());
    }
    assert_eq!(handler.count(), 2);
}
