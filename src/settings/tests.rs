//! How settings are found, read, put on top of each other and shown.

mod mistakes;
mod reference;

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

/// The problems as `origin: key: message`, without the file's folder.
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
fn what_is_shown_can_be_loaded_again() {
    let text = format!(
        "{STRIPE}[destinations.d]\nurl = \"http://x\"\n[[routes]]\nsource = \"stripe\"\ndestination = \"d\"\n"
    );
    let first = shown(&loaded(&text, &[]).settings);
    assert_eq!(shown(&loaded(&first, &[]).settings), first);
}
