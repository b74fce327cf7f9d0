//! `send` beside a running service: what it finds by itself, what it says of a refusal, which ids
//! it puts where.

use std::process::Output;

use serde_json::Value;

use crate::{app::*, process::*};

const MORE: &str = "
[sources.twilio]
provider = \"twilio\"
secret = \"twilio-token\"
[sources.telegram]
provider = \"telegram\"
secret = \"telegram-token\"
[sources.shop]
provider = \"shopify\"
secret = \"shop-secret\"
[sources.own]
provider = \"hmac\"
secret = \"own-secret\"
scheme = { header = \"x-acme-signature\" }
[sources.hidden]
provider = \"paddle\"
secret = { file = \"hidden-secret\" }
";

/// Settings with some sources more, and the public URL that providers are told.
async fn place() -> (Place, Handler) {
    let handler = Handler::start(Vec::new()).await;
    let (config, _) = served_config(&handler);
    let public = "[ingress]\npublic_url = \"https://hooks.example/in\"";
    let config = config.replacen("[ingress]", public, 1) + MORE;
    let place = Place::new(&config).await;
    std::fs::write(place.folder.path().join("hidden-secret"), "s").expect("a secret");
    (place, handler)
}

/// A command that is run somewhere else, where no settings are.
async fn elsewhere(place: &Place, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = tokio::process::Command::from(place.command(arguments));
    let output = command
        .current_dir(folder.path())
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(LONG * 2, output)
        .await
        .expect("its end")
        .expect("the command")
}

fn told(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn words(rows: &Value) -> Vec<&str> {
    let rows = rows.as_array().into_iter().flatten();
    rows.map(|row| row["status"].as_str().unwrap_or("-"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_needed_but_the_running_service() {
    let (place, _handler) = place().await;
    let said = place.refused(&["send", "stripe"], 2).await;
    assert!(
        said.contains("no hookonce runs with the data folder"),
        "{said}"
    );
    assert!(
        said.contains("--to http://HOST:PORT/hooks/stripe"),
        "{said}"
    );
    let served = place.serve().await;
    // Port, settings and secret are found from anywhere; a source's provider and scheme too, and
    // the URL that is signed although another one is called.
    for (provider, count) in [
        ("stripe", "1"),
        ("github", "2"),
        ("twilio", "1"),
        ("shop", "1"),
        ("shopify", "1"),
        ("own", "1"),
    ] {
        let output = elsewhere(&place, &["send", provider, "--count", count]).await;
        let (rows, error) = told(&output);
        assert!(output.status.success(), "{provider}: {rows}{error}");
        assert_eq!(
            rows.matches("accepted").count().to_string(),
            count,
            "{rows}"
        );
    }
    std::fs::remove_file(place.folder.path().join("hidden-secret")).expect("it was there");
    let (_, error) = told(&elsewhere(&place, &["send", "hidden"]).await);
    assert!(
        error.contains("hidden-secret") && error.contains("--secret"),
        "{error}"
    );
    let (_, error) = told(&elsewhere(&place, &["send", "linear"]).await);
    assert!(
        error.contains("whose sources are") && error.contains("twilio"),
        "{error}"
    );
    let sent = place
        .json(&["events", "list", "--source", "telegram"])
        .await;
    assert_eq!(sent.as_array().map(Vec::len), Some(0));
    served.signal("TERM");
    assert!(served.ended().await.success());
    for file in ["admin.address", "public.address"] {
        assert!(
            !place.folder.path().join("data").join(file).exists(),
            "{file}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_explained() {
    let (place, _handler) = place().await;
    let _served = place.serve().await;
    let output = place
        .run(&["send", "stripe", "--secret", "whsec_another"])
        .await;
    let (rows, error) = told(&output);
    assert_eq!(output.status.code(), Some(1), "{rows}{error}");
    assert!(rows.contains("401") && rows.contains("refused"), "{rows}");
    assert!(error.contains("refused: no_match"), "{error}");
    assert!(
        error.contains("the secret from: --secret or HOOKONCE_SECRET"),
        "{error}"
    );
    assert!(error.contains("hookonce rejections explain 0"), "{error}");
    let admin = std::fs::read_to_string(place.folder.path().join("data/public.address"));
    let to = format!("http://{}/hooks/none", admin.expect("the address"));
    let output = place
        .run(&["send", "stripe", "--secret", "whsec_x", "--to", &to])
        .await;
    let (_, error) = told(&output);
    assert!(
        error.contains("unknown_source") || error.contains("no source"),
        "{error}"
    );
    // Without the admin API the status is put in words.
    let output = place
        .run(&[
            "send",
            "stripe",
            "--secret",
            "whsec_another",
            "--token",
            "wrong",
        ])
        .await;
    let (_, error) = told(&output);
    assert!(error.contains("refused with 401: its signature"), "{error}");
    let said = place
        .refused(
            &["send", "stripe", "--to", "http://127.0.0.1:1/hooks/stripe"],
            1,
        )
        .await;
    assert!(said.contains("does hookonce run there?"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_are_put_where_the_scheme_has_them() {
    let (place, _handler) = place().await;
    let _served = place.serve().await;
    let write =
        |body: &str| std::fs::write(place.folder.path().join("body"), body).expect("a body");
    let keys = async |source: &str| {
        let events = place.json(&["events", "list", "--source", source]).await;
        let events = events.as_array().expect("a list").iter().rev();
        events
            .map(|event| event["event_key"].as_str().expect("a key").to_owned())
            .collect::<Vec<_>>()
    };
    write(r#"{"id": "evt_old", "type": "invoice.paid", "n": 1.0}"#);
    place.text(&["send", "stripe", "--data", "body"]).await;
    place
        .text(&["send", "stripe", "--data", "body", "--id", "evt_new"])
        .await;
    place
        .text(&[
            "send", "stripe", "--data", "body", "--id", "evt_x", "--count", "2",
        ])
        .await;
    place
        .text(&[
            "send",
            "stripe",
            "--data",
            "body",
            "--fresh-id",
            "--count",
            "2",
            "--duplicates",
            "1",
        ])
        .await;
    let found = keys("stripe").await;
    assert_eq!(
        found[..4],
        ["evt_old", "evt_new", "evt_x-1", "evt_x-2"],
        "{found:?}"
    );
    assert_eq!(found.len(), 6, "{found:?}");
    assert!(
        found[4..]
            .iter()
            .all(|key| key.starts_with("evt_") && key.len() == 7),
        "{found:?}"
    );
    let id = place.json(&["events", "list", "--limit", "1"]).await[0]["id"].clone();
    let body = place
        .text(&["events", "show", id.as_str().expect("an id"), "--original"])
        .await;
    assert!(
        body.ends_with(r#"", "type": "invoice.paid", "n": 1.0}"#),
        "{body}"
    );
    write(r#"{"update_id": 17, "message": {"text": "x"}}"#);
    place
        .text(&[
            "send", "telegram", "--data", "body", "--id", "41", "--count", "2",
        ])
        .await;
    assert_eq!(keys("telegram").await, ["41", "42"]);
    let said = place
        .refused(&["send", "telegram", "--data", "body", "--id", "x"], 2)
        .await;
    assert!(said.contains("a number"), "{said}");
    let said = place.refused(&["send", "telegram", "--id", "x"], 2).await;
    assert!(said.contains("a number"), "{said}");
    write("{}");
    let output = place
        .run(&[
            "send",
            "shop",
            "--type",
            "app/uninstalled",
            "--data",
            "body",
            "--id",
            "b1",
        ])
        .await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(keys("shop").await, ["b1.app/uninstalled"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenarios_unknown_types_and_many_at_once() {
    let (place, _handler) = place().await;
    let _served = place.serve().await;
    let sent = place
        .json(&[
            "send",
            "stripe",
            "--scenario",
            "checkout",
            "--duplicates",
            "1",
        ])
        .await;
    let types: Vec<&str> = sent
        .as_array()
        .expect("rows")
        .iter()
        .step_by(2)
        .map(|row| row["event_type"].as_str().expect("a type"))
        .collect();
    assert_eq!(
        types.last(),
        Some(&"checkout.session.completed"),
        "{types:?}"
    );
    assert_eq!(words(&sent)[..2], ["accepted", "duplicate"]);
    let said = place
        .refused(&["send", "stripe", "--scenario", "check"], 3)
        .await;
    assert!(said.contains("checkout: A one-off payment"), "{said}");

    let output = place
        .run(&["send", "stripe", "--type", "invoice.payed"])
        .await;
    let (rows, error) = told(&output);
    assert!(
        output.status.success() && rows.contains("invoice.payed"),
        "{rows}{error}"
    );
    assert!(error.contains("did you mean invoice.paid"), "{error}");
    let listed = place
        .json(&["events", "list", "--type", "invoice.payed"])
        .await;
    assert_eq!(
        listed.as_array().map(Vec::len),
        Some(1),
        "the type stands in the body"
    );

    let many = [
        "send",
        "github",
        "--count",
        "40",
        "--duplicates",
        "1",
        "--concurrency",
        "8",
    ];
    let text = place.text(&many).await;
    assert!(text.starts_with("80 requests in "), "{text}");
    assert!(
        text.contains("40 accepted, 40 duplicate") && text.contains("99 %"),
        "{text}"
    );
    let started = std::time::Instant::now();
    place
        .text(&["send", "github", "--count", "5", "--rate", "20/s"])
        .await;
    assert!(
        started.elapsed() >= std::time::Duration::from_millis(200),
        "four waits of 50 ms"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_event_is_sent_again_by_the_command_that_is_shown() {
    let (place, _handler) = place().await;
    let _served = place.serve().await;
    let bin = place.folder.path().join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_hookonce"), bin.join("hookonce"))
        .expect("a link");
    for (provider, event_type) in [
        ("stripe", "customer.created"),
        ("stripe", "invoice.paid"),
        ("github", "issues.opened"),
        ("shop", "orders/paid"),
        ("twilio", "message.received"),
        ("telegram", "message"),
    ] {
        place.text(&["send", provider, "--type", event_type]).await;
        let listed = place.json(&["events", "list", "--limit", "1"]).await;
        let id = listed[0]["id"].as_str().expect("an event").to_owned();
        let command = place.text(&["events", "show", &id, "--as-send"]).await;
        assert!(command.contains("hookonce send "), "{command}");
        let same = place.command(&[]);
        let mut again = std::process::Command::new("sh");
        again
            .args(["-c", &command])
            .current_dir(place.folder.path())
            .env_clear();
        for (name, value) in same.get_envs() {
            again.env(name, value.unwrap_or_default());
        }
        let path = format!(
            "{}:{}",
            bin.display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let output = again.env("PATH", path).output().expect("a shell");
        let (rows, error) = told(&output);
        assert!(output.status.success(), "{command}\n{rows}{error}");
        let is_known = rows.contains("duplicate") && rows.contains(&id);
        assert!(is_known, "{command}\n{rows}{error}");
    }
}
