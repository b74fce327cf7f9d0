//! Receive, verify, record once, acknowledge.

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use hookonce::event::key_of;
use serde_json::Value;
use uuid::Uuid;

use crate::app::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_is_new_the_second_a_duplicate_another_body_a_conflict() {
    let app = spawn_app(&config(&[])).await;
    let first = app.github("d-1", r#"{"n":1}"#).await;
    let second = app.github("d-1", r#"{"n":1}"#).await;
    let other = app.github("d-1", r#"{"n":2}"#).await;
    assert_eq!(
        (first.word(), second.word(), other.word()),
        ("accepted".into(), "duplicate".into(), "conflict".into())
    );
    assert_eq!(first.headers["hookonce-status"], "accepted");
    assert_eq!(
        first.headers["hookonce-event"],
        first.event().to_string().as_str()
    );
    assert_eq!(
        (second.event(), other.event()),
        (first.event(), first.event())
    );
    assert_eq!(app.count("select count(*) from event").await, 1);
    assert_eq!(
        app.count("select count(*) from conflict where kind = 'other_body'")
            .await,
        1
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_body_under_a_new_unsigned_id_is_an_event_with_a_mark() {
    let handler = Handler::start(Vec::new()).await;
    let app = spawn_app(&config(&[("h", &handler.url(), "")])).await;
    let first = app.github("d-1", r#"{"n":1}"#).await;
    let again = app.github("d-2", r#"{"n":1}"#).await;
    let once_more = app.github("d-2", r#"{"n":1}"#).await;
    assert_eq!(
        (first.word(), again.word(), once_more.word()),
        ("accepted".into(), "accepted".into(), "duplicate".into())
    );
    assert_ne!(again.event(), first.event());
    assert_eq!(once_more.event(), again.event());
    let received = handler.received(2).await;
    let mark = |said: &Said| {
        let of_it = received
            .iter()
            .find(|request| request.header("webhook-id") == Some(&said.event().to_string()));
        of_it
            .expect("the event")
            .header("hookonce-mark")
            .map(str::to_owned)
    };
    assert_eq!(
        (mark(&first), mark(&again)),
        (None, Some("same-body".into()))
    );
    let shown = app
        .api(
            reqwest::Method::GET,
            &format!("/events/{}", again.event()),
            None,
        )
        .await
        .json();
    assert_eq!(shown["mark"], "same-body");
    let sources = app.api(reqwest::Method::GET, "/sources", None).await.json();
    let github = sources["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|source| source["name"] == "github")
        .expect("the source")
        .clone();
    assert_eq!(
        (
            &github["events_24h"],
            &github["marked_24h"],
            &github["conflicts"]
        ),
        (&2.into(), &1.into(), &0.into())
    );
    assert_eq!(app.count("select count(*) from conflict").await, 0);
    app.stop().await;
}

/// GitHub's source with these settings of its own, as `own`.
fn own_github(more: &str) -> String {
    format!(
        "{}[sources.own]\nprovider = \"github\"\nsecret = \"It's a Secret to Everybody\"\n{more}\n",
        config(&[])
    )
}

async fn own(app: &TestApp, id: &str, body: &str) -> Said {
    app.post(
        "/hooks/own",
        &github_headers(GITHUB_SECRET, id, body.as_bytes()),
        body.to_owned(),
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guard_holds_or_is_off_where_a_source_says_so() {
    let app = spawn_app(&own_github("replay_guard = \"hold\"")).await;
    let first = own(&app, "d-1", "{}").await;
    for _ in 0..2 {
        let again = own(&app, "d-2", "{}").await;
        assert_eq!(
            (again.word(), again.event()),
            ("duplicate".into(), first.event())
        );
    }
    assert_eq!(own(&app, "d-3", "").await.word(), "accepted");
    assert_eq!(
        own(&app, "d-4", "").await.word(),
        "accepted",
        "an empty body is nobody's"
    );
    assert_eq!(app.count("select count(*) from event").await, 3);
    assert_eq!(
        app.count("select count(*) from conflict where kind = 'same_body_new_id'")
            .await,
        1
    );
    app.stop().await;

    let app = spawn_app(&own_github("replay_guard = \"off\"")).await;
    assert_eq!(
        (
            own(&app, "d-1", "{}").await.word(),
            own(&app, "d-2", "{}").await.word()
        ),
        ("accepted".into(), "accepted".into())
    );
    assert_eq!(
        app.count("select count(*) from event where mark is null")
            .await,
        2
    );
    assert_eq!(
        app.count("select count(*) from event_key").await,
        2,
        "and nothing is written for it"
    );
    app.stop().await;
}

/// Signed bodies that are alike and come at once, under ids of their own: one batch, which must not
/// fail for it nor take its neighbours along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_alike_may_come_in_one_batch() {
    for (guard, words, events, marked, held) in [
        ("mark", ["accepted"; 3], 6, 2, 0),
        ("hold", ["accepted", "duplicate", "duplicate"], 4, 0, 2),
    ] {
        let app = spawn_app(&own_github(&format!("replay_guard = {guard:?}"))).await;
        let lock = hold(&app).await;
        let ids = ["d-1", "d-2", "d-3"];
        let alike = futures_util::future::join_all(ids.map(|id| own(&app, id, "{}")));
        let others = futures_util::future::join_all(
            ["evt_1", "evt_2", "evt_3"].map(|id| app.stripe(id, "x")),
        );
        let release = async {
            app.until("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'", 1).await;
            lock.release().await;
        };
        let (alike, others, ()) = tokio::join!(alike, others, release);
        let mut said: Vec<String> = alike.iter().map(Said::word).collect();
        said.sort_unstable();
        assert_eq!(said, words, "{guard}");
        assert!(
            others.iter().all(|said| said.word() == "accepted"),
            "{guard}: {others:?}"
        );
        assert_eq!(
            app.count("select count(*) from event").await,
            events,
            "{guard}"
        );
        assert_eq!(
            app.count("select count(*) from event where mark = 'same-body'")
                .await,
            marked,
            "{guard}"
        );
        assert_eq!(
            app.count("select count(*) from conflict where kind = 'same_body_new_id'")
                .await,
            held,
            "{guard}"
        );
        for (id, first) in ids.iter().zip(&alike) {
            let again = own(&app, id, "{}").await;
            assert_eq!(
                (again.word().as_str(), again.event()),
                ("duplicate", first.event()),
                "{guard} {id}"
            );
        }
        app.stop().await;
    }
}

/// Who has seen a signed body sends it under an id that is still to come: the event whose id that
/// is gets to its handler all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unsigned_id_that_was_taken_in_advance_costs_no_event() {
    for guard in ["mark", "hold"] {
        let app = spawn_app(&own_github(&format!("replay_guard = {guard:?}"))).await;
        own(&app, "d-1", r#"{"n":1}"#).await;
        own(&app, "d-2", r#"{"n":1}"#).await;
        let genuine = own(&app, "d-2", r#"{"n":2}"#).await;
        assert_eq!(genuine.word(), "accepted", "{guard}");
        let again = own(&app, "d-2", r#"{"n":2}"#).await;
        assert_eq!(
            (again.word(), again.event()),
            ("duplicate".into(), genuine.event()),
            "{guard}"
        );
        // A chain of them: what came as another body is known as well, and so are those that repeat
        // it.
        own(&app, "d-3", r#"{"n":2}"#).await;
        assert_eq!(
            own(&app, "d-3", r#"{"n":4}"#).await.word(),
            "accepted",
            "{guard}"
        );
        // A known body is held, or has its mark, also where its id was taken before.
        let known = own(&app, "d-2", r#"{"n":4}"#).await;
        let (word, mark) = if guard == "hold" {
            ("duplicate", Value::Null)
        } else {
            ("accepted", "same-body".into())
        };
        assert_eq!(known.word(), word, "{guard}");
        let shown = app
            .api(
                reqwest::Method::GET,
                &format!("/events/{}", known.event()),
                None,
            )
            .await
            .json();
        assert_eq!(
            shown["mark"],
            if guard == "hold" {
                "other-body".into()
            } else {
                mark
            },
            "{guard}"
        );
        // Where nothing is in doubt, another body is what it was.
        assert_eq!(
            own(&app, "d-1", r#"{"n":3}"#).await.word(),
            "conflict",
            "{guard}"
        );
        app.stop().await;
    }
}

/// Killed after its key was taken and before it was kept: no event has the key, and the next try is
/// kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_to_be_held_when_its_node_was_killed_is_held_when_it_comes_again() {
    let app = spawn_app(&own_github("replay_guard = \"hold\"")).await;
    let first = own(&app, "d-1", "{}").await;
    let of_first: String = sqlx::query_scalar("select event_key from event")
        .fetch_one(&app.pool)
        .await
        .expect("a key");
    let taken = "insert into event_key (key, event_id, body_digest, expires_at) \
                 select $1, gen_random_uuid(), body_digest, expires_at from event_key where key = $2";
    let keys =
        [of_first.replace("d-1", "d-2"), of_first].map(|event_key| key_of("own", &event_key));
    let taken = sqlx::query(taken)
        .bind(keys[0].0)
        .bind(keys[1].0)
        .execute(&app.pool)
        .await
        .expect("a key");
    assert_eq!(taken.rows_affected(), 1);
    for _ in 0..2 {
        let again = own(&app, "d-2", "{}").await;
        assert_eq!(
            (again.word(), again.event()),
            ("duplicate".into(), first.event())
        );
    }
    assert_eq!(
        app.count("select count(*) from conflict where kind = 'same_body_new_id'")
            .await,
        1
    );
    app.stop().await;
}

/// What a reload changes counts at once, for what is in memory as for what is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_rules_make_other_events_of_the_same_requests() {
    for (before, after, body) in [
        (
            "dedup = \"body\"",
            "key = \"body:id\"",
            r#"{"status":"paid"}"#,
        ),
        (
            "key = \"body:order\"",
            "key = \"body:event\"",
            r#"{"order":1001,"event":1001}"#,
        ),
        (
            "scheme = { key = \"body:order\" }",
            "scheme = { key = \"body:event\" }",
            r#"{"order":1001,"event":1001}"#,
        ),
    ] {
        let app = spawn_app(&own_github(&format!("{before}\nreplay_guard = \"off\""))).await;
        assert_eq!(
            (
                own(&app, "d-1", body).await.word(),
                own(&app, "d-1", body).await.word()
            ),
            ("accepted".into(), "duplicate".into())
        );
        app.app
            .reload(settings(&own_github(&format!(
                "{after}\nreplay_guard = \"off\""
            ))))
            .expect("new settings");
        assert_eq!(
            own(&app, "d-1", body).await.word(),
            "accepted",
            "{before}, {after}"
        );
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_of_seconds_ends_when_it_says() {
    let app = spawn_app(&own_github("window = \"1s\"")).await;
    let handled = |first: Uuid, said: &Said| (said.word(), said.event() == first);
    let first = own(&app, "d-1", "{}").await;
    assert_eq!(
        handled(first.event(), &own(&app, "d-1", "{}").await),
        ("duplicate".into(), true)
    );
    assert_eq!(
        app.count("select count(*) from event_key").await,
        2,
        "the key and the guard's"
    );
    app.until("select count(*) from event_key where expires_at > now()", 0)
        .await;
    let again = own(&app, "d-1", "{}").await;
    assert_eq!(
        (again.word(), again.event() == first.event()),
        ("accepted".into(), false)
    );
    assert_eq!(
        app.count("select count(*) from event where mark is not null")
            .await,
        0,
        "the guard forgets as well"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_has_expired_is_taken_by_one_of_many_nodes() {
    let before = spawn_app(&own_github("")).await;
    own(&before, "d-1", "{}").await;
    sqlx::query("update event_key set expires_at = now() - interval '1 second'")
        .execute(&before.pool)
        .await
        .expect("the keys");
    // Nodes that do not know it from before.
    let nodes = [
        spawn_on(&own_github(""), before.database_url.clone()).await,
        spawn_on(&own_github(""), before.database_url.clone()).await,
    ];
    let tries = (0..20).map(|n| own(&nodes[n % 2], "d-1", "{}"));
    let tries = futures_util::future::join_all(tries).await;
    let new: Vec<&Said> = tries
        .iter()
        .filter(|said| said.word() == "accepted")
        .collect();
    assert_eq!(new.len(), 1, "one of them is the new first");
    assert!(tries.iter().all(|said| said.event() == new[0].event()));
    assert_eq!(
        before
            .count("select count(*) from event where mark is not null")
            .await,
        0
    );
    for app in nodes.into_iter().chain([before]) {
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_says_what_makes_two_requests_one_event() {
    for (settings, first, second, expected) in [
        ("dedup = \"none\"", ("d-1", "{}"), ("d-1", "{}"), "accepted"),
        (
            "dedup = \"body\"",
            ("d-1", "{}"),
            ("d-2", "{}"),
            "duplicate",
        ),
        (
            "dedup = \"body\"",
            ("d-1", "{}"),
            ("d-1", "{ }"),
            "accepted",
        ),
        (
            "key = [\"body:id\", \"body:n\"]",
            ("d-1", r#"{"id":1,"n":1}"#),
            ("d-1", r#"{"id":1,"n":2}"#),
            "accepted",
        ),
        (
            "key = [\"body:id\", \"body:n\"]",
            ("d-1", r#"{"id":1,"n":1}"#),
            ("d-2", r#"{"id":1,"n":1}"#),
            "duplicate",
        ),
        (
            "ignore = [\"body:/try\"]",
            ("d-1", r#"{"id":1,"try":1}"#),
            ("d-1", r#"{"id":1,"try":2}"#),
            "duplicate",
        ),
        (
            "on_conflict = \"relay\"",
            ("d-1", r#"{"n":1}"#),
            ("d-1", r#"{"n":2}"#),
            "accepted",
        ),
        (
            "on_conflict = \"drop\"",
            ("d-1", r#"{"n":1}"#),
            ("d-1", r#"{"n":2}"#),
            "conflict",
        ),
    ] {
        let app = spawn_app(&own_github(settings)).await;
        assert_eq!(
            own(&app, first.0, first.1).await.word(),
            "accepted",
            "{settings}"
        );
        assert_eq!(
            own(&app, second.0, second.1).await.word(),
            expected,
            "{settings}"
        );
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_body_that_is_relayed_is_an_event_once() {
    let app = spawn_app(&own_github("on_conflict = \"relay\"")).await;
    let first = own(&app, "d-1", r#"{"n":1}"#).await;
    let tries = futures_util::future::join_all((0..20).map(|n| {
        own(
            &app,
            "d-1",
            if n % 2 == 0 {
                r#"{"n":2}"#
            } else {
                r#"{"n":3}"#
            },
        )
    }))
    .await;
    let new: Vec<Uuid> = tries
        .iter()
        .filter(|said| said.word() == "accepted")
        .map(Said::event)
        .collect();
    assert_eq!(new.len(), 2, "each body once");
    assert!(tries.iter().all(|said| new.contains(&said.event())));
    let again = own(&app, "d-1", r#"{"n":1}"#).await;
    assert_eq!(
        (again.word(), again.event()),
        ("duplicate".into(), first.event())
    );
    assert_eq!(
        app.count("select count(*) from event where mark = 'other-body'")
            .await,
        2
    );
    assert_eq!(app.count("select count(*) from conflict").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_that_are_ignored_later_are_ignored_in_what_was_recorded_before() {
    let before = spawn_app(&own_github("")).await;
    let first = own(&before, "d-1", r#"{"id":1,"try":1}"#).await;
    let now = spawn_on(
        &own_github("ignore = [\"body:/try\"]"),
        before.database_url.clone(),
    )
    .await;
    for _ in 0..2 {
        let again = own(&now, "d-1", r#"{"id":1,"try":2}"#).await;
        assert_eq!(
            (again.word(), again.event()),
            ("duplicate".into(), first.event())
        );
    }
    assert_eq!(
        own(&now, "d-1", r#"{"id":2,"try":2}"#).await.word(),
        "conflict"
    );
    before.stop().await;
    now.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_remembered_for_its_sources_window_and_no_shorter_than_the_provider_sends() {
    let own = "[sources.brief]\nprovider = \"github\"\nsecret = \"It's a Secret to Everybody\"\nwindow = \"2h\"\n";
    let app = spawn_app(&format!("{}{own}[retention]\nkeys = \"1d\"\n", config(&[]))).await;
    app.github("d-1", "{}").await;
    app.stripe("evt_1", "charge.succeeded").await;
    app.post(
        "/hooks/brief",
        &github_headers(GITHUB_SECRET, "d-1", b"{}"),
        "{}",
    )
    .await;
    let hours = "select string_agg(distinct hours::text, ' ' order by hours::text) from \
                 (select round(extract(epoch from expires_at - now()) / 3600) as hours from event_key) as key";
    let hours: String = sqlx::query_scalar(hours)
        .fetch_one(&app.pool)
        .await
        .expect("hours");
    assert_eq!(
        hours, "2 72",
        "the source's own; the three days that GitHub and Stripe go on sending"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_at_once_are_one_event_and_one_delivery() {
    let handler = Handler::start(Vec::new()).await;
    let app = spawn_app(&config(&[("h", &handler.url(), "")])).await;
    let tries = (0..500).map(|_| app.stripe("evt_1", "charge.succeeded"));
    let words: Vec<String> = futures_util::future::join_all(tries)
        .await
        .iter()
        .map(Said::word)
        .collect();
    assert_eq!(words.iter().filter(|word| *word == "accepted").count(), 1);
    assert_eq!(
        words.iter().filter(|word| *word == "duplicate").count(),
        499
    );
    app.until("select count(*) from delivery where state = 'delivered'", 1)
        .await;
    assert_eq!(app.count("select count(*) from event").await, 1);
    assert_eq!(app.count("select count(*) from delivery").await, 1);
    assert_eq!(handler.count(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_on_one_database_agree_on_what_is_new() {
    let handler = Handler::start(Vec::new()).await;
    let config = config(&[("h", &handler.url(), "")]);
    let one = spawn_app(&config).await;
    let two = spawn_on(&config, one.database_url.clone()).await;
    let ids: Vec<String> = (0..50).map(|n| format!("evt_{n}")).collect();
    let tries = ids
        .iter()
        .flat_map(|id| [one.stripe(id, "x"), two.stripe(id, "x")]);
    let words: Vec<String> = futures_util::future::join_all(tries)
        .await
        .iter()
        .map(Said::word)
        .collect();
    assert_eq!(words.iter().filter(|word| *word == "accepted").count(), 50);
    one.until(
        "select count(*) from delivery where state = 'delivered'",
        50,
    )
    .await;
    assert_eq!(handler.count(), 50);
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_not_recorded_and_says_no_reason() {
    let app = spawn_app(&config(&[])).await;
    let body = r#"{"id":"evt_1"}"#;
    let unix = now_unix();
    let forged = app
        .post(
            "/hooks/stripe",
            &stripe_headers("whsec_other", unix, body.as_bytes()),
            body,
        )
        .await;
    let stale = app
        .post(
            "/hooks/stripe",
            &stripe_headers(STRIPE_SECRET, unix - 301, body.as_bytes()),
            body,
        )
        .await;
    let future = app
        .post(
            "/hooks/stripe",
            &stripe_headers(STRIPE_SECRET, unix + 330, body.as_bytes()),
            body,
        )
        .await;
    let unsigned = app.post("/hooks/stripe", &[], body).await;
    for said in [&forged, &stale, &future, &unsigned] {
        assert_eq!(said.status, 401);
        assert_eq!(said.headers["content-type"], "application/problem+json");
        assert_eq!(said.text, forged.text);
    }
    let mut twice = stripe_headers(STRIPE_SECRET, unix, body.as_bytes());
    twice.push(twice[1].clone());
    assert_eq!(app.post("/hooks/stripe", &twice, body).await.status, 400);
    assert_eq!(app.post("/hooks/nobody", &[], body).await.status, 404);
    assert_eq!(
        app.post("/hooks/%2e%2e%2fstripe", &[], body).await.status,
        404
    );
    let wrong = app
        .http
        .get(format!("{}/hooks/stripe", app.url))
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        (
            wrong.status().as_u16(),
            &wrong.headers()["allow"],
            &wrong.headers()["content-type"]
        ),
        (
            405,
            &"POST".parse().expect("a value"),
            &"application/problem+json".parse().expect("a value")
        )
    );
    let mut zipped = stripe_headers(STRIPE_SECRET, unix, body.as_bytes());
    zipped.push(("content-encoding".into(), "gzip".into()));
    assert_eq!(app.post("/hooks/stripe", &zipped, body).await.status, 415);
    assert_eq!(app.count("select count(*) from event_key").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_the_limit_is_413_also_where_no_length_is_announced() {
    let config = config(&[]).replace(
        "provider = \"github\"",
        "provider = \"github\"\nbody_max = \"1KiB\"",
    );
    let app = spawn_app(&config).await;
    let body = "x".repeat(1025);
    assert_eq!(
        app.post("/hooks/github", &[], body.clone()).await.status,
        413
    );
    let chunks = futures_util::stream::iter(
        body.into_bytes()
            .chunks(100)
            .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
            .collect::<Vec<_>>(),
    );
    assert_eq!(
        app.post("/hooks/github", &[], reqwest::Body::wrap_stream(chunks))
            .await
            .status,
        413
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_id_the_body_is_the_key() {
    let app = spawn_app(&config(&[])).await;
    let mut headers = github_headers(GITHUB_SECRET, "", b"opaque");
    headers.retain(|(name, _)| name != "x-github-delivery");
    let first = app.post("/hooks/github", &headers, "opaque").await;
    let second = app.post("/hooks/github", &headers, "opaque").await;
    assert_eq!(
        (first.word(), second.word()),
        ("accepted".into(), "duplicate".into())
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_a_hundred_thousand_deep_is_stored_as_it_is() {
    let app = spawn_app(&config(&[])).await;
    let body = "[".repeat(100_000);
    let said = app
        .post(
            "/hooks/stripe",
            &stripe_headers(STRIPE_SECRET, now_unix(), body.as_bytes()),
            body.clone(),
        )
        .await;
    assert_eq!(said.word(), "accepted");
    assert_eq!(
        app.count("select count(*) from event where octet_length(body) = 100000")
            .await,
        1
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_id_at_two_sources_is_two_events() {
    let config =
        config(&[]) + "[sources.other]\nprovider = \"stripe\"\nsecret = \"whsec_test_secret\"\n";
    let app = spawn_app(&config).await;
    let body = r#"{"id":"evt_1","type":"x"}"#;
    let headers = stripe_headers(STRIPE_SECRET, now_unix(), body.as_bytes());
    assert_eq!(
        app.post("/hooks/stripe", &headers, body).await.word(),
        "accepted"
    );
    assert_eq!(
        app.post("/hooks/other", &headers, body).await.word(),
        "accepted"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_of_a_restarted_node_is_found_in_the_database() {
    let config = config(&[]);
    let app = spawn_app(&config).await;
    let first = app.stripe("evt_1", "x").await;
    let database = app.database_url.clone();
    app.stop().await;
    let app = spawn_on(&config, database).await;
    let second = app.stripe("evt_1", "x").await;
    assert_eq!(
        (second.word(), second.event()),
        ("duplicate".into(), first.event())
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn among_many_repeats_what_is_new_or_another_body_is_told_apart() {
    let handler = Handler::start(Vec::new()).await;
    let config = config(&[("h", &handler.url(), "")]);
    let app = spawn_app(&config).await;
    let ids: Vec<String> = (0..30).map(|n| format!("evt_{n}")).collect();
    let before = futures_util::future::join_all(ids.iter().map(|id| app.stripe(id, "x"))).await;
    let before: Vec<Uuid> = before.iter().map(Said::event).collect();
    app.until(
        "select count(*) from delivery where state = 'delivered'",
        30,
    )
    .await;
    let database = app.database_url.clone();
    app.stop().await;
    // This node was never told; after the first rounds it asks before it writes.
    let app = spawn_on(&config, database).await;
    for round in 0..10 {
        for (n, event) in before.iter().enumerate().skip(round * 3).take(3) {
            let again = app.stripe(&format!("evt_{n}"), "x").await;
            assert_eq!((again.word(), again.event()), ("duplicate".into(), *event));
        }
        assert_eq!(
            app.stripe(&format!("evt_{round}"), "y").await.word(),
            "conflict"
        );
        assert_eq!(
            app.stripe(&format!("new_{round}"), "x").await.word(),
            "accepted"
        );
        assert_eq!(
            app.stripe(&format!("new_{round}"), "x").await.word(),
            "duplicate"
        );
    }
    app.until(
        "select count(*) from delivery where state = 'delivered'",
        40,
    )
    .await;
    assert_eq!(app.count("select count(*) from event").await, 40);
    assert_eq!(app.count("select count(*) from conflict").await, 10);
    assert_eq!(handler.count(), 40);
    app.stop().await;
}

/// Holds the writers of a database up until it is dropped.
struct Held(sqlx::PgTransaction<'static>);

async fn hold(app: &TestApp) -> Held {
    let mut transaction = app.pool.begin().await.expect("a transaction");
    sqlx::query("lock table event_key in exclusive mode")
        .execute(&mut *transaction)
        .await
        .expect("a lock");
    Held(transaction)
}

impl Held {
    async fn release(self) {
        self.0.rollback().await.expect("a rollback");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_503_with_retry_after_and_loses_nothing() {
    let config = config(&[]).replace("[ingress]", "[ingress]\nqueue_rows_max = 1");
    let app = spawn_app(&config).await;
    let held = hold(&app).await;
    // One of the two takes the only place and waits for its commit; the other finds the queue full.
    let mut tries: FuturesUnordered<_> = ["evt_1", "evt_2"]
        .map(|id| app.stripe(id, "x").map(move |said| (id, said)))
        .into_iter()
        .collect();
    let (refused, said) = tries.next().await.expect("an answer");
    assert_eq!(said.status, 503);
    assert!(said.headers.contains_key("retry-after"));
    held.release().await;
    assert_eq!(tries.next().await.expect("an answer").1.word(), "accepted");
    drop(tries);
    assert_eq!(app.stripe(refused, "x").await.word(), "accepted");
    app.stop().await;
}

/// Who sent it no longer waits: it is recorded with the others all the same, and nothing stays
/// open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_goes_away_leaves_a_whole_batch() {
    let app = spawn_app(&config(&[])).await;
    let held = hold(&app).await;
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    tokio::select! {
        said = app.stripe("evt_gone", "x") => panic!("it was answered: {said:?}"),
        () = app.until(waits, 1) => {}
    }
    held.release().await;
    assert_eq!(app.stripe("evt_after", "x").await.word(), "accepted");
    app.until("select count(*) from event", 2).await;
    let open = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'";
    app.until(open, 0).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_does_not_answer_is_503_after_the_sources_budget() {
    let config = config(&[]).replace(
        "provider = \"stripe\"",
        "provider = \"stripe\"\nack_budget = \"100ms\"",
    );
    let app = spawn_app(&config).await;
    let held = hold(&app).await;
    let said = app.stripe("evt_1", "x").await;
    assert_eq!(said.status, 503);
    assert!(said.headers.contains_key("retry-after"));
    held.release().await;
    // The provider sends again until it is answered. The statement that was on its way may have
    // been committed meanwhile: either way the event is there once.
    let mut said = app.stripe("evt_1", "x").await;
    while said.status == 503 {
        said = app.stripe("evt_1", "x").await;
    }
    assert!(["accepted", "duplicate"].contains(&said.word().as_str()));
    assert_eq!(app.count("select count(*) from event").await, 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_does_not_come_back_holds_no_other_up() {
    let app = spawn_app(&config(&[])).await;
    // Somebody else is about to record this key.
    let mut other = app.pool.begin().await.expect("a transaction");
    sqlx::query("insert into event_key (key, event_id, body_digest, expires_at) values ($1, $1, sha256(''), now() + interval '1 day')")
        .bind(key_of("stripe", "evt_held").0)
        .execute(&mut *other)
        .await
        .expect("a row");
    let (held, ()) = tokio::join!(app.stripe("evt_held", "x"), async {
        app.until("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'", 1).await;
        for n in 0..3 {
            assert_eq!(
                app.stripe(&format!("evt_{n}"), "x").await.word(),
                "accepted"
            );
        }
        other.rollback().await.expect("a rollback");
    });
    assert_eq!(held.word(), "accepted");
    assert_eq!(app.count("select count(*) from event").await, 4);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_within_one_batch_get_an_answer_each() {
    let config = config(&[]) + "[database]\nbatch_connections = 1\n";
    let app = spawn_app(&config).await;
    let held = hold(&app).await;
    let bodies: Vec<String> = (0..40).map(|n| format!(r#"{{"n":{}}}"#, n % 4)).collect();
    // Forty requests for twenty ids: each id twice, with the same body or with another.
    let tries = bodies.iter().enumerate().map(|(n, body)| {
        let id = format!("d-{}", n % 20);
        let app = &app;
        async move {
            app.github(&id, &format!("{body}{}", " ".repeat(n % 20)))
                .await
        }
    });
    let (said, ()) = tokio::join!(futures_util::future::join_all(tries), held.release());
    let words: Vec<String> = said.iter().map(Said::word).collect();
    assert_eq!(words.iter().filter(|word| *word == "accepted").count(), 20);
    assert_eq!(words.iter().filter(|word| *word == "duplicate").count(), 20);
    assert_eq!(app.count("select count(*) from event").await, 20);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminated_connections_heal() {
    let app = spawn_app(&config(&[])).await;
    for n in 0..5 {
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
        )
        .execute(&app.pool)
        .await
        .expect("terminated");
        assert_eq!(
            app.stripe(&format!("evt_{n}"), "x").await.word(),
            "accepted"
        );
    }
    assert_eq!(app.count("select count(*) from event").await, 5);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_characters_in_ids_and_types_are_harmless() {
    let handler = Handler::start(Vec::new()).await;
    let app = spawn_app(&config(&[("h", &handler.url(), "")])).await;
    let body = r#"{"id":"a\u0000\r\nx-evil: 1","type":"t\u0000\r\nx-evil: 1"}"#;
    let headers = stripe_headers(STRIPE_SECRET, now_unix(), body.as_bytes());
    assert_eq!(
        app.post("/hooks/stripe", &headers, body).await.word(),
        "accepted"
    );
    assert_eq!(
        app.post("/hooks/stripe", &headers, body).await.word(),
        "duplicate"
    );
    let received = handler.received(1).await.remove(0);
    assert_eq!(received.header("x-evil"), None);
    assert_eq!(received.body, body.as_bytes());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_that_is_none_is_left_out_and_that_is_told() {
    let handler = Handler::start(Vec::new()).await;
    let (all, some) = (handler.url(), Handler::start(Vec::new()).await);
    let routes = config(&[("h", &all, "")])
        + &format!(
            "[destinations.some]\nurl = {:?}\n[[routes]]\nsource = \"stripe\"\ndestination = \"some\"\ntypes = [\"a*\"]\n",
            some.url()
        );
    let app = spawn_app(&routes).await;
    let longest = "a".repeat(255);
    for (id, said, kept, why) in [
        ("evt_1", longest.clone(), Some(&longest), None),
        (
            "evt_2",
            format!("{longest}a"),
            None,
            Some("longer than 255 bytes"),
        ),
        (
            "evt_3",
            "a\\u0007b".to_owned(),
            None,
            Some("with control characters"),
        ),
        ("evt_4", String::new(), None, None),
    ] {
        let event = app.stripe(id, &said).await.event();
        let shown = app
            .api(reqwest::Method::GET, &format!("/events/{event}"), None)
            .await
            .json();
        assert_eq!(
            shown["event_type"].as_str(),
            kept.map(String::as_str),
            "{id}"
        );
        assert_eq!(shown["type_dropped"].as_str(), why, "{id}");
    }
    assert_eq!(
        handler
            .received(4)
            .await
            .iter()
            .filter(|request| request.header("hookonce-event-type").is_some())
            .count(),
        1
    );
    assert_eq!(
        some.received(1).await.len(),
        1,
        "what names types does not get an event without one"
    );
    app.stop().await;
}

/// Sends this head with a length of so many bytes, and so many of them; the connection, left open.
pub async fn stalled(
    base: &str,
    head: &str,
    announced: usize,
    sent: usize,
) -> tokio::net::TcpStream {
    use tokio::io::AsyncWriteExt as _;
    let mut stream = tokio::net::TcpStream::connect(base.trim_start_matches("http://"))
        .await
        .expect("a connection");
    let head = format!(
        "{head} HTTP/1.1\r\nhost: x\r\nidempotency-key: k-{announced}\r\ncontent-type: application/json\r\ncontent-length: {announced}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("the head");
    stream.write_all(&vec![b'x'; sent]).await.expect("the body");
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_stop_before_their_end_shut_nobody_out() {
    let app = spawn_app(&config(&[]).replace(
        "[ingress]",
        "[ingress]\nbody_max = \"1MiB\"\nqueue_bytes_max = \"2MiB\"",
    ))
    .await;
    // Unsigned, and together all that there is room for.
    let mut large = Vec::new();
    for _ in 0..3 {
        large.push(stalled(&app.url, "POST /hooks/github", 1 << 20, (1 << 20) - 4096).await);
    }
    let mut slow = Vec::new();
    for _ in 0..200 {
        slow.push(stalled(&app.url, "POST /hooks/github", 4096, 100).await);
    }
    let body = |number: usize| format!(r#"{{"n":{number},"text":"{}"}}"#, "y".repeat(2000));
    for round in 0..10 {
        let ids: Vec<(String, String)> = (0..40)
            .map(|n| (format!("d-{round}-{n}"), body(round * 40 + n)))
            .collect();
        let said =
            futures_util::future::join_all(ids.iter().map(|(id, body)| app.github(id, body))).await;
        assert!(
            said.iter().all(|said| said.word() == "accepted"),
            "{said:?}"
        );
    }
    // A large one that comes whole, too.
    let said = app
        .github(
            "d-large",
            &format!(r#"{{"text":"{}"}}"#, "z".repeat(900_000)),
        )
        .await;
    assert_eq!(said.word(), "accepted");
    drop((large, slow));
    app.stop().await;
}
