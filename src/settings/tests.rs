//! Wrong settings and exactly what is said about them.

use std::{path::PathBuf, time::Duration};

use secrecy::ExposeSecret as _;

use super::*;

const STRIPE: &str = "[sources.stripe]\nprovider = \"stripe\"\nsecret = \"whsec_topsecret\"\n";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

fn load_text(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let folder = Folder::new();
    load(&Inputs {
        file: Some(folder.file("hookonce.toml", text)),
        environment: variables(environment),
        overlay: None,
    })
}

/// The problems as `origin: key: message`, the file's folder left off.
fn problems(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let Err(Problems(problems)) = load_text(text, environment) else {
        return Vec::new();
    };
    let name = |problem: &Problem| {
        if problem.origin.ends_with("/hookonce.toml") {
            "file".to_owned()
        } else {
            problem.origin.clone()
        }
    };
    problems
        .iter()
        .map(|problem| format!("{}: {}: {}", name(problem), problem.key, problem.message))
        .collect()
}

fn loaded(text: &str, environment: &[(&str, &str)]) -> Loaded {
    load_text(text, environment).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn the_defaults_are_what_the_contract_says() {
    let settings = loaded("", &[]).settings;
    assert_eq!(*settings.relay.timeout, Duration::from_secs(15));
    assert_eq!(*settings.relay.lease, Duration::from_secs(20));
    assert_eq!(
        (*settings.relay.retry.base, *settings.relay.retry.cap),
        (Duration::from_secs(1), Duration::from_secs(3600))
    );
    assert_eq!(
        (
            settings.relay.retry.attempts_max,
            *settings.relay.retry.age_max
        ),
        (20, Duration::from_secs(3 * 86400))
    );
    assert!(settings.database.url.is_none() && settings.sources.is_empty());
}

#[test]
fn the_contracts_example_loads() {
    let folder = Folder::new();
    let secret = folder.file("billing", "whsec_c2VjcmV0\n");
    let text = format!(
        r#"
        [ingress]
        public_url = "https://hooks.example.com"
        [database]
        url = {{ env = "DATABASE_URL" }}
        [sources.stripe]
        provider = "stripe"
        secrets = [{{ env = "STRIPE_WEBHOOK_SECRET" }}]
        [destinations.billing]
        url = "http://127.0.0.1:3000/webhooks"
        signing_secret = {{ file = {secret:?} }}
        timeout = "15s"
        concurrency = 32
        [[routes]]
        source = "stripe"
        types = ["invoice.*", "charge.refunded"]
        destination = "billing"
        "#
    );
    let loaded = loaded(
        &text,
        &[
            ("DATABASE_URL", "postgres://localhost/x"),
            ("STRIPE_WEBHOOK_SECRET", "whsec_a"),
        ],
    );
    assert_eq!(
        loaded.settings.destinations["billing"]
            .signing_secret
            .as_ref()
            .unwrap()
            .read()
            .unwrap()
            .expose_secret(),
        "whsec_c2VjcmV0"
    );
    assert!(
        loaded
            .origin_of("sources.stripe.secrets[0]")
            .ends_with("hookonce.toml")
    );
    assert!(
        loaded
            .origin_of("sources.stripe.key")
            .ends_with("hookonce.toml"),
        "a key that is not there belongs where its table is"
    );
    assert_eq!(loaded.origin_of("relay.lease"), "default.toml");
}

#[test]
fn every_problem_of_a_file_is_reported_at_once() {
    let text = r#"
        colour = "red"
        [ingress]
        bind = "not an address"
        workers = "two"
        body_max = 5
        [relay]
        timeout = 15
        timout = "15s"
        retry = { factor = 0.5 }
        [sources.stripe]
        provider = "stripe"
        secret = ""
        [sources.github]
        secrets = "oops"
        [sources."a b"]
        provider = "hmac"
        secret = "x"
        [egress]
        proxy = "https://proxy"
        [destinations.billing]
        url = "ftp://example.com"
        retry = { attempts_max = -1 }
        [[routes]]
        source = "strip"
        destination = "nowhere"
        types = [1]
    "#;
    let mut found = problems(text, &[]);
    found.sort();
    assert_eq!(
        found,
        [
            "file: colour: unknown key: here are known admin, database, destinations, egress, gateways, ingress, ledger, log, providers, rejections, relay, retention, routes, sources",
            "file: destinations.billing.retry.attempts_max: is -1, expected a whole number, zero or above",
            "file: destinations.billing.url: must start with http:// or https://",
            "file: egress.proxy: is no proxy: write \"http://HOST:PORT\"",
            "file: ingress.bind: invalid socket address syntax",
            "file: ingress.body_max: 5 has no unit: write a size such as \"1MiB\"",
            "file: ingress.workers: is a string, expected a whole number, zero or above",
            "file: relay.retry.factor: is 0.5: must be 1 to 100",
            "file: relay.timeout: 15 has no unit: write a length of time such as \"15s\"",
            "file: relay.timout: unknown key: did you mean \"timeout\"?",
            "file: routes[0].destination: there is no destination \"nowhere\": add [destinations.nowhere]",
            "file: routes[0].source: there is no source \"strip\": did you mean \"stripe\"?",
            "file: routes[0].types[0]: is 1, expected a string",
            "file: sources.\"a b\": is no name: a-z, 0-9, - and _, a letter or digit first, at most 63",
            "file: sources.github.provider: is missing",
            "file: sources.github.secrets: is a string, expected a list",
            "file: sources.stripe.secret: the secret is empty: an empty secret would accept anybody",
        ]
    );
}

/// Each text is added to a good source; each has exactly one problem.
fn each_alone(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let text = if text.starts_with("sources =") {
            text.to_string()
        } else {
            format!("{STRIPE}{text}")
        };
        // These two name the weaker side of a pair, which is the default.
        let origin =
            if expected.starts_with("admin.bind") || expected.starts_with("relay.retry.cap") {
                "default.toml"
            } else {
                "file"
            };
        assert_eq!(
            problems(&text, &[("EMPTY", "")]),
            [format!("{origin}: {expected}")],
            "{text}"
        );
    }
}

#[test]
fn a_wrong_source_or_destination_has_one_problem() {
    each_alone(&[
        (
            "[sources.x]\nprovider = \"stripe\"",
            "sources.x.secret: is missing: a source without a secret would accept anybody",
        ),
        (
            "[sources.x]\nprovider = \"stripe\"\nsecret = { env = \"NOT_SET\" }",
            "sources.x.secret: the environment variable NOT_SET is not set",
        ),
        (
            "[sources.x]\nprovider = \"stripe\"\nsecrets = [\"a\", { env = \"EMPTY\" }]",
            "sources.x.secrets[1]: the environment variable EMPTY is empty: an empty secret would accept anybody",
        ),
        (
            "[sources.x]\nprovider = \"stripe\"\nsecret = { env = \"A\", file = \"/b\" }",
            "sources.x.secret: a secret is written \"…\", { env = \"NAME\" } or { file = \"/path\" }",
        ),
        (
            "[sources.x]\nprovider = \"stripe\"\nsecret = { file = \"/no/such\" }",
            "sources.x.secret: can't read /no/such: No such file or directory (os error 2)",
        ),
        (
            "[sources.x]\nprovider = \"stripe\"\nsecret = \"a\"\nwindow = \"0s\"",
            "sources.x.window: is no time at all: must be longer than zero",
        ),
        (
            "sources = \"whsec_hidden\"",
            "sources: is a string, expected a table",
        ),
        (
            "[destinations.d]\nsigning_secret = \"a\"",
            "destinations.d.url: is missing",
        ),
        (
            "[destinations.d]\nurl = \"http://x\"\ntimeout = \"19s\"",
            "destinations.d.timeout: is 19s: with 2s to write down its end it must be shorter than relay.lease, 20s",
        ),
        (
            "[destinations.d]\nurl = \"http://x\"\nretry = { facter = 2.0 }",
            "destinations.d.retry.facter: unknown key: did you mean \"factor\"?",
        ),
        (
            "[destinations.d]\nurl = \"http://x\"\nrate = 0",
            "destinations.d.rate: is 0: must be 1 to 1000000",
        ),
    ]);
}

#[test]
fn a_wrong_value_of_a_table_has_one_problem() {
    each_alone(&[
        (
            "[relay]\nlease = \"17s\"",
            "relay.lease: is 17s: must be longer than relay.timeout, 15s, and 2s to write down its end",
        ),
        (
            "[relay.retry]\nbase = \"2h\"",
            "relay.retry.cap: is 1h: must be at least base, 2h",
        ),
        (
            "[relay.retry]\nschedule = []",
            "relay.retry.schedule: is empty: leave it out, or list the delays",
        ),
        (
            "[relay.retry]\nschedule = [\"5s\", \"soon\"]",
            "relay.retry.schedule[1]: \"soon\" is not a length of time: write a number with its unit, such as \"250ms\", \"15s\", \"2h\" or \"30d\"",
        ),
        (
            "[retention]\nkeys = \"100y\"",
            "retention.keys: is longer than ten years",
        ),
        (
            "[database]\nbatch_rows_max = 1025",
            "database.batch_rows_max: is 1025: must be 1 to 1024",
        ),
        (
            "[database]\nclock_skew_max = \"0s\"",
            "database.clock_skew_max: is no time at all: must be longer than zero",
        ),
        (
            "[database]\nurl = \"mysql://x\"",
            "database.url: must start with postgres:// or postgresql://",
        ),
        (
            "[database]\nallow_fsync_off = \"yes\"",
            "database.allow_fsync_off: is a string, expected a boolean",
        ),
        (
            "[ingress]\nworkers = 1.5",
            "ingress.workers: is 1.5, expected a whole number, zero or above",
        ),
        (
            "[ingress]\nqueue_bytes_max = \"1MiB\"",
            "ingress.queue_bytes_max: is 1MiB: a body of ingress.body_max, 25MiB, would never fit",
        ),
        (
            "[ingress]\nbind = \"127.0.0.1:8081\"",
            "admin.bind: 127.0.0.1:8081 is taken by ingress.bind, 127.0.0.1:8081: the admin port is never the public one",
        ),
        (
            "[log]\nfilter = \"hookonce=loud\"",
            "log.filter: is no filter: error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5",
        ),
        (
            "[log]\nformat = \"xml\"",
            "log.format: unknown variant `xml`, expected `text` or `json`",
        ),
        (
            "[[routes]]\nsource = \"stripe\"",
            "routes[0].destination: is missing",
        ),
        ("[a\n", "line 4: is no TOML: unclosed table, expected `]`"),
    ]);
}

#[test]
fn a_wrong_gateway_has_one_problem() {
    let gateway = |text: &str| {
        format!("[gateways.pay]\nbind = \"127.0.0.1:8090\"\nupstream = \"http://x\"\n{text}")
    };
    assert_eq!(
        problems(&format!("{STRIPE}{}", gateway("")), &[]),
        Vec::<String>::new()
    );
    let cases = [
        (
            "key = \"never\"",
            "key: unknown variant `never`, expected `required` or `optional`",
        ),
        (
            "key_from = \"body\"",
            "key_from: write \"header\", \"digest\" or \"body:/a/b\" with a JSON pointer",
        ),
        ("caller = \"x api\"", "caller: is no header's name"),
        (
            "keep = \"0s\"",
            "keep: is no time at all: must be longer than zero",
        ),
        (
            "buffered_max = \"1MiB\"",
            "buffered_max: is 1MiB: a body of body_max, 10MiB, would never fit",
        ),
        (
            "connect_timeout = \"60s\"",
            "connect_timeout: is 1m: must be shorter than timeout, 1m, or a call never sent counts as sent",
        ),
        (
            "body_kept_max = \"50MiB\"",
            "body_kept_max: is 50MiB: with its head it would never fit into ledger.queue_bytes_max, 64MiB",
        ),
        (
            "[[gateways.pay.paths]]\npath = \"v1\"",
            "paths[0].path: must start with / or *",
        ),
        (
            "body_kept_max = \"2MiB\"\nanswers_max = \"1MiB\"",
            "answers_max: is 1MiB: an answer of body_kept_max, 2MiB, would never fit",
        ),
        (
            "upstream_ca = \"ca.pem\"",
            "upstream_ca: is for an upstream with https://",
        ),
        (
            "[[gateways.pay.paths]]\nkey = \"optional\"",
            "paths[0].path: is missing",
        ),
        ("kept = \"1d\"", "kept: unknown key: did you mean \"keep\"?"),
    ];
    for (text, expected) in cases {
        assert_eq!(
            problems(&format!("{STRIPE}{}", gateway(text)), &[]),
            [format!("file: gateways.pay.{expected}")],
            "{text}"
        );
    }
    each_alone(&[
        (
            "[gateways.pay]\nbind = \"127.0.0.1:8090\"",
            "gateways.pay.upstream: is missing",
        ),
        (
            "[gateways.pay]\nbind = \"127.0.0.1:8090\"\nupstream = \"x:9\"",
            "gateways.pay.upstream: must start with http:// or https://",
        ),
        (
            "[gateways.pay]\nbind = \"127.0.0.1:8081\"\nupstream = \"http://x\"",
            "gateways.pay.bind: 127.0.0.1:8081 is taken by admin.bind, 127.0.0.1:8081: every path of a gateway's port is its upstream's",
        ),
    ]);
}

#[test]
fn two_free_ports_may_share_an_address() {
    loaded(
        "[ingress]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"127.0.0.1:0\"",
        &[],
    );
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let inputs = Inputs {
        file: Some("/no/such.toml".into()),
        ..Inputs::default()
    };
    let Problems(found) = load(&inputs).unwrap_err();
    assert_eq!(
        found,
        [Problem::new(
            "/no/such.toml",
            "the file",
            "can't be read: No such file or directory (os error 2)"
        )]
    );
}

#[test]
fn the_file_is_found_in_its_place() {
    let folder = Folder::new();
    std::fs::create_dir(folder.0.path().join("hookonce")).unwrap();
    let file = folder.file("hookonce/hookonce.toml", STRIPE);
    let environment = variables(&[("XDG_CONFIG_HOME", folder.0.path().to_str().unwrap())]);
    let loaded = load(&Inputs {
        environment,
        ..Inputs::default()
    })
    .unwrap();
    assert_eq!(loaded.file, Some(file));
    assert!(loaded.settings.sources.contains_key("stripe"));
}

#[test]
fn the_environment_is_stronger_than_the_file_and_the_file_than_the_overlay() {
    let folder = Folder::new();
    let secret = folder.file("secret", "from a file\n");
    let text = "[sources.standard-webhooks]\nprovider = \"standard-webhooks\"\nsecret = \"a\"\n[relay]\nconcurrency = 7\n";
    let inputs = Inputs {
        file: Some(folder.file("hookonce.toml", text)),
        environment: variables(&[
            (
                "HOOKONCE__SOURCES__STANDARD_WEBHOOKS__SECRET_FILE",
                secret.to_str().unwrap(),
            ),
            ("hookonce__ingress__workers", "3"),
            ("HOOKONCE__RELAY__RETRY__FACTOR", "1.5"),
            ("HOOKONCE__RELAY__RETRY__SCHEDULE", "[\"1s\", \"2s\"]"),
            ("HOOKONCE__DATABASE__ALLOW_FSYNC_OFF", "true"),
            ("HOOKONCE__SOURCES__NEW__PROVIDER", "stripe"),
            ("HOOKONCE__SOURCES__NEW__SECRET", "12345"),
            ("HOOKONCE_TOKEN", "an option, no setting"),
        ]),
        overlay: Some("[relay]\nconcurrency = 6\nresponse_max = \"1KiB\"\n".into()),
    };
    let loaded = load(&inputs).unwrap_or_else(|problems| panic!("{problems}"));
    let settings = &loaded.settings;
    let secret = settings.sources["standard-webhooks"]
        .secret
        .as_ref()
        .unwrap()
        .read()
        .unwrap();
    assert_eq!(secret.expose_secret(), "from a file");
    assert_eq!(
        settings.sources["new"]
            .secret
            .as_ref()
            .unwrap()
            .read()
            .unwrap()
            .expose_secret(),
        "12345",
        "digits are a secret too"
    );
    assert_eq!(
        (settings.ingress.workers, settings.relay.retry.factor),
        (3, 1.5)
    );
    assert_eq!(
        settings.relay.retry.schedule,
        Some(vec![
            Period(Duration::from_secs(1)),
            Period(Duration::from_secs(2))
        ])
    );
    assert!(settings.database.allow_fsync_off);
    assert_eq!(
        (settings.relay.concurrency, settings.relay.response_max.0),
        (7, 1024)
    );
    assert_eq!(loaded.origin_of("relay.response_max"), "built in");
    assert_eq!(loaded.origin_of("ingress.workers"), "environment");
    assert!(
        loaded
            .origin_of("sources.standard-webhooks.provider")
            .ends_with("hookonce.toml")
    );
}

#[test]
fn the_environments_mistakes_are_named_as_its_own() {
    let environment = [
        ("HOOKONCE__INGRESS__WORKERS", "many"),
        ("HOOKONCE__INGRES__WORKERS", "2"),
        ("HOOKONCE__SOURCES__STRIPE__SECRET_FILE", "/no/such"),
        ("HOOKONCE__SOURCES____SECRET", "x"),
    ];
    assert_eq!(
        problems("", &environment),
        [
            "environment: sources.stripe.secret: can't read /no/such: No such file or directory (os error 2)",
            "environment: HOOKONCE__SOURCES____SECRET: is no key: write HOOKONCE__TABLE__KEY, two underscores between",
            "environment: ingress.workers: is a string, expected a whole number, zero or above",
            "environment: ingres: unknown key: did you mean \"ingress\"?",
        ]
    );
}

#[test]
fn database_url_is_taken_where_nothing_else_is_said() {
    let environment = [("DATABASE_URL", "postgres://localhost/here")];
    let url = |loaded: Loaded| loaded.settings.database.url.map(|url| format!("{url:?}"));
    assert_eq!(
        url(loaded("", &environment)),
        Some("{ env = \"DATABASE_URL\" }".into())
    );
    assert_eq!(url(loaded("", &[("DATABASE_URL", "")])), None);
    assert_eq!(
        url(loaded(
            "[database]\nurl = { env = \"OTHER\" }",
            &[("OTHER", "postgres://x"), environment[0]]
        )),
        Some("{ env = \"OTHER\" }".into())
    );
}

#[test]
fn no_secret_is_ever_shown() {
    let text = format!(
        "{STRIPE}[sources.github]\nprovider = \"github\"\nsecrets = [\"topsecret1\"]\n[destinations.d]\nurl = \"http://x\"\nsigning_secrets = [\"topsecret2\"]\n[admin]\ntoken = \"topsecret3\"\n"
    );
    let loaded = loaded(
        &text,
        &[(
            "HOOKONCE__DATABASE__URL",
            "postgres://user:topsecret@localhost/x",
        )],
    );
    for text in [
        format!("{loaded:?}"),
        shown(&loaded.settings),
        serde_json::to_string(&loaded.settings).unwrap(),
    ] {
        assert!(
            text.contains("***") && !text.contains("topsecret"),
            "{text}"
        );
    }
    let text = "[ingress]\npublic_url = \"https://user:topsecret@x\"\n[sources.t]\nprovider = \"twilio\"\nsecret = \"x\"\nurl = \"https://user:topsecret@x/t\"";
    let with_urls = load_text(text, &[]).unwrap_or_else(|problems| panic!("{problems}"));
    for text in [
        format!("{with_urls:?}"),
        shown(&with_urls.settings),
        serde_json::to_string(&with_urls.settings).unwrap(),
    ] {
        assert!(
            text.contains("https://user:***@x/t") && !text.contains("topsecret"),
            "{text}"
        );
    }
    let said = problems("[destinations.d]\nurl = \"https://user:topsecret@x\"", &[]).join("\n");
    assert!(
        said.contains("destinations.d.url")
            && said.contains("auth = ")
            && !said.contains("topsecret"),
        "{said}"
    );
    for wrong in [
        "secret = [\"topsecret\"]",
        "secrets = \"topsecret\"",
        "secret = \"topsecret\"\nwindow = \"x",
        "secret = { value = \"topsecret\" }",
    ] {
        let said =
            problems(&format!("[sources.x]\nprovider = \"stripe\"\n{wrong}"), &[]).join("\n");
        assert!(!said.is_empty() && !said.contains("topsecret"), "{said}");
    }
}

#[test]
fn a_destination_is_authorized_in_one_way() {
    let said = |auth: &str| {
        problems(
            &format!("[destinations.d]\nurl = \"http://x\"\nauth = {auth}"),
            &[],
        )
        .join("\n")
    };
    for wrong in [
        "{}",
        "{ bearer = \"a\", basic = \"b\" }",
        "{ header = \"x-a\" }",
        "{ value = \"a\" }",
        "{ header = \"x a\", value = \"a\" }",
    ] {
        assert!(said(wrong).contains("destinations.d.auth"), "{wrong}");
    }
    loaded(
        "[destinations.d]\nurl = \"http://x\"\nauth = { header = \"x-a\", value = \"a\" }",
        &[],
    );
}

#[test]
fn what_is_shown_can_be_loaded_again() {
    let text = format!(
        "{STRIPE}[destinations.d]\nurl = \"http://x\"\n[[routes]]\nsource = \"stripe\"\ndestination = \"d\"\n"
    );
    let first = shown(&loaded(&text, &[]).settings);
    assert_eq!(shown(&loaded(&first, &[]).settings), first);
}

/// default.toml names each key that the types know, and no other: the reference can't fall behind.
#[test]
fn the_reference_has_every_key() {
    let (text, _) = include_str!("../../config/default.toml")
        .split_once("# [providers.")
        .unwrap();
    let names: std::collections::BTreeSet<String> = text
        .lines()
        .filter_map(|line| {
            line.trim_start_matches('#')
                .trim()
                .split_once(" = ")
                .map(|(name, _)| name.to_owned())
        })
        .filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        .collect();
    let schema = schema();
    let mut known = std::collections::BTreeSet::new();
    for table in [
        "Ingress",
        "Admin",
        "Database",
        "Relay",
        "Egress",
        "Retry",
        "Breaker",
        "Ledger",
        "LedgerScope",
        "Retention",
        "Rejections",
        "Log",
        "Source",
        "Destination",
        "Route",
        "Gateway",
        "GatewayPath",
    ] {
        known.extend(
            schema["$defs"][table]["properties"]
                .as_object()
                .unwrap_or_else(|| panic!("no {table}"))
                .keys()
                .cloned(),
        );
    }
    known.retain(|name| !matches!(name.as_str(), "breaker" | "scopes" | "paths"));
    let missing: Vec<_> = known.difference(&names).collect();
    let unknown: Vec<_> = names.difference(&known).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "missing: {missing:?}, unknown: {unknown:?}"
    );
}

/// The commented examples are settings that load, all together, but for the files that they name.
#[test]
fn the_references_examples_are_right() {
    let is_example = |line: &&str| {
        line.starts_with('[')
            || line
                .split_once(" = ")
                .is_some_and(|(name, _)| !name.contains(' '))
    };
    let line = |line: &'static str| line.strip_prefix("# ").filter(is_example).unwrap_or(line);
    let text: Vec<&str> = include_str!("../../config/default.toml")
        .lines()
        .map(line)
        .collect();
    let database = ("DATABASE_URL", "postgres://localhost/x");
    let secrets = [
        ("STRIPE_WEBHOOK_SECRET", "whsec_a"),
        ("BILLING_TOKEN", "t"),
        ("PROXY_USER_AND_PASSWORD", "u:p"),
    ];
    let environment: Vec<_> = secrets.into_iter().chain([database]).collect();
    let found = problems(&text.join("\n"), &environment);
    let missing_files: Vec<_> = found
        .iter()
        .filter(|problem| problem.contains(": can't read /run/secrets/"))
        .collect();
    assert_eq!((missing_files.len(), found.len()), (3, 3), "{found:#?}");
}

#[test]
fn the_schema_asks_for_nothing_that_has_a_default() {
    let schema = schema();
    assert_eq!(
        schema["$defs"]["Relay"]["properties"]["lease"]["default"],
        "20s"
    );
    assert_eq!(
        schema["$defs"]["Relay"]["required"]
            .as_array()
            .map_or(0, Vec::len),
        0
    );
    assert_eq!(schema["required"].as_array().map_or(0, Vec::len), 0);
    assert_eq!(
        schema["$defs"]["Route"]["required"],
        serde_json::json!(["source", "destination"])
    );
}
