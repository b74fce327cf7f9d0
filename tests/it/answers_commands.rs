//! What the commands write of the API's answers, recorded: as JSON, as lines of JSON, for people.

use serde_json::{Value, json};

use crate::{
    app::*,
    process::*,
    recorded::{Recorded, pretty, sorted_headers},
};

struct Terminal {
    place: Place,
    record: Recorded,
    server: String,
}

impl Terminal {
    fn of(app: &TestApp, chapter: &'static str) -> Self {
        let place = Place::on("", app.database_url.clone());
        Self {
            place,
            record: Recorded::new(chapter),
            server: app.admin.clone(),
        }
    }

    /// Runs a command and records how it ended and what it wrote.
    async fn run(&mut self, arguments: &[&str], output: &str) -> String {
        let globals = [
            "--server",
            &self.server,
            "--token",
            TOKEN,
            "--output",
            output,
        ];
        let done = self.place.run(&[arguments, &globals].concat()).await;
        let (out, err) = (
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr),
        );
        let shown = match output {
            "table" => single_spaced(&out),
            "ndjson" => out.lines().map(pretty).collect::<Vec<_>>().join("\n"),
            _ => sorted_headers(
                &out.lines()
                    .map(masked_member)
                    .collect::<Vec<_>>()
                    .join("\n"),
            ),
        };
        let code = done.status.code().expect("a code");
        let err = single_spaced(&err);
        let title = format!("hookonce {} --output {output}", arguments.join(" "));
        self.record
            .write(&title, &format!("exit {code}\n{err}{shown}"));
        out.into_owned()
    }

    async fn json(&mut self, arguments: &[&str]) -> Value {
        let text = self.run(arguments, "json").await;
        serde_json::from_str(&text).unwrap_or_default()
    }

    async fn both(&mut self, arguments: &[&str]) -> Value {
        self.run(arguments, "table").await;
        self.json(arguments).await
    }
}

fn masked_member(line: &str) -> String {
    let volatile = [
        "\"latency_ms\"",
        "\"ack_ms\"",
        "\"size_bytes\"",
        "\"server_version\"",
        "_estimate\"",
    ];
    match line.split_once(": ") {
        Some((name, value)) if volatile.iter().any(|end| name.trim_start().ends_with(end)) => {
            let kind = if value.starts_with('"') {
                "<text>"
            } else {
                "<number>"
            };
            format!(
                "{name}: {kind}{}",
                if value.ends_with(',') { "," } else { "" }
            )
        }
        _ => line.to_owned(),
    }
}

/// Columns are as wide as their widest value, which may be a port: two spaces between them. What
/// stands below "MS" differs from run to run.
fn single_spaced(text: &str) -> String {
    let cells = |line: &str| {
        let cells = line
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty());
        cells.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut head: Vec<String> = Vec::new();
    let mut out = String::new();
    for line in text.lines() {
        let mut row = cells(line);
        match head.iter().position(|title| title == "MS") {
            Some(at) if row.len() == head.len() => row[at] = "<ms>".to_owned(),
            _ => head = row.clone(),
        }
        out += &format!("{}\n", row.join("  "));
    }
    sorted_head(&out)
}

/// The headers of a request, one on a line, in the order of their names.
fn sorted_head(text: &str) -> String {
    let is_header = |line: &str| {
        let name = line.split_once(": ").map_or("", |(name, _)| name);
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || matches!(c, '-' | '0'..='9'))
    };
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    lines
        .chunk_by_mut(|one, next| is_header(one) && is_header(next))
        .for_each(<[&str]>::sort_unstable);
    lines.concat()
}

fn id(rows: &Value, at: usize) -> String {
    rows[at]["id"]
        .as_str()
        .unwrap_or_else(|| panic!("no id: {rows}"))
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_events() {
    let handler = Handler::start(vec![Reply::Status(410)]).await;
    let app = spawn_app(&config(&[("h", &handler.url(), "concurrency = 1")])).await;
    let mut terminal = Terminal::of(&app, "commands_events");
    terminal.both(&["events", "list"]).await;
    app.github("d-1", r#"{"n":1,"old":true}"#).await;
    handler.received(1).await;
    app.until("select count(*) from delivery_ended", 1).await;
    app.github("d-1", r#"{"n":2,"new":[1]}"#).await;
    let bytes = github_headers(GITHUB_SECRET, "d-2", b"\xff");
    app.post("/hooks/github", &bytes, &b"\xff"[..]).await;
    app.until("select count(*) from delivery_ended", 2).await;
    let events = terminal.both(&["events", "list"]).await;
    terminal
        .run(&["events", "list", "--limit", "1"], "ndjson")
        .await;
    for at in [0, 1] {
        terminal.both(&["events", "show", &id(&events, at)]).await;
    }
    let conflicts = terminal.both(&["events", "conflicts", "list"]).await;
    let conflict = id(&conflicts, 0);
    terminal
        .both(&["events", "conflicts", "show", &conflict])
        .await;
    terminal
        .run(&["events", "conflicts", "relay", &conflict], "json")
        .await;
    terminal
        .run(&["events", "conflicts", "relay", &conflict], "table")
        .await;
    terminal
        .run(
            &["events", "show", "01890000-0000-7000-8000-000000000000"],
            "json",
        )
        .await;
    terminal
        .run(&["events", "list", "--since", "yesterday"], "json")
        .await;
    app.until("select count(*) from delivery_ended", 3).await;
    terminal
        .both(&["deliveries", "list", "--state", "dead"])
        .await;
    let all = terminal.json(&["deliveries", "list"]).await;
    let (newest, oldest) = (id(&all, 0), id(&all, 2));
    terminal.both(&["deliveries", "show", &oldest]).await;
    terminal
        .run(&["deliveries", "cancel", &newest], "json")
        .await;
    app.api(reqwest::Method::POST, "/destinations/h/pause", None)
        .await;
    terminal
        .run(
            &[
                "deliveries",
                "retry",
                &oldest,
                "01890000-0000-7000-8000-000000000000",
            ],
            "json",
        )
        .await;
    app.stop_with_open(1).await;
    terminal.record.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_operators() {
    let handler = Handler::start(Vec::new()).await;
    let more = "[sources.asana]\nprovider = \"asana\"\nlearn_secret = true\n";
    let app = spawn_app(&(config(&[("h", &handler.url(), "")]) + more)).await;
    let mut terminal = Terminal::of(&app, "commands_operators");
    app.post(
        "/hooks/asana",
        &[("x-hook-secret".to_owned(), "first".to_owned())],
        "{}",
    )
    .await;
    app.github("d-1", r#"{"n":1}"#).await;
    app.post(
        "/hooks/github",
        &github_headers("wrong", "d-2", b"{}"),
        "{}",
    )
    .await;
    app.until("select count(*) from delivery_ended", 1).await;
    terminal.both(&["destinations", "list"]).await;
    for action in ["pause", "pause", "resume", "resume"] {
        terminal.run(&["destinations", action, "h"], "table").await;
    }
    terminal.json(&["destinations", "pause", "h"]).await;
    terminal.json(&["destinations", "pause", "nobody"]).await;
    terminal.both(&["sources", "list"]).await;
    terminal.both(&["sources", "secret", "asana"]).await;
    terminal.json(&["sources", "forget", "asana"]).await;
    terminal.run(&["sources", "forget", "asana"], "table").await;
    let rejections = terminal.both(&["rejections", "list"]).await;
    terminal
        .both(&["rejections", "explain", &id(&rejections, 0)])
        .await;
    terminal
        .both(&["replay", "--source", "github", "--dry-run"])
        .await;
    terminal
        .json(&["replay", "--source", "github", "--yes"])
        .await;
    terminal
        .json(&["replay", "--source", "stripe", "--yes"])
        .await;
    terminal.json(&["db", "status"]).await;
    terminal.both(&["db", "prune"]).await;
    terminal.both(&["ready"]).await;
    let made = terminal
        .both(&["tokens", "create", "--scope", "ledger", "--tenant", "t"])
        .await;
    terminal.both(&["tokens", "list"]).await;
    terminal
        .both(&["tokens", "revoke", made["id"].as_str().expect("an id")])
        .await;
    app.stop_with_open(1).await;
    terminal.record.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_ledger() {
    let app = spawn_app(&config(&[])).await;
    let mut terminal = Terminal::of(&app, "commands_ledger");
    terminal.both(&["ledger", "list"]).await;
    terminal.both(&["ledger", "show", "r"]).await;
    let post = async |path: &str, body: Value| {
        let url = format!("{}/v1/runs/r/steps/{path}", app.admin);
        app.http
            .post(url)
            .bearer_auth(TOKEN)
            .json(&body)
            .send()
            .await
            .expect("an answer");
    };
    post("s/claim", json!({ "claim_id": "a", "owner": "w" })).await;
    post(
        "s/complete",
        json!({ "fence": 1, "result": { "b": 1, "a": [1.5] } }),
    )
    .await;
    post(
        "u/claim",
        json!({ "claim_id": "a", "lease_ms": 1, "on_lost": "hold" }),
    )
    .await;
    app.until("select count(*) from step where lease_until < now()", 1)
        .await;
    terminal.both(&["ledger", "list"]).await;
    terminal
        .both(&["ledger", "list", "--status", "unknown"])
        .await;
    terminal.both(&["ledger", "show", "r"]).await;
    terminal.both(&["ledger", "show", "r", "s"]).await;
    let resolve = [
        "ledger",
        "resolve",
        "r",
        "u",
        "--evidence",
        "seen",
        "--outcome",
    ];
    terminal
        .json(&[&resolve[..], &["done", "--result", "[1]"]].concat())
        .await;
    terminal.both(&["ledger", "show", "r", "u"]).await;
    terminal
        .run(&[&resolve[..], &["not-executed"]].concat(), "table")
        .await;
    app.stop().await;
    terminal.record.finish();
}
