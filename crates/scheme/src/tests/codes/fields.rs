//! Signatures of fields, and in them.

use super::*;

#[test]
fn twilio_signs_forms_or_the_hash_of_the_body() {
    let twilio = built_in("twilio", &["12345"]);
    // The example of Twilio's own documentation.
    let url = "https://mycompany.com/myapp.php?foo=1&bar=2";
    let body = "CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212";
    let sent = Sent::new(
        &[("x-twilio-signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8=")],
        body,
    )
    .url(url);
    assert_eq!(sent.reason(&twilio), "accepted");
    assert_eq!(
        sent.clone()
            .url(&url.replace(".com", ".com:443"))
            .reason(&twilio),
        "accepted",
        "with the port, too"
    );
    assert_eq!(
        sent.clone()
            .url(&url.replace(".com", ".com:8443"))
            .reason(&twilio),
        "accepted",
        "as Twilio's own libraries do"
    );
    assert_eq!(
        sent.clone().url(&format!("{url}&x=1")).reason(&twilio),
        "no_match"
    );
    assert_eq!(
        sent.clone()
            .body(&body.replace("1234&", "1235&"))
            .reason(&twilio),
        "no_match"
    );
    assert_eq!(
        sent.clone().body(&format!("{body}&More=1")).reason(&twilio),
        "no_match"
    );
    assert_eq!(
        sent.clone().body("{}").reason(&twilio),
        "missing_signature",
        "a JSON body that nothing covers"
    );
    let signed = |url: &str, text: &str, body: &str| {
        Sent::new(
            &[("x-twilio-signature", &BASE64.encode(sha1(b"12345", text)))],
            body,
        )
        .url(url)
    };
    let json = r#"{"a":1}"#;
    let hashed = format!("{URL}?bodySHA256={}", hex::encode(Sha256::digest(json)));
    assert_eq!(signed(&hashed, &hashed, json).reason(&twilio), "accepted");
    assert_eq!(
        signed(&hashed, &hashed, r#"{"a":2}"#).reason(&twilio),
        "no_match"
    );
    assert_eq!(signed(&hashed, &hashed, "a=1").reason(&twilio), "no_match");
    // A signature of an empty form comes with a hash that the sender did not sign.
    let planted = signed(URL, URL, json);
    assert_eq!(planted.clone().url(&hashed).reason(&twilio), "no_match");
    let headers: Vec<(&str, &[u8])> = planted
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    let query = hashed.split_once('?').map(|(_, query)| query);
    let request = super::Request {
        method: "POST",
        url: Some(URL),
        query,
        headers: &headers,
        body: &planted.body,
    };
    assert!(
        twilio.verify(&request, NOW * 1000).is_err(),
        "the hash must be in the URL that is signed"
    );
}

#[test]
fn mandrill_reads_its_events_out_of_the_form() {
    let mandrill = built_in("mandrill", &["key"]);
    let events = r#"[{"event":"open","_id":"m1","ts":1},{"event":"click","_id":"m2","ts":2}]"#;
    let body: String = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("mandrill_events", events)
        .finish();
    let signature = BASE64.encode(sha1(b"key", &format!("{URL}mandrill_events{events}")));
    let sent = Sent::new(&[("x-mandrill-signature", &signature)], &body).url(URL);
    let verified = sent.verify(&mandrill, NOW).unwrap();
    assert_eq!(
        (
            verified.event_key().unwrap_or_default(),
            verified.event_type()
        ),
        ("m1,m2.open,click.1,2", Some("open,click"))
    );
    assert_eq!(
        sent.body(&body.replace("m1", "m3")).reason(&mandrill),
        "no_match"
    );
}

#[test]
fn adyen_signs_fields_of_the_only_item() {
    // The example of Adyen's own documentation.
    let adyen = built_in(
        "adyen",
        &["44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"],
    );
    let item = |success: &str| {
        json!({ "NotificationRequestItem": {
            "pspReference": "7914073381342284", "merchantAccountCode": "TestMerchant", "merchantReference": "TestPayment-1407325143704",
            "amount": { "value": 1130, "currency": "EUR" }, "eventCode": "AUTHORISATION", "success": success,
            "additionalData": { "hmacSignature": "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0=" } } })
    };
    let reason = |items: Value| {
        Sent::new(
            &[],
            &json!({ "live": "false", "notificationItems": items }).to_string(),
        )
        .reason(&adyen)
    };
    assert_eq!(reason(json!([item("true")])), "accepted");
    assert_eq!(reason(json!([item("false")])), "no_match");
    assert_eq!(
        reason(json!([item("true"), item("true")])),
        "no_match",
        "a second one is not looked at"
    );
}

#[test]
fn braintree_gives_no_signature_of_an_event_away() {
    let braintree = built_in("braintree", &["public|private"]);
    let key = Sha1::digest("private");
    let payload = "PG5vdGlmaWNhdGlvbi8+\n";
    let form = |signature: &str| {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("bt_signature", signature)
            .append_pair("bt_payload", payload)
            .finish()
    };
    let right = hex::encode(sha1(&key, payload));
    assert_eq!(
        Sent::new(
            &[],
            &form(&format!("stranger|{}&public|{right}", "0".repeat(40)))
        )
        .reason(&braintree),
        "accepted"
    );
    assert_eq!(
        Sent::new(&[], &form(&format!("public|{}", "0".repeat(40)))).reason(&braintree),
        "no_match"
    );
    let challenge = Sent::get(&format!(
        "{URL}?bt_challenge=20f9f8ed05f77439fe955c977e4c8a53"
    ));
    let expected = format!(
        "public|{}",
        hex::encode(sha1(&key, "20f9f8ed05f77439fe955c977e4c8a53"))
    );
    assert_eq!(challenge.answer(&braintree), Some(expected));
    assert_eq!(
        challenge
            .url(&format!("{URL}?bt_challenge=PG5vdGlmaWNhdGlvbi8%2B"))
            .reason(&braintree),
        "missing_signature"
    );
    let x = built_in("x-twitter", &["s"]);
    assert_eq!(
        Sent::get(&format!("{URL}?crc_token=%7B%22for_user_id%22:1%7D")).reason(&x),
        "missing_signature",
        "JSON is no challenge"
    );
    let answer: Value = serde_json::from_str(
        &Sent::get(&format!("{URL}?crc_token=word"))
            .answer(&x)
            .unwrap(),
    )
    .unwrap();
    let borrowed = Sent::new(
        &[(
            "x-twitter-webhooks-signature",
            answer["response_token"].as_str().unwrap(),
        )],
        "word",
    );
    assert_eq!(
        borrowed.reason(&x),
        "no_match",
        "a digest that was given away"
    );
}

#[test]
fn dropbox_sign_signs_a_member_of_a_form() {
    let dropbox = built_in("dropbox-sign", &["key"]);
    let hash = hex::encode(hs256(b"key", "1348177752signature_request_sent"));
    let json = json!({ "event": { "event_time": "1348177752", "event_type": "signature_request_sent", "event_hash": hash },
                       "signature_request": { "signature_request_id": "r1" } });
    let body =
        format!("--x\r\nContent-Disposition: form-data; name=\"json\"\r\n\r\n{json}\r\n--x--\r\n");
    let verified = Sent::new(&[], &body).verify(&dropbox, NOW).unwrap();
    assert_eq!(
        verified.event_key().unwrap_or_default(),
        "r1.signature_request_sent.1348177752"
    );
    assert_eq!(
        Sent::new(&[], &body.replace("_sent", "_signed")).reason(&dropbox),
        "no_match"
    );
}
