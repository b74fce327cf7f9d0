//! The binary as a user types it: real processes, real signals.

use std::path::Path;

use crate::{app::*, process::*};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn send_list_show_replay_and_stop() {
    let handler = Handler::start(Vec::new()).await;
    let (config, to) = served_config(&handler);
    let place = Place::new(&config).await;
    let served = place.serve().await;
    let sent = place
        .json(&[
            "send",
            "stripe",
            "--type",
            "invoice.paid",
            "--count",
            "3",
            "--duplicates",
            "1",
            "--to",
            &to,
        ])
        .await;
    let words: Vec<&str> = sent
        .as_array()
        .expect("an array")
        .iter()
        .filter_map(|row| row["status"].as_str())
        .collect();
    assert_eq!(
        words.iter().filter(|word| **word == "accepted").count(),
        3,
        "{sent}"
    );
    assert_eq!(
        words.iter().filter(|word| **word == "duplicate").count(),
        3,
        "{sent}"
    );
    handler.received(3).await;
    let events = place.json(&["events", "list"]).await;
    assert_eq!(events.as_array().map(Vec::len), Some(3));
    let id = events[0]["id"].as_str().expect("an id");
    assert_eq!(place.json(&["events", "show", id]).await["id"], id);
    assert_eq!(
        place
            .run(&["events", "show", "01890000-0000-7000-8000-000000000000"])
            .await
            .status
            .code(),
        Some(3)
    );
    assert_eq!(
        place.run(&["events", "show", "17"]).await.status.code(),
        Some(2)
    );
    place
        .text(&["replay", "--source", "stripe", "--dry-run"])
        .await;
    assert_eq!(handler.count(), 3);
    place.text(&["replay", id, "--yes"]).await;
    assert!(
        handler.received(4).await[3]
            .header("hookonce-replay")
            .is_some()
    );
    served.signal("TERM");
    assert!(served.ended().await.success(), "{}", place.log());
    assert!(!place.log().contains("whsec_test_secret"));
    assert_eq!(place.run(&["events", "list"]).await.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_nothing_acknowledged_is_lost() {
    let handler = Handler::start(vec![Reply::Hang]).await;
    let (config, to) = served_config(&handler);
    let place = Place::new(&config).await;
    let served = place.serve().await;
    let sent = place
        .json(&["send", "stripe", "--count", "20", "--to", &to])
        .await;
    assert!(
        sent.as_array()
            .expect("an array")
            .iter()
            .all(|row| row["status"] == "accepted"),
        "{sent}"
    );
    handler.received(1).await;
    served.signal("KILL");
    assert!(!served.ended().await.success());
    // As if the first try had been killed between its commit and its answer: the sender tries
    // again, with the same id.
    let id = sent[0]["id"].as_str().expect("an id").to_owned();
    let served = place.serve().await;
    let again = place
        .json(&["send", "stripe", "--id", &id, "--to", &to])
        .await;
    let word = again.get(0).unwrap_or(&again)["status"].clone();
    assert!(word == "duplicate" || word == "conflict", "{again}");
    // After the killed process' leases have ended.
    place
        .until(
            "select count(*) from delivery where state = 'delivered'",
            20,
        )
        .await;
    served.signal("TERM");
    assert!(served.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hang_up_reloads_or_keeps_the_old_and_says_why() {
    let (old, new) = (
        Handler::start(Vec::new()).await,
        Handler::start(Vec::new()).await,
    );
    let (config, to) = served_config(&old);
    let place = Place::new(&config).await;
    let served = place.serve().await;
    place.write(&config.replace("provider = \"stripe\"", "provider = \"strip\""));
    served.signal("HUP");
    place.logged("the old one stays in force").await;
    place
        .text(&["send", "stripe", "--secret", STRIPE_SECRET, "--to", &to])
        .await;
    old.received(1).await;
    place.write(&config.replace(&old.url(), &new.url()));
    served.signal("HUP");
    place.logged("is in force\n").await;
    place.text(&["send", "stripe", "--to", &to]).await;
    new.received(1).await;
    served.signal("TERM");
    assert!(served.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_refuses_what_it_must_not_run_with() {
    let place = Place::new("").await;
    for (config, expected) in [
        (
            "[sources.a]\nprovider = \"stripe\"\nsecret = \"\"\n",
            "sources.a.secret",
        ),
        (
            "[sources.a]\nprovider = \"nobody\"\nsecret = \"x\"\n",
            "nobody",
        ),
        ("[ingress]\nbnid = \"127.0.0.1:0\"\n", "ingress.bnid"),
        (
            "[sources.a]\nprovider = \"stripe\"\nsecret = \"x\"\n[[routes]]\nsource = \"a\"\ndestination = \"gone\"\n",
            "routes[0].destination",
        ),
    ] {
        place.write(config);
        for command in [&["serve"][..], &["config", "check"]] {
            let output = place.run(command).await;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(
                said.contains(expected) && said.contains("hookonce.toml"),
                "{said}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_need_no_service() {
    let place = Place::new("").await;
    assert!(place.text(&["providers", "list"]).await.contains("stripe"));
    assert!(
        place
            .text(&["providers", "show", "github"])
            .await
            .contains("x-hub-signature-256")
    );
    assert!(
        place
            .text(&["completions", "bash"])
            .await
            .contains("hookonce")
    );
    assert!(place.text(&["man"]).await.contains("hookonce"));
    let schema: serde_json::Value =
        serde_json::from_str(&place.text(&["config", "schema"]).await).expect("JSON");
    assert!(schema["properties"]["sources"].is_object());
    let (headers, body) = (
        place.folder.path().join("headers"),
        place.folder.path().join("body"),
    );
    std::fs::write(&body, "Hello, World!").expect("the body");
    let signature = "X-Hub-Signature-256: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17\n";
    std::fs::write(&headers, signature).expect("the headers");
    let (headers, body) = (
        headers.to_string_lossy().into_owned(),
        body.to_string_lossy().into_owned(),
    );
    let verify = [
        "verify",
        "--provider",
        "github",
        "--headers",
        &headers,
        "--body",
        &body,
        "--secret",
    ];
    assert!(
        place
            .text(&[&verify[..], &[GITHUB_SECRET]].concat())
            .await
            .contains("accept")
    );
    std::fs::write(
        &headers,
        format!("{signature}X-GitHub-Event: {}\n", "a".repeat(256)),
    )
    .expect("the headers");
    assert!(
        place
            .text(&[&verify[..], &[GITHUB_SECRET]].concat())
            .await
            .contains("longer than 255 bytes")
    );
    let refused = place.run(&[&verify[..], &["another"]].concat()).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(
        String::from_utf8_lossy(&refused.stdout).contains("no_match"),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_runs_on_its_own_postgres_and_survives_kill() {
    use std::os::unix::fs::PermissionsExt as _;
    let handler = Handler::start(Vec::new()).await;
    let place = Place::new("").await;
    // The server runs as another user where the test is root.
    std::fs::set_permissions(place.folder.path(), std::fs::Permissions::from_mode(0o755))
        .expect("permissions");
    let data_dir = place.folder.path().join("data");
    // Whatever binaries the tests have found or fetched serve here too.
    let binaries = binaries().await.folder().to_owned();
    let managed = Managed(data_dir.clone());
    let port = free_port().to_string();
    let start = || {
        let screen = place.folder.path().join("screen");
        let mut command = place.command(&["dev", "--forward-to", &handler.url(), "--port", &port]);
        command
            .env_remove("DATABASE_URL")
            .env("HOOKONCE__ADMIN__BIND", "127.0.0.1:0")
            .env("HOOKONCE_POSTGRES_BIN", &binaries);
        let (out, err) = (
            std::fs::File::create(&screen).expect("a file"),
            std::fs::File::create(place.folder.path().join("log")).expect("a log"),
        );
        (
            Served(command.stdout(out).stderr(err).spawn().expect("dev")),
            screen,
        )
    };
    let ready = async |screen: &Path| {
        let wait = async {
            while !std::fs::read_to_string(screen)
                .unwrap_or_default()
                .contains("Ctrl-C stops")
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, wait)
            .await
            .unwrap_or_else(|_| panic!("dev is not ready: {}", place.log()));
        std::fs::read_to_string(screen).expect("the screen")
    };
    let (served, screen) = start();
    let first = ready(&screen).await;
    let to = format!("http://127.0.0.1:{port}/hooks/slack");
    place.text(&["send", "slack", "--to", &to]).await;
    handler.received(1).await;
    served.signal("KILL");
    served.ended().await;
    let (served, screen) = start();
    let second = ready(&screen).await;
    let secrets = |screen: &str| {
        screen
            .lines()
            .filter(|line| line.starts_with("    secret "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(secrets(&first).len(), 5, "{first}");
    assert_eq!(secrets(&first), secrets(&second));
    let mode = std::fs::metadata(data_dir.join("dev-secrets.toml"))
        .expect("the secrets")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        place
            .json(&["events", "list"])
            .await
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    served.signal("INT");
    assert!(served.ended().await.success(), "{}", place.log());
    assert_eq!(managed.pid(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_looks_wrong_is_a_warning_and_a_name_that_is_a_slip_is_told() {
    let place =
        Place::new("[sources.s]\nprovider = \"GitHub\"\nsecret = \"'whsec_topsecret'\"\n").await;
    let checked = place.run(&["config", "check"]).await;
    let said = String::from_utf8(checked.stderr).expect("text");
    assert!(
        checked.status.success()
            && said.contains("sources.s.secret: looks wrong: it has quotes around it"),
        "{said}"
    );
    assert!(
        said.contains("which GitHub does not sign with") && !said.contains("topsecret"),
        "{said}"
    );
    let rows = place.json(&["config", "check"]).await;
    assert_eq!(rows.as_array().map(Vec::len), Some(3), "{rows}");
    assert!(
        rows.as_array()
            .into_iter()
            .flatten()
            .all(|row| row["severity"] == "warning"),
        "{rows}"
    );
    place.write("[sources.s]\nprovider = \"githb\"\nsecret = \"s\"\n");
    assert!(
        place
            .refused(&["config", "check"], 1)
            .await
            .contains("did you mean \"github\"?")
    );
    assert!(
        place
            .refused(&["providers", "show", "padle"], 3)
            .await
            .contains("did you mean \"paddle\"?")
    );
    let sent = place
        .refused(
            &[
                "send",
                "githb",
                "--secret",
                "s",
                "--to",
                "http://127.0.0.1:1/",
            ],
            3,
        )
        .await;
    assert!(sent.contains("did you mean \"github\"?"), "{sent}");
    assert!(
        place
            .text(&["providers", "show", "paddle"])
            .await
            .contains("(paddle-billing)")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_are_verified_with_the_settings_own_providers_and_in_any_environment() {
    let place = Place::new("").await;
    let own = "[providers.acme]\nalgorithm = \"hmac-sha256\"\nkey = \"body:id\"\nsignature = { from = \"header:x-acme\" }\n";
    std::fs::write(place.folder.path().join("own.toml"), own).expect("the settings");
    let signature = "00".repeat(32);
    let line = serde_json::json!({ "id": 1, "provider": "acme", "secrets": ["s"], "headers": { "x-acme": signature }, "body_base64": "e30=" });
    std::fs::write(place.folder.path().join("lines"), format!("{line}\n")).expect("the lines");
    let mut command = place.command(&[
        "verify", "--jsonl", "lines", "--config", "own.toml", "--output", "json", "-q",
    ]);
    command
        .env("HOOKONCE_SECRET", "s")
        .env("HOOKONCE_VERIFY_TOKEN", "t")
        .env("HOOKONCE_TOKEN", "x");
    let output = command.output().expect("the command");
    let verdict: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(
        (&verdict["id"], &verdict["verdict"], &verdict["reason"]),
        (&1.into(), &"reject".into(), &"no_match".into()),
        "{verdict}"
    );
    assert!(verdict["dedup"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_are_listed_shown_and_relayed() {
    let handler = Handler::start(Vec::new()).await;
    let (config, to) = served_config(&handler);
    let place = Place::new(&config).await;
    let _served = place.serve().await;
    for body in [
        r#"{"id":"evt_1","type":"a","n":1}"#,
        r#"{"id":"evt_1","type":"a","n":2}"#,
    ] {
        std::fs::write(place.folder.path().join("body"), body).expect("the body");
        place
            .text(&["send", "stripe", "--data", "body", "--to", &to])
            .await;
    }
    let listed = place.run(&["events", "conflicts", "list"]).await;
    let (rows, counts) = (
        String::from_utf8_lossy(&listed.stdout).into_owned(),
        String::from_utf8_lossy(&listed.stderr).into_owned(),
    );
    assert!(
        rows.contains("evt_1") && counts.contains("NOT RELAYED") && counts.contains("stripe"),
        "{rows}{counts}"
    );
    let conflicts = place.json(&["events", "conflicts", "list"]).await;
    let id = conflicts[0]["id"].as_str().expect("a conflict").to_owned();
    assert!(
        place
            .text(&["events", "conflicts", "show", &id])
            .await
            .contains("/n: 1 -> 2")
    );
    assert!(
        place
            .text(&["events", "conflicts", "relay", &id])
            .await
            .contains("on its way to h")
    );
    assert_eq!(
        handler.received(2).await[1].header("hookonce-mark"),
        Some("other-body")
    );
    assert!(
        place
            .refused(&["events", "conflicts", "relay", &id], 1)
            .await
            .contains("was relayed as the event")
    );
}
