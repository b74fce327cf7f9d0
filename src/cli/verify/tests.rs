//! Requests of every provider, right and spoilt, through `verify`.

use std::collections::BTreeMap;

use serde_json::json;

use rand::{SeedableRng as _, rngs::StdRng};

use super::*;
use hookonce_scheme::{Draft, Scheme, generate_secret, sample_body, sign};

fn catalog() -> Catalog {
    Catalog::new(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn run(lines: &[String]) -> Vec<Value> {
    let mut output = Vec::new();
    verify_jsonl(lines.join("\n").as_bytes(), &mut output, &catalog()).unwrap();
    output
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// What a provider signs, well and badly. The ids say which: `pairs` and `object` are right,
/// `other` has another secret's signature, `bare` has none. `later` is of a scheme for which no
/// secret can be made.
fn lines_of(scheme: &Scheme, rng: &mut StdRng) -> Vec<String> {
    let name = &scheme.name;
    let mut lines = Vec::new();
    let line = |id: &str, secret: &str, headers: Value, url: Option<&str>, body: &[u8]| {
        json!({"id": id, "provider": name, "secrets": ["", secret], "method": "POST", "url": url, "headers": headers,
               "body_base64": BASE64.encode(body), "now": 1000})
        .to_string()
    };
    let Ok(secret) = generate_secret(scheme, rng) else {
        lines.push(line("later", "s", json!({}), None, b"{}"));
        return lines;
    };
    let (secret, other) = (
        secret.expose_secret(),
        generate_secret(scheme, rng).unwrap(),
    );
    let body = sample_body(scheme, "a.b", "evt_1").unwrap();
    let url = Some("https://x.example/");
    let draft = Draft {
        id: "evt_1",
        headers: &[],
        event_type: Some("a.b"),
        unix_seconds: 1000,
        body: &body,
        url,
        method: "POST",
    };
    let signed = sign(scheme, &secret.into(), &draft).unwrap();
    let object: Map<String, Value> = signed
        .headers
        .iter()
        .map(|(name, value)| (name.to_uppercase(), json!(value)))
        .collect();
    let (headers, url, body) = (
        json!(signed.headers),
        signed.url.as_deref(),
        &signed.body[..],
    );
    lines.push(line("pairs", secret, headers.clone(), url, body));
    lines.push(line("object", secret, object.into(), url, body));
    lines.push(line(
        "other",
        other.expose_secret(),
        headers.clone(),
        url,
        body,
    ));
    lines.push(line("bare", secret, json!({}), None, b"{}"));
    lines.push(line("empty", "", headers, url, body));
    lines
}

#[test]
fn what_every_provider_signs_is_accepted_and_the_rest_told_why() {
    let mut rng = StdRng::seed_from_u64(3);
    let lines: Vec<String> = catalog()
        .iter()
        .flat_map(|scheme| lines_of(scheme, &mut rng))
        .collect();
    for (line, verdict) in lines.iter().zip(run(&lines)) {
        let expected = match verdict["id"].as_str().unwrap() {
            "pairs" | "object" => json!(["accept", null]),
            "bare" => json!(["reject", "missing_signature"]),
            // If the body is the signature, "{}" is a signature of the wrong form.
            "later" if verdict["reason"] == "malformed_signature" => {
                json!(["reject", "malformed_signature"])
            }
            "later" => json!(["reject", "missing_signature"]),
            _ => json!(["reject", "no_match"]),
        };
        assert_eq!(
            json!([verdict["verdict"], verdict["reason"]]),
            expected,
            "{line}"
        );
    }
}

#[test]
fn a_line_that_is_none_is_a_verdict_too() {
    let lines = [
        "{",
        r#"{"id":1,"provider":"nobody"}"#,
        r#"{"id":2,"provider":"stripe","body_base64":"!"}"#,
        r#"{"id":3,"headers":7}"#,
        "",
        r#"{"id":[4],"secrets":7}"#,
    ];
    let reasons: Vec<Value> = run(&lines.map(str::to_owned))
        .iter()
        .map(|verdict| json!([verdict["id"], verdict["reason"]]))
        .collect();
    let expected = json!([
        [null, "malformed_request"],
        [1, "unknown_provider"],
        [2, "malformed_request"],
        [3, "malformed_request"],
        [[4], "malformed_request"]
    ]);
    assert_eq!(json!(reasons), expected);
}

#[test]
fn a_handshake_shows_its_answer_and_a_repeated_header_is_refused() {
    let catalog = catalog();
    let body = br#"{"type":"url_verification","challenge":"abc"}"#;
    let draft = Draft {
        id: "",
        headers: &[],
        event_type: None,
        unix_seconds: 1000,
        body,
        url: None,
        method: "POST",
    };
    let mut headers = sign(catalog.get("slack").unwrap(), &"s".into(), &draft)
        .unwrap()
        .headers;
    let line = |headers: &[(String, String)]| {
        json!({"id": 1, "provider": "slack", "secrets": ["s"], "headers": headers, "body_base64": BASE64.encode(body), "now": 1000})
            .to_string()
    };
    let good = line(&headers);
    headers.push(headers.last().unwrap().clone());
    let verdicts = run(&[good, line(&headers)]);
    assert_eq!(
        (&verdicts[0]["verdict"], &verdicts[0]["challenge_answer"]),
        (&json!("accept"), &json!("abc"))
    );
    assert_eq!(
        verdicts[1],
        json!({"id": 1, "verdict": "reject", "reason": "malformed_request", "event_key": null, "dedup": null, "event_type": null})
    );
}
