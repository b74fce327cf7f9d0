//! Amazon SNS, whose messages name the certificate that checks them.

use super::*;

const SNS_1: &str = include_str!("../../../../../tests/keys/sns-version-1.json");

const SNS_CERTIFICATE: &str = "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem";

fn sns(change: impl Fn(&mut Value)) -> Sent {
    let mut message: Value = serde_json::from_str(SNS_1).unwrap();
    message["SignatureVersion"] = "2".into();
    change(&mut message);
    let names: &[&str] = match message["Type"].as_str().unwrap() {
        "Notification" => &[
            "Message",
            "MessageId",
            "Subject",
            "Timestamp",
            "TopicArn",
            "Type",
        ],
        _ => &[
            "Message",
            "MessageId",
            "SubscribeURL",
            "Timestamp",
            "Token",
            "TopicArn",
            "Type",
        ],
    };
    let part = |name: &&str| {
        message[*name]
            .as_str()
            .map(|value| format!("{name}\n{value}\n"))
    };
    let content: String = names.iter().filter_map(part).collect();
    message["Signature"] = BASE64_STANDARD.encode(signed(RSA_1, &content)).into();
    Sent::new(
        &[("content-type", "text/plain; charset=UTF-8")],
        &message.to_string(),
    )
}

#[test]
fn sns_messages_of_both_versions_are_verified_with_the_certificate_that_they_name() {
    let (_catalog, verifier) = fresh("aws-sns", TOPIC);
    let first = Sent::new(&[], SNS_1);
    let need = lacks(&verifier, &first);
    assert_eq!(
        (need.url.as_str(), need.format, need.is_refresh),
        (SNS_CERTIFICATE, KeyFormat::X509, false)
    );
    give(&verifier, &need, CERTIFICATE_1);
    let without_subject = sns(|message| drop(message.as_object_mut().unwrap().remove("Subject")));
    for sent in [first.clone(), sns(|_| {}), without_subject] {
        let verified = sent.check(&verifier, NOW * 1000).unwrap();
        assert_eq!(
            (
                verified.event_key().unwrap_or_default(),
                verified.event_type()
            ),
            ("22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324", Some("Notification"))
        );
    }
    let text = String::from_utf8(first.body.to_vec()).unwrap();
    for (from, to) in [
        ("Hello", "Hullo"),
        ("22b80b92", "22b80b93"),
        ("My First", "My Third"),
        ("00:54:06", "00:54:07"),
    ] {
        assert_eq!(
            reason(
                &first
                    .clone()
                    .body(&text.replace(from, to))
                    .check(&verifier, NOW * 1000)
            ),
            "no_match",
            "{from}"
        );
    }
    assert_eq!(
        reason(&first.check(&verifier, 7_258_118_400_000)),
        "unsupported",
        "a year on, the certificate is fetched anew"
    );
    give(&verifier, &need, CERTIFICATE_1);
    verifier.known_keys().put(
        &need,
        KeySet::read(KeyFormat::X509, CERTIFICATE_1.as_bytes()).unwrap(),
        7_258_118_400_000,
    );
    let expired = first.check(&verifier, 7_258_118_400_000);
    assert_eq!(
        (reason(&expired), expired.err().unwrap().needs.is_none()),
        ("no_match", true),
        "and is then out of date"
    );
}

#[test]
fn another_topics_message_and_another_hosts_certificate_are_refused_before_anything_is_fetched() {
    let (_catalog, verifier) = fresh("aws-sns", "arn:aws:sns:us-west-2:123456789012:Another");
    let refused = Sent::new(&[], SNS_1).check(&verifier, NOW * 1000);
    assert_eq!(
        (reason(&refused), refused.err().unwrap().needs.is_none()),
        ("no_match", true),
        "anybody may have a topic"
    );
    let (_catalog, verifier) = fresh("aws-sns", TOPIC);
    for url in [
        "http://sns.us-west-2.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.us-west-2.amazonaws.com.evil.example/SimpleNotificationService-1.pem",
        "https://evil.example/SimpleNotificationService-1.pem",
        "https://sns.us-west-2.amazonaws.com:8443/SimpleNotificationService-1.pem",
        "https://user@sns.us-west-2.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.a.b.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.us-west-2.amazonaws.com@evil.example/SimpleNotificationService-1.pem",
        "https://sns.us-west-2.amazonaws.com\\@evil.example/SimpleNotificationService-1.pem",
        "https://s3.us-west-2.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns..amazonaws.com/SimpleNotificationService-1.pem",
        // These are buckets, which anybody may own.
        "https://sns.s3.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.s3-us-west-2.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.s3-website-us-west-2.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.s3-accelerate.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.us-west.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.us-2.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.us-west-2a.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.{region}.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.us-west-2.amazonaws.com/?Action=GetEndpoint&x=.pem",
        "https://127.0.0.1/SimpleNotificationService-1.pem",
        "not a url",
    ] {
        let refused =
            sns(|message| message["SigningCertURL"] = url.into()).check(&verifier, NOW * 1000);
        assert_eq!(
            (reason(&refused), refused.err().unwrap().needs.is_none()),
            ("no_match", true),
            "{url}"
        );
    }
    let china = sns(|message| {
        message["SigningCertURL"] =
            "https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-1.pem".into()
    });
    assert!(lacks(&verifier, &china).url.contains("amazonaws.com.cn/"));
    for region in ["us-gov-west-1", "ap-southeast-7", "me-central-1"] {
        let url = format!("https://sns.{region}.amazonaws.com/SimpleNotificationService-1.pem");
        let there = sns(|message| message["SigningCertURL"] = url.clone().into());
        assert_eq!(lacks(&verifier, &there).url, url);
    }
}

#[test]
fn a_subscription_is_confirmed_on_the_providers_hosts_alone() {
    let (_catalog, verifier) = fresh("aws-sns", TOPIC);
    let url = "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&TopicArn=x&Token=t";
    let confirmation = |url: &str| {
        sns(|message| {
            message["Type"] = "SubscriptionConfirmation".into();
            message["Token"] = "t".into();
            message["SubscribeURL"] = url.into();
        })
    };
    give(
        &verifier,
        &lacks(&verifier, &confirmation(url)),
        CERTIFICATE_1,
    );
    let verified = confirmation(url).check(&verifier, NOW * 1000).unwrap();
    assert_eq!(
        (
            verified.visit(),
            verified.challenge().map(|answer| answer.status)
        ),
        (Some(url), Some(200))
    );
    let elsewhere = confirmation("https://evil.example/?Action=ConfirmSubscription")
        .check(&verifier, NOW * 1000);
    assert_eq!(
        reason(&elsewhere),
        "no_match",
        "rightly signed, and still not called"
    );
    let moved = confirmation(url);
    let text = String::from_utf8(moved.body.to_vec())
        .unwrap()
        .replace("Token=t", "Token=u");
    assert_eq!(
        reason(&moved.body(&text).check(&verifier, NOW * 1000)),
        "no_match"
    );
}
