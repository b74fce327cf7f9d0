//! The traps of single providers, each on its own: what is nearly right, and what looks wrong and
//! is right.

use std::io::Write as _;

use base64::Engine as _;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use super::*;

fn built_in(provider: &str, secrets: &[&str]) -> Verifier {
    verifier(&source(provider), secrets)
}

fn sha256(secret: &[u8], parts: &[&str]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    parts.iter().fold(mac, |mac, part| mac.chain_update(part)).finalize().into_bytes().to_vec()
}

fn sha1(secret: &[u8], parts: &[&str]) -> Vec<u8> {
    let mac = Hmac::<Sha1>::new_from_slice(secret).unwrap();
    parts.iter().fold(mac, |mac, part| mac.chain_update(part)).finalize().into_bytes().to_vec()
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn form_bodies_are_signed_raw() {
    let body = "action=scheduled&id=7&note=a%20b+c";
    let acuity = built_in("acuity", &["key"]);
    let sent = Sent::new(&[("x-acuity-signature", &base64(&sha256(b"key", &[body])))], body);
    assert_eq!(sent.verify(&acuity, NOW).unwrap().event_type(), Some("scheduled"));
    assert_eq!(sent.body("id=7&action=scheduled&note=a%20b+c").reason(&acuity), "no_match");

    let github = built_in("github", &["s"]);
    let body = "payload=%7B%22action%22%3A%22opened%22%7D";
    let signature = format!("sha256={}", hex::encode(sha256(b"s", &[body])));
    assert_eq!(Sent::new(&[("x-hub-signature-256", &signature)], body).reason(&github), "accepted");
}

#[test]
fn gitea_signs_the_payload_within_the_form() {
    let gitea = built_in("gitea", &["s"]);
    let json = r#"{"ref":"refs/heads/main&payload=x"}"#;
    let signature = hex::encode(sha256(b"s", &[json]));
    let form: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("payload", json).finish();
    for body in [json, &form] {
        let sent = Sent::new(&[("x-gitea-signature", &signature), ("x-gitea-event", "push"), ("x-gitea-delivery", "d")], body);
        assert_eq!(sent.verify(&gitea, NOW).unwrap().event_type(), Some("push"), "{body}");
        assert_eq!(sent.clone().body("payload=%7B%7D").reason(&gitea), "no_match");
        assert_eq!(sent.set("x-gitea-signature", |_| String::new()).reason(&gitea), "missing_signature", "made without a secret");
    }
}

#[test]
fn a_secret_is_text_or_base64_as_its_provider_has_it() {
    let body = r#"{"id":"1"}"#;
    let text = "whsec_AAECAwQFBgcICQoL";
    let (as_text, decoded) = (text.as_bytes().to_vec(), (0..12).collect::<Vec<u8>>());
    let time = NOW.to_string();
    for (provider, right, wrong) in [("stripe", &as_text, &decoded), ("resend", &decoded, &as_text), ("polar", &as_text, &decoded)] {
        let verifier = built_in(provider, &[text]);
        let sent = |key: &[u8]| {
            if provider == "stripe" {
                let digest = hex::encode(sha256(key, &[&time, ".", body]));
                return Sent::new(&[("stripe-signature", &format!("t={time},v1={digest}"))], body);
            }
            let names = if provider == "resend" {
                ["svix-id", "svix-timestamp", "svix-signature"]
            } else {
                ["webhook-id", "webhook-timestamp", "webhook-signature"]
            };
            let signature = format!("v1,{}", base64(&sha256(key, &["m1", ".", &time, ".", body])));
            Sent::new(&[(names[0], "m1"), (names[1], &time), (names[2], &signature)], body)
        };
        assert_eq!(sent(right).reason(&verifier), "accepted", "{provider}");
        assert_eq!(sent(wrong).reason(&verifier), "no_match", "{provider}");
    }
    let supabase = built_in("supabase-auth-hook", &["v1,whsec_AAECAwQFBgcICQoL"]);
    let signature = format!("v1,{}", base64(&sha256(&decoded, &["m1", ".", &time, ".", body])));
    let sent = Sent::new(&[("webhook-id", "m1"), ("webhook-timestamp", &time), ("webhook-signature", &signature)], body);
    assert_eq!(sent.reason(&supabase), "accepted");
    for (provider, secret, key) in
        [("adyen-platform", "00ff10", &[0, 255, 16][..]), ("xero", "AAEC", b"AAEC"), ("msteams-outgoing", "AAEC", &[0, 1, 2])]
    {
        let header = match provider {
            "adyen-platform" => "hmacsignature",
            "xero" => "x-xero-signature",
            _ => "authorization",
        };
        let prefix = if provider == "msteams-outgoing" { "HMAC " } else { "" };
        let sent = Sent::new(&[(header, &format!("{prefix}{}", base64(&sha256(key, &[body]))))], body);
        assert_eq!(sent.reason(&built_in(provider, &[secret])), "accepted", "{provider}");
    }
}

#[test]
fn padding_survives_a_pair_that_is_split_at_the_equals_sign() {
    let body = r#"{"event_id":"e1","event_type":"form_response"}"#;
    let digest = base64(&sha256(b"s", &[body]));
    assert!(digest.ends_with('='));
    let typeform = built_in("typeform", &["s"]);
    let sent = |signature: &str| Sent::new(&[("typeform-signature", signature)], body);
    assert_eq!(sent(&format!("sha256={digest}")).verify(&typeform, NOW).unwrap().event_key().unwrap_or_default(), "e1");
    assert_eq!(sent(&digest).reason(&typeform), "malformed_signature");
    let sanity = built_in("sanity", &["s"]);
    let time = (NOW * 1000).to_string();
    let digest = base64::engine::general_purpose::URL_SAFE.encode(sha256(b"s", &[&time, ".", body]));
    for digest in [digest.as_str(), digest.trim_end_matches('=')] {
        let sent = Sent::new(&[("sanity-webhook-signature", &format!("t={time},v1={digest}"))], body);
        assert_eq!(sent.reason(&sanity), "accepted", "{digest}");
    }
}

#[test]
fn milliseconds_are_not_seconds() {
    let body = "{}";
    for (provider, unit) in [("webflow", 1000), ("zoom", 1)] {
        let verifier = built_in(provider, &["s"]);
        let sent = |time: String| match provider {
            "webflow" => {
                let digest = hex::encode(sha256(b"s", &[&time, ":", body]));
                Sent::new(&[("x-webflow-timestamp", &time), ("x-webflow-signature", &digest)], body)
            }
            _ => {
                let digest = format!("v0={}", hex::encode(sha256(b"s", &["v0:", &time, ":", body])));
                Sent::new(&[("x-zm-request-timestamp", &time), ("x-zm-signature", &digest)], body)
            }
        };
        assert_eq!(sent((NOW * unit).to_string()).reason(&verifier), "accepted", "{provider}");
        let other = if unit == 1 { NOW * 1000 } else { NOW };
        let expected = if unit == 1 { "timestamp_in_future" } else { "timestamp_too_old" };
        assert_eq!(sent(other.to_string()).reason(&verifier), expected, "{provider}");
    }
}

#[test]
fn each_of_several_signatures_counts() {
    let body = r#"{"event_id":"e1"}"#;
    let time = NOW.to_string();
    let (zeros, digest) = ("0".repeat(64), hex::encode(sha256(b"s", &[&time, ":", body])));
    let paddle = built_in("paddle-billing", &["s"]);
    for header in
        [format!("ts={time};h1={digest};h1={zeros}"), format!("ts={time};h1={zeros};h1={digest}"), format!("ts={time};h1={digest}")]
    {
        assert_eq!(Sent::new(&[("paddle-signature", &header)], body).reason(&paddle), "accepted", "{header}");
    }
    let late = Sent::new(&[("paddle-signature", &format!("ts={time};h1={digest}"))], body);
    assert_eq!(late.verify(&paddle, NOW + 6).err(), Some("timestamp_too_old"));

    let pagerduty = built_in("pagerduty", &["s"]);
    let digest = hex::encode(sha256(b"s", &[body]));
    assert_eq!(Sent::new(&[("x-pagerduty-signature", &format!("v1={zeros},v1={digest}"))], body).reason(&pagerduty), "accepted");
    let circleci = built_in("circleci", &["s"]);
    for (header, reason) in [(format!("v1={digest},v2={zeros}"), "accepted"), (format!("v2={digest}"), "malformed_signature")] {
        assert_eq!(Sent::new(&[("circleci-signature", &header)], body).reason(&circleci), reason, "{header}");
    }

    let mollie = built_in("mollie", &["old", "s"]);
    let right = format!("sha256={digest}");
    let sent = Sent::new(&[("x-mollie-signature", &zeros), ("x-mollie-signature", &right)], body);
    assert_eq!(sent.reason(&mollie), "accepted");
    assert_eq!(Sent::new(&[("x-mollie-signature", &format!("{zeros}, {right}"))], body).reason(&mollie), "accepted");
    assert_eq!(sent.body("{}").reason(&mollie), "no_match");
}

#[test]
fn thousands_of_signatures_are_refused_before_the_body_is_hashed() {
    let persona = built_in("persona", &["s"]);
    let group = format!("t={NOW},v1={}", hex::encode(sha256(b"s", &[&NOW.to_string(), ".", "{}"])));
    let sent = |times: usize| Sent::new(&[("persona-signature", vec![group.as_str(); times].join(" ").as_str())], "{}");
    assert_eq!((sent(8).reason(&persona), sent(10_000).reason(&persona)), ("accepted", "malformed_signature"));

    let contentful = built_in("contentful", &["s"]);
    let listed = |names: usize| {
        let names: Vec<String> = (0..names).map(|index| format!("x-{index}")).collect();
        let (list, time) = (format!("x-contentful-signed-headers,{}", names.join(",")), (NOW * 1000).to_string());
        let signed = format!("POST\n/\nx-contentful-signed-headers:{list}\n{{}}");
        let signature = hex::encode(sha256(b"s", &[&signed]));
        let headers = [("x-contentful-signed-headers", &*list), ("x-contentful-timestamp", &time), ("x-contentful-signature", &signature)];
        Sent::new(&headers, "{}").url("https://hooks.example.com/").reason(&contentful)
    };
    assert_eq!((listed(60), listed(10_000)), ("accepted", "missing_signature"));
}

#[test]
fn groups_have_a_time_each() {
    let body = r#"{"data":{"id":"e1"}}"#;
    let group = |at: i64, secret: &str| format!("t={at},v1={}", hex::encode(sha256(secret.as_bytes(), &[&at.to_string(), ".", body])));
    let persona = |header: String| Sent::new(&[("persona-signature", &header)], body);
    let (old, new) = (group(NOW, "old"), group(NOW + 7, "new"));
    for secret in ["old", "new"] {
        let verifier = built_in("persona", &[secret]);
        assert_eq!(persona(format!("{old} {new}")).reason(&verifier), "accepted", "{secret}");
        assert_eq!(persona(format!("{new} {old}")).reason(&verifier), "accepted", "{secret}");
        assert_eq!(persona(format!("{old} {new}")).body("{}").reason(&verifier), "no_match");
        let (old_digest, new_time) = (old.split_once(',').unwrap().1, new.split_once(',').unwrap().0);
        assert_eq!(persona(format!("{new_time},{old_digest}")).reason(&verifier), "no_match", "no group borrows another's time");
        assert_eq!(persona(format!("{old} ").repeat(9)).reason(&built_in("persona", &["x"])), "malformed_signature");
        assert_eq!(persona(" ".into()).reason(&verifier), "malformed_signature");
    }
}

#[test]
fn headers_of_one_name_carry_another_hash_elsewhere() {
    let body = r#"{"id":"notif_1","topic":"user.created"}"#;
    let by_256 = format!("sha256={}", hex::encode(sha256(b"s", &[body])));
    let by_1 = format!("sha1={}", hex::encode(sha1(b"s", &[body])));
    for (provider, right, wrong) in [("bitbucket", &by_256, &by_1), ("intercom", &by_1, &by_256), ("jira", &by_256, &by_1)] {
        let verifier = built_in(provider, &["s"]);
        assert_eq!(Sent::new(&[("x-hub-signature", right)], body).reason(&verifier), "accepted", "{provider}");
        assert_eq!(Sent::new(&[("x-hub-signature", wrong)], body).reason(&verifier), "malformed_signature", "{provider}");
        let relabelled = wrong.replace("sha256=", "sha1=").replace("sha1=", if right.starts_with("sha1") { "sha1=" } else { "sha256=" });
        assert_eq!(Sent::new(&[("x-hub-signature", &relabelled)], body).reason(&verifier), "no_match", "{provider}");
    }
    let vercel = built_in("vercel", &["s"]);
    assert_eq!(Sent::new(&[("x-vercel-signature", &hex::encode(sha1(b"s", &[body])))], body).reason(&vercel), "accepted");
    assert_eq!(Sent::new(&[("x-vercel-signature", &hex::encode(sha256(b"s", &[body])))], body).reason(&vercel), "no_match");
}

#[test]
fn digests_in_upper_case_and_bodies_with_line_ends_are_right_as_they_are() {
    let body = "{\"notificationId\":\"n1\"}\r\n";
    let digest = {
        let mac = Hmac::<Sha512>::new_from_slice(b"ABCDEF").unwrap().chain_update(body);
        hex::encode_upper(mac.finalize().into_bytes())
    };
    let authorize = built_in("authorize-net", &["ABCDEF"]);
    let sent = Sent::new(&[("x-anet-signature", &format!("sha512={digest}"))], body);
    assert_eq!(sent.verify(&authorize, NOW).unwrap().event_key().unwrap_or_default(), "n1");
    assert_eq!(sent.body(body.trim_end()).reason(&authorize), "no_match");
}

#[test]
fn what_is_packed_is_signed_packed_or_unpacked() {
    let body = r#"{"id":"e1","type":"message.new"}"#;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body.as_bytes()).unwrap();
    let packed = Bytes::from(encoder.finish().unwrap());
    let over = |bytes: &[u8]| hex::encode(Hmac::<Sha256>::new_from_slice(b"s").unwrap().chain_update(bytes).finalize().into_bytes());
    for (provider, header, right, wrong) in [
        ("stream", "x-signature", over(body.as_bytes()), over(&packed)),
        ("nylas", "x-nylas-signature", over(&packed), over(body.as_bytes())),
    ] {
        let verifier = built_in(provider, &["s"]);
        let sent = |signature: &str| Sent { body: packed.clone(), ..Sent::new(&[(header, signature)], "") };
        let verified = sent(&right).verify(&verifier, NOW).unwrap();
        assert_eq!((verified.event_type(), verified.body()), (Some("message.new"), &packed), "{provider}");
        assert_eq!(verified.digest(), &crate::digest::BodyDigest::of(body.as_bytes()), "{provider}: repacked it is the same event");
        assert_eq!(sent(&wrong).reason(&verifier), "no_match", "{provider}");
        assert_eq!(Sent::new(&[(header, &over(body.as_bytes()))], body).reason(&verifier), "accepted", "{provider}: not packed");
        assert_eq!(Sent { body: packed.slice(..15), ..sent(&right) }.reason(&verifier), "malformed_request", "{provider}");
    }
}

#[test]
fn urls_are_signed_as_registered() {
    let body = r#"{"event_id":"e1"}"#;
    let square = built_in("square", &["s"]);
    let sent = Sent::new(&[("x-square-hmacsha256-signature", &base64(&sha256(b"s", &[URL, body])))], body);
    assert_eq!(sent.clone().url(URL).verify(&square, NOW).unwrap().event_key().unwrap_or_default(), "e1");
    assert_eq!(sent.clone().url(&format!("{URL}/")).reason(&square), "no_match");
    assert_eq!(sent.reason(&square), "unsupported");
    let trello = built_in("trello", &["s"]);
    let sent = Sent::new(&[("x-trello-webhook", &base64(&sha1(b"s", &[body, URL])))], body).url(URL);
    assert_eq!(sent.reason(&trello), "accepted");

    let hubspot = built_in("hubspot-v3", &["s"]);
    let time = (NOW * 1000).to_string();
    let decoded = format!("{URL}?to=a@b.c&q=%20x/y%22");
    let signature = base64(&sha256(b"s", &["POST", &decoded, body, &time]));
    let sent = Sent::new(&[("x-hubspot-signature-v3", &signature), ("x-hubspot-request-timestamp", &time)], body);
    let escaped = format!("{URL}?to=a%40b.c&q=%20x%2fy%22");
    assert_eq!(sent.clone().url(&escaped).reason(&hubspot), "accepted");
    assert_eq!(sent.clone().url(&format!("{URL}?to=a%40b.c&q=%20x%2fz%22")).reason(&hubspot), "no_match");
    let as_sent = base64(&sha256(b"s", &["POST", &escaped, body, &time]));
    assert_eq!(sent.set("x-hubspot-signature-v3", |_| as_sent.clone()).url(&escaped).reason(&hubspot), "accepted");
}

#[test]
fn plain_hashes_have_the_secret_where_their_provider_puts_it() {
    let body = r#"[{"eventId":1}]"#;
    let hash = |parts: &[&str]| hex::encode(Sha256::digest(parts.concat()));
    let v1 = built_in("hubspot-v1", &["s"]);
    let verified = Sent::new(&[("x-hubspot-signature", &hash(&["s", body]))], body).verify(&v1, NOW).unwrap();
    assert_eq!(verified.event_key(), None, "eventId alone is no key");
    assert_eq!(Sent::new(&[("x-hubspot-signature", &hash(&[body, "s"]))], body).reason(&v1), "no_match");
    let v2 = built_in("hubspot-v2", &["s"]);
    assert_eq!(Sent::new(&[("x-hubspot-signature", &hash(&["s", "POST", URL, body]))], body).url(URL).reason(&v2), "accepted");
    let cloudinary = built_in("cloudinary", &["old", "s"]);
    let content = [body, &NOW.to_string(), "s"].concat();
    for (digest, reason) in [
        (hex::encode(Sha1::digest(&content)), "accepted"),
        (hex::encode(Sha256::digest(&content)), "accepted"),
        (hex::encode(Sha512::digest(&content)), "no_match"),
    ] {
        let sent = Sent::new(&[("x-cld-signature", &digest), ("x-cld-timestamp", &NOW.to_string())], body);
        assert_eq!(sent.reason(&cloudinary), reason, "{digest}");
    }
}

#[test]
fn numbered_and_twin_headers_each_count() {
    let body = "{}";
    let right = base64(&sha256(b"two", &[body]));
    let wrong = base64(&[0; 32]);
    let docusign = built_in("docusign", &["one", "two"]);
    let sent = Sent::new(&[("x-docusign-signature-1", &wrong), ("x-docusign-signature-2", &right)], body);
    assert_eq!(sent.reason(&docusign), "accepted");
    assert_eq!(sent.without("x-docusign-signature-2").reason(&docusign), "no_match");
    let many: Vec<(String, &str)> = (0..10_000).map(|index| (format!("x-docusign-signature-{index}"), wrong.as_str())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(Sent::new(&many, body).reason(&docusign), "malformed_signature");

    let time = "2027-01-15T08:00:00Z";
    let right = base64(&sha256(b"two", &[body, time]));
    let boxed = built_in("box", &["one", "two"]);
    for names in [["box-signature-primary", "box-signature-secondary"], ["box-signature-secondary", "box-signature-primary"]] {
        let sent = Sent::new(&[(names[0], &right), (names[1], &wrong), ("box-delivery-timestamp", time)], body);
        assert_eq!(sent.reason(&boxed), "accepted", "{names:?}");
    }
}

#[test]
fn a_body_may_be_signed_with_what_is_not_ascii_escaped() {
    let boxed = built_in("box", &["key"]);
    let (time, body) = ("2027-01-15T08:00:00Z", r#"{"id":"7","name":"Zoë 😀"}"#);
    let sent = |signed: &str| {
        let signature = base64(&sha256(b"key", &[signed, time]));
        Sent::new(&[("box-signature-primary", &signature), ("box-delivery-timestamp", time)], body)
    };
    assert_eq!(sent(body).reason(&boxed), "accepted");
    assert_eq!(sent(r#"{"id":"7","name":"Zo\u00eb \ud83d\ude00"}"#).reason(&boxed), "accepted");
    assert_eq!(sent(r#"{"id":"7","name":"Zoe 😀"}"#).reason(&boxed), "no_match");
    let other = sent(r#"{"id":"7","name":"Zo\u00eb \ud83d\ude00"}"#).body(r#"{"id":"8","name":"Zoë 😀"}"#);
    assert_eq!(other.reason(&boxed), "no_match");
}

#[test]
fn keccak_is_the_one_from_before_sha_3() {
    let moralis = built_in("moralis", &["secret"]);
    // Of another implementation.
    let right = "0xdbfe4067a06b2e91e86f52679d6bcd2f9b52b143853b2c1b2565ba0520bc2c10";
    let sent = |signature: &str| Sent::new(&[("x-signature", signature)], r#"{"id":"1"}"#);
    assert_eq!(sent(right).reason(&moralis), "accepted");
    let sha3 = format!("0x{}", hex::encode(sha3::Sha3_256::digest(r#"{"id":"1"}secret"#)));
    assert_eq!(sent(&sha3).reason(&moralis), "no_match");
    assert_eq!(sent(&right[2..]).reason(&moralis), "malformed_signature");
}

#[test]
fn ways_to_authenticate_have_no_case() {
    for (provider, secret, header) in [
        ("chargebee", "user:password", "basic dXNlcjpwYXNzd29yZA=="),
        ("postmark", "user:password", "BASIC dXNlcjpwYXNzd29yZA=="),
        ("token", "t", "bearer t"),
    ] {
        let verifier = built_in(provider, &[secret]);
        let sent = Sent::new(&[("authorization", header)], r#"{"id":"1"}"#);
        assert_eq!(sent.reason(&verifier), "accepted", "{provider}");
    }
    let github = built_in("github", &["s"]);
    let signature = format!("SHA256={}", hex::encode(sha256(b"s", &["{}"])));
    assert_eq!(Sent::new(&[("x-hub-signature-256", &signature)], "{}").reason(&github), "malformed_signature");
}

#[test]
fn tokens_stand_in_headers_urls_and_bodies() {
    let basic = format!("Basic {}", base64(b"user:pass"));
    for (provider, secret, headers, url, body, reason) in [
        ("chargebee", "user:pass", &[("authorization", basic.as_str())][..], URL, "{}", "accepted"),
        ("chargebee", "user:word", &[("authorization", basic.as_str())], URL, "{}", "no_match"),
        ("chargebee", "user:pass", &[("authorization", "user:pass")], URL, "{}", "malformed_signature"),
        ("postmark", "user:pass", &[("authorization", basic.as_str())], URL, "{}", "accepted"),
        ("okta", "my key", &[("authorization", "my key")], URL, "{}", "accepted"),
        ("okta", "Bearer k", &[("authorization", "Bearer k")], URL, "{}", "accepted"),
        ("okta", "k", &[("authorization", "bearer k")], URL, "{}", "accepted"),
        ("okta", "k", &[("authorization", "Basic k!")], URL, "{}", "malformed_signature"),
        ("figma", "pass", &[], URL, r#"{"passcode":"pass","event_type":"PING"}"#, "accepted"),
        ("figma", "pass", &[], URL, r#"{"passcode":"other"}"#, "no_match"),
        ("figma", "pass", &[], URL, r#"{"a":{"passcode":"pass"}}"#, "missing_signature"),
        ("ms-graph", "t", &[], URL, r#"{"value":[{"clientState":"t"},{"clientState":"t"}]}"#, "accepted"),
        ("ms-graph", "t", &[], URL, r#"{"value":[{"clientState":"t"},{"clientState":"u"}]}"#, "no_match"),
        ("ms-graph", "t", &[], URL, r#"{"value":[]}"#, "missing_signature"),
        ("shippo", "t", &[], "https://x.example/?token=t", "{}", "accepted"),
        ("shippo", "t", &[], "https://x.example/?a=b&key=t", "{}", "accepted"),
        ("shippo", "t", &[], "https://x.example/?token=u#?token=t", "{}", "no_match"),
        ("telegram", "t", &[("x-telegram-bot-api-secret-token", "t")], URL, r#"{"update_id":1,"message":{}}"#, "accepted"),
    ] {
        let sent = Sent::new(headers, body).url(url);
        assert_eq!(sent.reason(&built_in(provider, &[secret])), reason, "{provider} {headers:?} {url} {body}");
    }
}

#[test]
fn a_batch_of_segment_is_signed_by_its_first_event() {
    let segment = built_in("segment", &["s"]);
    let first = r#"{"messageId":"m1","type":"track"}"#;
    let signature = hex::encode(sha1(b"s", &[first]));
    let sent = |body: &str| Sent::new(&[("x-signature", &signature)], body);
    let verified = sent(&format!("[{first},{{\"messageId\":\"m2\"}}]")).verify(&segment, NOW).unwrap();
    assert_eq!(
        (verified.event_key().unwrap_or_default(), verified.event_type(), verified.key_is_signed()),
        ("m1.m1,m2", Some("track"), false)
    );
    assert_eq!(sent(first).reason(&segment), "accepted");
    assert_eq!(sent(&format!("[{{}},{first}]")).reason(&segment), "no_match");
}

#[test]
fn grafana_signs_the_time_where_it_is_sent() {
    let grafana = built_in("grafana", &["s"]);
    let (body, time) = ("{}", NOW.to_string());
    let sent = |digest: Vec<u8>| Sent::new(&[("x-grafana-alerting-signature", &hex::encode(digest))], body);
    assert_eq!(sent(sha256(b"s", &[body])).reason(&grafana), "accepted");
    let timed = sent(sha256(b"s", &[&time, ":", body])).plus("x-grafana-alerting-timestamp", &time);
    assert_eq!(timed.reason(&grafana), "accepted");
    assert_eq!(timed.without("x-grafana-alerting-timestamp").reason(&grafana), "no_match");
}

#[test]
fn secrets_are_decomposed_and_names_of_members_are_types() {
    let body = r#"{"id":"evt_1","description":"tracker.updated"}"#;
    let easypost = built_in("easypost", &["sécrèt"]);
    let digest = hex::encode(sha256("se\u{301}cre\u{300}t".as_bytes(), &[body]));
    assert_eq!(Sent::new(&[("x-hmac-signature", &format!("hmac-sha256-hex={digest}"))], body).reason(&easypost), "accepted");
    let x = built_in("x-twitter", &["s"]);
    let body = r#"{"for_user_id":"1","favorite_events":[]}"#;
    let signature = format!("sha256={}", base64(&sha256(b"s", &[body])));
    let verified = Sent::new(&[("x-twitter-webhooks-signature", &signature)], body).verify(&x, NOW).unwrap();
    assert_eq!(verified.event_type(), Some("favorite_events"));
    let telegram = built_in("telegram", &["t"]);
    let body = r#"{"update_id":10000,"edited_message":{"text":"x"}}"#;
    let verified = Sent::new(&[("x-telegram-bot-api-secret-token", "t")], body).verify(&telegram, NOW).unwrap();
    assert_eq!((verified.event_key().unwrap_or_default(), verified.event_type()), ("10000", Some("edited_message")));
}

#[test]
fn what_two_sources_tell_differently_is_taken_either_way() {
    let (body, time) = (r#"{"data":[]}"#, NOW.to_string());
    let klaviyo = built_in("klaviyo", &["a secret of sixteen"]);
    let digest = sha256(b"a secret of sixteen", &[body, &time]);
    for (signature, reason) in [(hex::encode(&digest), "accepted"), (base64(&digest), "accepted"), (hex::encode(&digest[..16]), "no_match")]
    {
        let sent = Sent::new(&[("klaviyo-signature", &signature), ("klaviyo-timestamp", &time)], body);
        assert_eq!(sent.reason(&klaviyo), reason, "{signature}");
    }
    let mailgun = built_in("mailgun", &["s"]);
    let signature = hex::encode(sha256(b"s", &[&time, "token1"]));
    let json = format!(r#"{{"signature":{{"timestamp":"{time}","token":"token1","signature":"{signature}"}},"event-data":{{"id":"m1"}}}}"#);
    assert_eq!(Sent::new(&[], &json).verify(&mailgun, NOW).unwrap().event_key().unwrap_or_default(), "m1");
    assert_eq!(Sent::new(&[], &json).verify(&mailgun, NOW + 901).err(), Some("timestamp_too_old"));
    let form = format!("event=opened&timestamp={time}&token=token1&signature={signature}");
    assert_eq!(Sent::new(&[], &form).reason(&mailgun), "accepted");
    assert_eq!(Sent::new(&[], &form.replace("token1", "token2")).reason(&mailgun), "no_match");
    let fourthwall = built_in("fourthwall", &["s"]);
    for header in ["x-fourthwall-hmac-sha256", "x-fourthwall-hmac-apps-sha256"] {
        assert_eq!(Sent::new(&[(header, &base64(&sha256(b"s", &[body])))], body).reason(&fourthwall), "accepted", "{header}");
    }
}

#[test]
fn a_digest_of_the_body_is_computed_and_never_believed() {
    let secret = super::generate_secret(catalog().get("integrated-finance").unwrap(), &mut rand::rng()).unwrap();
    let verifier =
        Verifier::new(&catalog(), &source("integrated-finance"), std::slice::from_ref(&secret)).unwrap_or_else(|e| panic!("{e:?}"));
    let sent = Sent::signed(&verifier, &secret, "", NOW, r#"{"a":1}"#);
    assert_eq!(sent.reason(&verifier), "accepted");
    let claimed = base64(&Sha512::digest(r#"{"a":1}"#));
    assert_eq!(sent.plus("x-webhook-content-digest", &claimed).body(r#"{"a":2}"#).reason(&verifier), "no_match");
}

#[test]
fn a_key_id_is_told_when_nothing_matches() {
    let pusher = built_in("pusher", &["s"]);
    let sent = Sent::new(&[("x-pusher-key", "278d425bdf160c739803"), ("x-pusher-signature", &"0".repeat(64))], "{}");
    let headers: Vec<(&str, &[u8])> = sent.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let request = super::Request { method: "POST", url: None, query: None, headers: &headers, body: &sent.body };
    let rejection = pusher.verify(&request, NOW * 1000).unwrap_err();
    assert!(rejection.detail.contains("278d425bdf160c739803"), "{}", rejection.detail);
}
