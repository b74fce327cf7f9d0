//! Ids in their providers' forms, times of now.

use serde_json::Value;

use super::*;

/// Whether a text is a prefix and then this many characters of a class.
fn has_form(text: &str, form: (&str, &str, usize)) -> bool {
    let (start, class, count) = form;
    let fits = |letter: char| match class {
        "digits" => letter.is_ascii_digit(),
        "hex" => letter.is_ascii_digit() || ('a'..='f').contains(&letter),
        "upper" => letter.is_ascii_digit() || letter.is_ascii_uppercase(),
        "lower" => letter.is_ascii_digit() || letter.is_ascii_lowercase(),
        "alnum" => letter.is_ascii_alphanumeric(),
        "uuid" => letter == '-' || letter.is_ascii_digit() || ('a'..='f').contains(&letter),
        _ => panic!("{class}"),
    };
    let dashes =
        |rest: &str| class != "uuid" || (rest.as_bytes()[8] == b'-' && rest.as_bytes()[14] == b'4');
    text.strip_prefix(start)
        .is_some_and(|rest| rest.len() == count && rest.chars().all(fits) && dashes(rest))
}

#[test]
fn ids_have_their_providers_forms() {
    for (provider, name, pointer, form) in [
        ("stripe", "invoice.paid", "/id", ("evt_1", "alnum", 23)),
        (
            "stripe",
            "invoice.paid",
            "/data/object/id",
            ("in_1", "alnum", 23),
        ),
        (
            "stripe",
            "charge.refunded",
            "/data/object/payment_intent",
            ("pi_3", "alnum", 23),
        ),
        ("github", "push", "/after", ("", "hex", 40)),
        ("slack", "message", "/event_id", ("Ev", "upper", 9)),
        ("slack", "message", "/team_id", ("T08", "upper", 8)),
        ("shopify", "orders/paid", "/id", ("", "digits", 13)),
        (
            "twilio",
            "message.received",
            "/MessageSid",
            ("SM", "hex", 32),
        ),
        (
            "twilio",
            "message.received",
            "/AccountSid",
            ("AC", "hex", 32),
        ),
        ("twilio", "call.completed", "/CallSid", ("CA", "hex", 32)),
        ("telegram", "message", "/update_id", ("", "digits", 9)),
        ("linear", "Issue.create", "/data/id", ("", "uuid", 36)),
        (
            "hubspot-v3",
            "deal.creation",
            "/0/eventId",
            ("", "digits", 10),
        ),
        ("intercom", "contact.created", "/id", ("notif_", "uuid", 36)),
        ("postmark", "Delivery", "/MessageID", ("", "uuid", 36)),
        ("square", "payment.updated", "/event_id", ("", "uuid", 36)),
        (
            "paddle-billing",
            "transaction.completed",
            "/event_id",
            ("evt_", "lower", 26),
        ),
        (
            "paddle-billing",
            "transaction.completed",
            "/data/id",
            ("txn_", "lower", 26),
        ),
        ("typeform", "form_response", "/event_id", ("", "upper", 26)),
        ("notion", "page.created", "/id", ("", "uuid", 36)),
        ("clerk", "user.created", "/data/id", ("user_", "alnum", 27)),
        (
            "razorpay",
            "order.paid",
            "/payload/order/entity/id",
            ("order_", "alnum", 14),
        ),
        (
            "vercel",
            "deployment.error",
            "/payload/deployment/id",
            ("dpl_", "alnum", 28),
        ),
        (
            "adyen",
            "CAPTURE",
            "/notificationItems/0/NotificationRequestItem/pspReference",
            ("", "upper", 16),
        ),
    ] {
        let body = read(&made(provider, name));
        let value = body
            .pointer(pointer)
            .unwrap_or_else(|| panic!("{provider} {pointer}"));
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        assert!(has_form(&text, form), "{provider} {pointer}: {text}");
    }
    for (provider, form) in [
        ("github", ("", "uuid", 36)),
        ("gitlab", ("", "uuid", 36)),
        ("twilio", ("", "uuid", 36)),
        ("clerk", ("msg_", "alnum", 27)),
        ("jira", ("", "hex", 64)),
        ("pagerduty", ("01", "upper", 24)),
    ] {
        let first = Samples::of(provider).unwrap().all()[0].name();
        assert!(has_form(&made(provider, first).id, form), "{provider}");
    }
    assert!(read(&made("telegram", "message"))["update_id"].is_u64());
}

/// Calls back with the name and the text of each value in a document.
fn each(name: &str, value: &Value, seen: &mut impl FnMut(&str, &str)) {
    match value {
        Value::Object(members) => members
            .iter()
            .for_each(|(name, value)| each(name, value, seen)),
        Value::Array(elements) => elements.iter().for_each(|value| each(name, value, seen)),
        Value::String(text) => seen(name, text),
        other => seen(name, &other.to_string()),
    }
}

#[test]
fn times_are_of_now() {
    let two_years = 2 * 366 * 86_400;
    for provider in Samples::providers() {
        for sample in Samples::of(provider).unwrap().all() {
            let made = story(provider, 3).event(sample, None, NOW_MS).unwrap();
            let mut times = 0;
            each("", &read(&made), &mut |name, text| {
                let at = format!("{provider} {}: {name} is {text}", sample.name());
                let is_date = text.len() >= 10
                    && text
                        .bytes()
                        .take(10)
                        .enumerate()
                        .all(|(index, byte)| match index {
                            4 | 7 => byte == b'-',
                            _ => byte.is_ascii_digit(),
                        });
                // Names of an API's versions look like dates.
                if is_date && !name.to_lowercase().contains("version") && !text.ends_with("acacia")
                {
                    times += 1;
                    assert!(["2031", "2032", "2033"].contains(&&text[..4]), "{at}");
                }
                let named = [
                    "created",
                    "created_at",
                    "timestamp",
                    "event_ts",
                    "occurredAt",
                    "createdAt",
                    "date",
                ];
                if named.contains(&name)
                    && let Ok(number) = text.parse::<f64>()
                {
                    times += 1;
                    let seconds = if number > 1e11 {
                        number / 1000.0
                    } else {
                        number
                    };
                    let apart = (seconds - (NOW_MS / 1000) as f64).abs();
                    assert!(apart < f64::from(two_years), "{at}");
                }
            });
            let without = [
                "url_verification",
                "endpoint.url_validation",
                "star.created",
            ];
            let bare = [
                "twilio", "adyen", "meta", "github", "slack", "clerk", "docusign",
            ];
            if !without.contains(&sample.name()) && !bare.contains(&provider) {
                let named = ["customers/redact", "Tag Push Hook", "installation.created"];
                assert!(
                    times > 0 || named.contains(&sample.name()),
                    "{provider} {}",
                    sample.name()
                );
            }
        }
    }
}
