//! The rejection log: what was refused is listed, explained, masked, bounded, and never in the
//! database.

use std::collections::BTreeMap;

use hookonce_scheme::{Catalog, Draft, sign};
use reqwest::Method;
use serde_json::Value;

use crate::app::*;

async fn latest(app: &TestApp) -> Value {
    let list = app.api(Method::GET, "/rejections?limit=1", None).await;
    let id = list.json()["items"][0]["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{list:?}"))
        .to_owned();
    let explained = app
        .api(Method::GET, &format!("/rejections/{id}/explain"), None)
        .await;
    assert_eq!(explained.status, 200, "{explained:?}");
    explained.json()
}

fn diagnoses(explained: &Value) -> Vec<&str> {
    explained["diagnoses"]
        .as_array()
        .expect("diagnoses")
        .iter()
        .map(|found| found["code"].as_str().expect("a code"))
        .collect()
}

fn failed(explained: &Value) -> Vec<&str> {
    let checks = explained["checks"].as_array().expect("checks").iter();
    checks
        .filter(|check| check["passed"] == false)
        .map(|check| check["check"].as_str().expect("a name"))
        .collect()
}

const OTHER: &str = "[sources.other]\nprovider = \"github\"\nsecret = \"the other's secret\"\n\
    [sources.wrapped]\nprovider = \"github\"\nsecret = \" topsecret \"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_listed_and_explained_and_shows_no_secret() {
    let app = spawn_app(&config(&[])).await;
    let mut headers = github_headers("a wrong secret", "d-1", b"{}");
    headers.push(("authorization".into(), "Bearer topsecret".into()));
    assert_eq!(
        app.post("/hooks/github?token=topsecret", &headers, "{}")
            .await
            .status,
        401
    );
    let list = app
        .api(
            Method::GET,
            "/rejections?source=github&reason=no_match&since=1h",
            None,
        )
        .await
        .json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(
        list["counts"],
        serde_json::json!([{ "source": "github", "reason": "no_match", "count": 1 }])
    );
    let explained = latest(&app).await;
    assert_eq!(
        (
            explained["reason"].as_str(),
            explained["body_bytes"].as_u64()
        ),
        (Some("no_match"), Some(2))
    );
    assert_eq!(
        explained["body_digest"],
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    );
    assert_eq!(
        (failed(&explained), diagnoses(&explained)),
        (vec!["digest"], vec![])
    );
    let checks: Vec<&str> = explained["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|check| check["check"].as_str())
        .collect();
    assert_eq!(
        checks,
        ["source", "headers", "signature", "form", "time", "digest"]
    );
    let signature = headers
        .iter()
        .find(|(name, _)| name == "x-hub-signature-256")
        .map(|(_, value)| value.clone())
        .unwrap();
    let text = explained.to_string();
    for hidden in ["topsecret", GITHUB_SECRET, &signature, "757107ea0eb2509f"] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
    assert_eq!(
        app.api(
            Method::GET,
            "/rejections/01890000-0000-7000-8000-000000000000/explain",
            None
        )
        .await
        .status,
        404
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_mistakes_are_named() {
    let app = spawn_app(&(config(&[]) + OTHER)).await;
    let body = r#"{"zen": "Keep it simple.", "hook_id": 7}"#;
    let sent = r#"{"zen":"Keep it simple.","hook_id":7}"#;
    let stripe = |unix: i64| stripe_headers(STRIPE_SECRET, unix, body.as_bytes());
    let no_signature = vec![("stripe-signature".to_owned(), "t=1,v1=00".to_owned())];
    let live = r#"{"id":"evt_1","livemode":true}"#;
    for (path, headers, body, code, check) in [
        (
            "/hooks/github",
            github_headers("the other's secret", "d", body.as_bytes()),
            body,
            "other_source",
            "digest",
        ),
        (
            "/hooks/wrapped",
            github_headers("topsecret", "d", body.as_bytes()),
            body,
            "secret_form",
            "digest",
        ),
        (
            "/hooks/github",
            github_headers(GITHUB_SECRET, "d", sent.as_bytes()),
            body,
            "body_changed",
            "digest",
        ),
        (
            "/hooks/stripe",
            stripe(now_unix() - 3600),
            body,
            "clock_skew",
            "time",
        ),
        (
            "/hooks/stripe",
            stripe(now_unix() + 3600),
            body,
            "clock_skew",
            "time",
        ),
        (
            "/hooks/github",
            no_signature,
            body,
            "other_provider",
            "signature",
        ),
        (
            "/hooks/stripe",
            stripe_headers("whsec_of_the_test_mode", now_unix(), live.as_bytes()),
            live,
            "test_mode",
            "digest",
        ),
    ] {
        assert_eq!(app.post(path, &headers, body).await.status, 401, "{code}");
        let explained = latest(&app).await;
        assert_eq!(
            (diagnoses(&explained), failed(&explained)),
            (vec![code], vec![check]),
            "{explained}"
        );
        let digest = explained["checks"]
            .as_array()
            .and_then(|checks| checks.last())
            .expect("checks");
        assert_eq!(
            digest["found"] != "",
            check == "digest",
            "what was not reached found nothing: {explained}"
        );
    }
    app.stop().await;
}

/// As the provider would send it, for this URL.
fn sent(provider: &str, secret: &str, url: &str, body: &str) -> (Vec<(String, String)>, String) {
    let catalog = Catalog::new(&BTreeMap::new()).expect("the schemes");
    let scheme = catalog.get(provider).expect("a scheme");
    let draft = Draft {
        id: "e1",
        headers: &[],
        event_type: None,
        unix_seconds: now_unix(),
        body: body.as_bytes(),
        url: Some(url),
        method: "POST",
    };
    let signed = sign(scheme, &secret.into(), &draft).expect("a signature");
    (
        signed.headers,
        String::from_utf8(signed.body).expect("a text"),
    )
}

const MANY: &str = r#"
[sources.square]
provider = "square"
secret = "s"
[sources.twilio]
provider = "twilio"
secret = "s"
[sources.plivo]
provider = "plivo"
secret = "s"
[sources.svix]
provider = "svix"
secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
[sources.polar]
provider = "polar"
secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
[sources.adyen]
provider = "adyen"
secret = "00ff10"
[sources.close]
provider = "close"
secret = "00ff11"
[sources.netlify]
provider = "netlify"
secret = "n"
[sources.livekit]
provider = "livekit"
secret = "l"
[sources.box]
provider = "box"
secret = "b"
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_named_for_schemes_of_every_kind() {
    let config = config(&[]).replace(
        "[ingress]\n",
        "[ingress]\npublic_url = \"https://hooks.example.com\"\n",
    ) + MANY;
    let app = spawn_app(&config).await;
    let (json, form) = (r#"{"id": "7", "name": "Zoë"}"#, "a=1&b=2");
    let decoded: String = (0..24_u8).map(char::from).collect();
    let adyen = r#"{"notificationItems":[{"NotificationRequestItem":{"pspReference":"1","eventCode":"A","success":"true"}}]}"#;
    for (provider, source, secret, url, body, code) in [
        (
            "square",
            "square",
            "s",
            "http://hooks.example.com/hooks/square",
            json,
            "url_differs",
        ),
        (
            "twilio",
            "twilio",
            "s",
            "http://hooks.example.com/hooks/twilio",
            form,
            "url_differs",
        ),
        (
            "plivo",
            "plivo",
            "s",
            "https://hooks.example.com/hooks/plivo/",
            form,
            "url_differs",
        ),
        // Base64 taken as text, and text taken as base64.
        (
            "polar",
            "svix",
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
            "",
            json,
            "secret_form",
        ),
        ("polar", "polar", &decoded, "", json, "secret_form"),
        ("adyen", "adyen", "00ff11", "", adyen, "other_source"),
        ("netlify", "netlify", "l", "", json, "other_source"),
        ("livekit", "livekit", "n", "", json, "other_source"),
    ] {
        let (mut headers, body) = sent(
            provider,
            secret,
            if url.is_empty() {
                "https://hooks.example.com/"
            } else {
                url
            },
            body,
        );
        if source == "svix" {
            headers
                .iter_mut()
                .for_each(|(name, _)| *name = name.replace("webhook-", "svix-"));
        }
        assert_eq!(
            app.post(&format!("/hooks/{source}"), &headers, body)
                .await
                .status,
            401,
            "{provider} {code}"
        );
        let explained = latest(&app).await;
        assert_eq!(diagnoses(&explained), [code], "{provider}: {explained}");
    }
    for (provider, secret) in [("netlify", "n"), ("livekit", "l"), ("box", "b")] {
        let (headers, _) = sent(
            provider,
            secret,
            "https://hooks.example.com/",
            r#"{"id":"7","name":"Zoë"}"#,
        );
        assert_eq!(
            app.post(&format!("/hooks/{provider}"), &headers, json)
                .await
                .status,
            401,
            "{provider}"
        );
        let explained = latest(&app).await;
        assert_eq!(
            diagnoses(&explained),
            ["body_changed"],
            "{provider}: {explained}"
        );
        let text = explained.to_string();
        assert!(
            headers
                .iter()
                .all(|(name, value)| !is_signature(name) || !text.contains(value)),
            "{text}"
        );
    }
    app.stop().await;
}

fn is_signature(name: &str) -> bool {
    [
        "x-webhook-signature",
        "authorization",
        "box-signature-primary",
    ]
    .contains(&name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_a_reload_took_away_is_named() {
    let app = spawn_app(&config(&[])).await;
    app.app
        .reload(settings(
            &config(&[]).replace("whsec_test_secret", "whsec_new_secret"),
        ))
        .expect("a reload");
    assert_eq!(app.stripe("evt_1", "charge.succeeded").await.status, 401);
    let explained = latest(&app).await;
    assert_eq!(diagnoses(&explained), ["retired_secret"], "{explained}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_sampled_and_never_reaches_the_database() {
    let app =
        spawn_app(&(config(&[]) + "[rejections]\nkept_per_minute = 5\nbody_prefix_max = \"8\"\n"))
            .await;
    // Whatever asks the database waits for ever.
    let mut held = app.pool.begin().await.expect("a transaction");
    sqlx::query("lock table event, event_key, outbox in access exclusive mode")
        .execute(&mut *held)
        .await
        .expect("a lock");
    for _ in 0..50 {
        assert_eq!(app.post("/hooks/nowhere", &[], "x").await.status, 404);
        assert_eq!(
            app.post("/hooks/stripe", &[], "a body that is longer than is kept")
                .await
                .status,
            401
        );
    }
    let list = app
        .api(Method::GET, "/rejections?limit=1000", None)
        .await
        .json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(10), "{list}");
    let counts: Vec<u64> = list["counts"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|count| count["count"].as_u64())
        .collect();
    assert_eq!(counts, [50, 50]);
    let explained = latest(&app).await;
    assert_eq!(
        (diagnoses(&explained), explained["body_prefix"].as_str()),
        (vec!["body_not_kept"], Some("a body t"))
    );
    held.rollback().await.expect("the lock's end");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_the_wrong_kind_are_named() {
    let secrets = [
        (
            "github",
            "whsec_of_another_kind",
            "which GitHub does not sign with",
        ),
        ("stripe", "sk_live_topsecret", "API key"),
        ("gitlab", "app_secret", "app_secret"),
        ("github", "'in quotes'", "quotes around it"),
        ("github", " with blanks ", "blanks around it"),
    ];
    let sources = secrets
        .iter()
        .enumerate()
        .map(|(n, (provider, secret, _))| {
            format!("[sources.s{n}]\nprovider = {provider:?}\nsecret = {secret:?}\n")
        });
    let app = spawn_app(&(config(&[]) + &sources.collect::<String>())).await;
    for (n, (provider, secret, said)) in secrets.iter().enumerate() {
        let headers = match *provider {
            "github" => github_headers("what the provider has", "d", b"{}"),
            "stripe" => stripe_headers("whsec_what_the_provider_has", now_unix(), b"{}"),
            _ => vec![(
                "x-gitlab-token".to_owned(),
                "what the provider has".to_owned(),
            )],
        };
        assert_eq!(
            app.post(&format!("/hooks/s{n}"), &headers, "{}")
                .await
                .status,
            401
        );
        let explained = latest(&app).await;
        let found = explained["diagnoses"]
            .as_array()
            .expect("diagnoses")
            .iter()
            .filter(|found| found["code"] == "secret_doubtful");
        let texts: Vec<&str> = found.filter_map(|found| found["text"].as_str()).collect();
        assert!(
            texts.iter().any(|text| text.contains(said))
                && !explained.to_string().contains("topsecret"),
            "{secret}: {explained}"
        );
    }
    app.stop().await;
}
