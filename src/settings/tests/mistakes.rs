//! Wrong settings and exactly what is said about them.

use super::*;

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
            "file: colour: unknown key: here are known admin, database, destinations, egress, gateways, ingress, ledger, log, metrics, providers, rejections, relay, retention, routes, sources",
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

/// Adds each text to a good source. Each has exactly one problem.
fn each_alone(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let text = if text.starts_with("sources =") {
            text.to_string()
        } else {
            format!("{STRIPE}{text}")
        };
        // These name the weaker side of a pair, which is a default.
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
        ("key_header = \"\"", "key_header: is no header's name"),
        (
            "key_header = \"Authorization\"",
            "key_header: is the header of caller: every key would be another caller's",
        ),
        (
            "not_kept = [201]",
            "not_kept[0]: is 201: must be 300 to 599",
        ),
        (
            "unknown = [503, 504]",
            "unknown: has 503, which not_kept has too: it is one or the other",
        ),
        (
            "fingerprint_ignore = [\"body:/at\", \"at\"]",
            "fingerprint_ignore[1]: \"at\" is no place that can be ignored: write body:PATH or form:NAME",
        ),
        (
            "[[gateways.pay.paths]]\npath = \"/a\"\nfingerprint_ignore = [\"header:date\"]",
            "paths[0].fingerprint_ignore[0]: \"header:date\" is no place that can be ignored: write body:PATH or form:NAME",
        ),
        (
            "cors_origins = [\"*\", \"https://shop.example/\"]",
            "cors_origins[1]: is no origin: write \"https://HOST\", with a port where it is not the usual one, or \"*\"",
        ),
        (
            "described_by = \"docs\"",
            "described_by: is no URL: relative URL without a base",
        ),
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
