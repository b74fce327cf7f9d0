//! Every built-in provider over HTTP: what it sends is accepted, and what is nearly that is refused
//! without saying why.

use std::collections::BTreeSet;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use hookonce::clock::Clock;
use hookonce_scheme::{Catalog, Draft, generate_secret, sign};
use secrecy::ExposeSecret as _;

use crate::app::*;

type Headers = Vec<(String, String)>;

/// One provider: its source's settings, a secret, and how its senders sign.
struct Case {
    name: &'static str,
    settings: &'static str,
    secret: &'static str,
    other_secret: &'static str,
    signature: &'static str,
    signs_body: bool,
    has_time: bool,
    sign: fn(secret: &str, unix: i64, body: &str) -> Headers,
}

const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const WHSEC_OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const SLACK_SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
const BODY: &str =
    r#"{"id":"evt_1","event_id":"Ev1","type":"invoice.paid","event":{"type":"message"}}"#;

const CASES: [Case; 8] = [
    Case {
        has_time: true,
        sign: stripe,
        ..case("stripe", "stripe-signature", "whsec_a", "whsec_b")
    },
    Case {
        sign: github,
        ..case("github", "x-hub-signature-256", "a", "b")
    },
    Case {
        has_time: true,
        sign: |s, t, b| standard("webhook", s, t, b),
        ..case("standard-webhooks", "webhook-signature", WHSEC, WHSEC_OTHER)
    },
    Case {
        has_time: true,
        sign: |s, t, b| standard("svix", s, t, b),
        ..case("svix", "svix-signature", WHSEC, WHSEC_OTHER)
    },
    Case {
        has_time: true,
        sign: slack,
        ..case("slack", "x-slack-signature", SLACK_SECRET, "b")
    },
    Case {
        sign: shopify,
        ..case("shopify", "x-shopify-hmac-sha256", "a", "b")
    },
    Case {
        settings: "scheme = { header = \"x-acme-signature\", prefix = \"sha256=\" }",
        sign: |secret, _, body| {
            headers(&[(
                "x-acme-signature",
                &format!("sha256={}", hex::encode(mac(secret.as_bytes(), body))),
            )])
        },
        ..case("hmac", "x-acme-signature", "a", "b")
    },
    Case {
        signs_body: false,
        sign: |secret, _, _| headers(&[("authorization", &format!("Bearer {secret}"))]),
        ..case("token", "authorization", "aaaaaaaa", "bbbbbbbb")
    },
];

const fn case(
    name: &'static str,
    signature: &'static str,
    secret: &'static str,
    other_secret: &'static str,
) -> Case {
    Case {
        name,
        settings: "",
        secret,
        other_secret,
        signature,
        signs_body: true,
        has_time: false,
        sign: |_, _, _| Vec::new(),
    }
}

fn headers(pairs: &[(&str, &str)]) -> Headers {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn mac(key: &[u8], content: &str) -> Vec<u8> {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("a key");
    mac.update(content.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn stripe(secret: &str, unix: i64, body: &str) -> Headers {
    stripe_headers(secret, unix, body.as_bytes())
}

fn github(secret: &str, _: i64, body: &str) -> Headers {
    github_headers(secret, "d-1", body.as_bytes())
}

fn standard(names: &str, secret: &str, unix: i64, body: &str) -> Headers {
    let signature = standardwebhooks::Webhook::new(secret)
        .expect("a secret")
        .sign("msg_1", unix, body.as_bytes())
        .expect("a signature");
    let name = |end: &str| format!("{names}-{end}");
    headers(&[
        (&name("id"), "msg_1"),
        (&name("timestamp"), &unix.to_string()),
        (&name("signature"), &signature),
    ])
}

fn slack(secret: &str, unix: i64, body: &str) -> Headers {
    let signature = hex::encode(mac(secret.as_bytes(), &format!("v0:{unix}:{body}")));
    headers(&[
        ("x-slack-request-timestamp", &unix.to_string()),
        ("x-slack-signature", &format!("v0={signature}")),
    ])
}

fn shopify(secret: &str, _: i64, body: &str) -> Headers {
    let signature = BASE64_STANDARD.encode(mac(secret.as_bytes(), body));
    headers(&[
        ("x-shopify-hmac-sha256", &signature),
        ("x-shopify-event-id", "e-1"),
        ("x-shopify-topic", "orders/create"),
    ])
}

fn sources(secret: impl Fn(&Case) -> String) -> String {
    CASES.iter().fold(
        config(&[])
            .split("[sources.")
            .next()
            .unwrap_or_default()
            .to_owned(),
        |config, case| {
            let Case { name, settings, .. } = case;
            format!(
                "{config}[sources.{name}]\nprovider = {name:?}\nsecret = {:?}\n{settings}\n",
                secret(case)
            )
        },
    )
}

/// What must be refused of one provider: the status, what was done to it, and the request.
fn refused(case: &Case, unix: i64) -> Vec<(u16, &'static str, Headers, String)> {
    let right = (case.sign)(case.secret, unix, BODY);
    let without = right
        .iter()
        .filter(|(name, _)| name != case.signature)
        .cloned()
        .collect();
    let signature = right
        .iter()
        .find(|(name, _)| name == case.signature)
        .expect("a signature")
        .clone();
    let mut cases = vec![
        (
            401,
            "another secret",
            (case.sign)(case.other_secret, unix, BODY),
            BODY.to_owned(),
        ),
        (401, "no signature", without, BODY.to_owned()),
        (
            400,
            "the signature twice",
            [right.clone(), vec![signature]].concat(),
            BODY.to_owned(),
        ),
    ];
    if case.signs_body {
        cases.push((
            401,
            "an altered body",
            right,
            BODY.replace("evt_1", "evt_2"),
        ));
    }
    if case.has_time {
        cases.push((
            401,
            "a stale time",
            (case.sign)(case.secret, unix - 301, BODY),
            BODY.to_owned(),
        ));
        cases.push((
            401,
            "a time to come",
            (case.sign)(case.secret, unix + 301, BODY),
            BODY.to_owned(),
        ));
    }
    cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_provider_is_accepted_and_what_is_nearly_right_is_refused_alike() {
    let unix = 1_800_000_000;
    let app = spawn_with(
        &sources(|case| case.secret.to_owned()),
        database().await,
        Clock::fixed(unix * 1000),
    )
    .await;
    let mut bodies = BTreeSet::new();
    for case in &CASES {
        let path = format!("/hooks/{}", case.name);
        for (status, what, headers, body) in refused(case, unix) {
            let said = app.post(&path, &headers, body).await;
            assert_eq!(said.status, status, "{}: {what}: {said:?}", case.name);
            assert_eq!(said.headers["content-type"], "application/problem+json");
            assert_eq!(said.json()["status"], status);
            bodies.insert((status, said.text));
        }
        let headers = (case.sign)(case.secret, unix, BODY);
        assert_eq!(
            app.post(&path, &headers, BODY).await.word(),
            "accepted",
            "{}",
            case.name
        );
        assert_eq!(
            app.post(&path, &headers, BODY).await.word(),
            "duplicate",
            "{}",
            case.name
        );
    }
    assert_eq!(
        bodies.len(),
        2,
        "an answer tells more than its status: {bodies:?}"
    );
    assert_eq!(
        app.count("select count(*) from event").await,
        CASES.len() as i64
    );
    assert_eq!(app.count("select count(*) from conflict").await, 0);
    app.stop().await;
}

/// What providers publish: the source, its secret, the time, the headers, the body, the event key
/// (the body's digest where it is empty).
type Vector = (
    &'static str,
    &'static str,
    i64,
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static str,
);

const SLACK_BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";

const VECTORS: [Vector; 4] = [
    (
        "github",
        "It's a Secret to Everybody",
        0,
        &[
            (
                "x-hub-signature-256",
                "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
            ),
            ("x-github-delivery", "d-1"),
        ],
        "Hello, World!",
        "d-1",
    ),
    (
        "standard-webhooks",
        WHSEC,
        1_614_265_330,
        &[
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            (
                "webhook-signature",
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
        ],
        r#"{"test": 2432232314}"#,
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
    ),
    (
        "svix",
        "whsec_plJ3nmyCDGBKInavdOK15jsl",
        1_731_705_121,
        &[
            ("svix-id", "msg_loFOjxBNrRLzqYUf"),
            ("svix-timestamp", "1731705121"),
            (
                "svix-signature",
                "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
            ),
        ],
        r#"{"event_type":"ping","data":{"success":true}}"#,
        "msg_loFOjxBNrRLzqYUf",
    ),
    (
        "slack",
        SLACK_SECRET,
        1_531_420_618,
        &[
            ("x-slack-request-timestamp", "1531420618"),
            (
                "x-slack-signature",
                "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
            ),
        ],
        SLACK_BODY,
        "398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_providers_publish_is_accepted_at_its_time() {
    let clock = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(0));
    let secret = |case: &Case| {
        VECTORS
            .iter()
            .find(|vector| vector.0 == case.name)
            .map_or(case.secret, |vector| vector.1)
            .to_owned()
    };
    let app = spawn_with(
        &sources(secret),
        database().await,
        Clock::Fixed(clock.clone()),
    )
    .await;
    for (name, _, unix, pairs, body, key) in VECTORS {
        clock.store(unix * 1000, std::sync::atomic::Ordering::Relaxed);
        let said = app
            .post(&format!("/hooks/{name}"), &headers(pairs), body)
            .await;
        assert_eq!(said.headers["hookonce-status"], "accepted", "{name}");
        let event: uuid::Uuid = said.headers["hookonce-event"]
            .to_str()
            .expect("text")
            .parse()
            .expect("a UUID");
        let (found, digest): (String, Vec<u8>) =
            sqlx::query_as("select event_key, body_digest from event where id = $1")
                .bind(event)
                .fetch_one(&app.pool)
                .await
                .expect("the event");
        assert_eq!(
            found,
            if key.is_empty() {
                hex::encode(digest)
            } else {
                key.to_owned()
            },
            "{name}"
        );
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slacks_handshake_has_to_be_signed_and_is_recorded_nowhere() {
    let app = spawn_app(&sources(|case| case.secret.to_owned())).await;
    let body = r#"{"token":"t","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}"#;
    let said = app
        .post("/hooks/slack", &slack(SLACK_SECRET, now_unix(), body), body)
        .await;
    assert_eq!(
        (said.status, &said.headers["hookonce-status"]),
        (200, &"handshake".parse().expect("a value"))
    );
    assert!(
        said.text
            .contains("3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"),
        "{said:?}"
    );
    for forged in [
        Vec::new(),
        slack("another", now_unix(), body),
        slack(SLACK_SECRET, now_unix() - 400, body),
    ] {
        let said = app.post("/hooks/slack", &forged, body).await;
        assert_eq!(said.status, 401);
        assert!(!said.text.contains("3eZbrw"));
    }
    assert_eq!(app.count("select count(*) from event_key").await, 0);
    app.stop().await;
}

const FORM: &str = "application/x-www-form-urlencoded";
const ADYEN: &str = r#"{"notificationItems":[{"NotificationRequestItem":{"pspReference":"p1","eventCode":"AUTHORISATION","success":"true","merchantAccountCode":"m","amount":{"value":1,"currency":"EUR"},"additionalData":{}}}]}"#;

/// A content type, and the text.
type Answer = (&'static str, &'static str);

/// The provider, what it sends, and how it is answered; None: as all are.
const ANSWERED: [(&str, &str, Option<Answer>); 8] = [
    (
        "slack",
        r#"{"type":"event_callback","event_id":"Ev1","event":{"type":"message"}}"#,
        None,
    ),
    (
        "slack",
        "command=%2Fdeploy&trigger_id=1.2.3",
        Some(("", "")),
    ),
    (
        "slack",
        "payload=%7B%22type%22%3A%22block_actions%22%2C%22trigger_id%22%3A%221.2.4%22%7D",
        Some(("", "")),
    ),
    (
        "slack",
        "payload=%7B%22type%22%3A%22shortcut%22%2C%22trigger_id%22%3A%221.2.5%22%7D",
        Some(("", "")),
    ),
    (
        "twilio",
        "MessageSid=SM1&MessageStatus=delivered",
        Some(("text/xml", "<Response/>")),
    ),
    (
        "twilio",
        "CallSid=CA1&CallStatus=ringing",
        Some(("text/xml", "<Response/>")),
    ),
    ("adyen", ADYEN, Some(("text/plain", "[accepted]"))),
    (
        "xero",
        r#"{"events":[],"firstEventSequence":0,"lastEventSequence":0}"#,
        Some(("", "")),
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_answered_as_it_wants_to_be_also_when_it_repeats() {
    const NOW: i64 = 1_800_000_000;
    let catalog = Catalog::new(&std::collections::BTreeMap::new())
        .unwrap_or_else(|errors| panic!("{errors:?}"));
    let url = |name: &str| format!("https://hooks.example.com/hooks/{name}");
    let mut config = config(&[]);
    let mut secrets = std::collections::BTreeMap::new();
    for name in ANSWERED
        .map(|(name, ..)| name)
        .into_iter()
        .collect::<BTreeSet<_>>()
    {
        let secret = generate_secret(catalog.get(name).expect("a scheme"), &mut rand::rng())
            .expect("a secret");
        config += &format!(
            "[sources.{name}]\nprovider = {name:?}\nsecret = {:?}\nurl = {:?}\n",
            secret.expose_secret(),
            url(name)
        );
        secrets.insert(name, secret);
    }
    let app = spawn_with(&config, database().await, Clock::fixed(NOW * 1000)).await;
    for (name, body, expected) in ANSWERED {
        let content_type = if body.starts_with('{') {
            "application/json"
        } else {
            FORM
        };
        let draft = Draft {
            id: "id_1",
            headers: &[("content-type".to_owned(), content_type.to_owned())],
            event_type: None,
            unix_seconds: NOW,
            body: body.as_bytes(),
            url: Some(&url(name)),
            method: "POST",
        };
        let signed =
            sign(catalog.get(name).expect("a scheme"), &secrets[name], &draft).expect("signed");
        for _ in 0..2 {
            let said = app
                .post(
                    &format!("/hooks/{name}"),
                    &signed.headers,
                    signed.body.clone(),
                )
                .await;
            let found = said
                .headers
                .get("content-type")
                .map_or("", |value| value.to_str().expect("text"));
            assert_eq!(said.status, 200, "{name}: {body}: {said:?}");
            match expected {
                Some(expected) => assert_eq!((found, &*said.text), expected, "{name}: {body}"),
                None => assert_eq!(
                    said.json()["status"].as_str(),
                    said.headers["hookonce-status"].to_str().ok(),
                    "{name}: {body}"
                ),
            }
        }
    }
    app.stop().await;
}
